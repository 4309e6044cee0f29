"""The short way through a fitted preparation gives scikit-learn's own bits, and only where it is the one that meddx fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from meddx.inputs.types import Prepared
from meddx.models import straight
from meddx.models.baselines import baseline_logits, fit_baseline
from meddx.models.features import Features
from meddx.models.linear import plain_table
from meddx.models.options import BaselineOptions

ROWS = 300


def rows(share: float, seed: int = 0, columns: int = 9) -> np.ndarray:
    """float32 with gaps, and with values as far away as a preparation lets them be."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(ROWS, columns)).astype(np.float32)
    values[::40] *= 20
    values[rng.random(values.shape) < share] = np.nan
    return values


def same_bits(one: Any, other: Any) -> bool:
    """Also how they lie in memory, which BLAS rounds by."""
    return one.dtype == other.dtype and one.strides == other.strides and one.tobytes() == other.tobytes()


def fitted(train: np.ndarray, places: dict[int, int] | None = None, raw: tuple[int, ...] = ()) -> Any:
    return plain_table(Features(train, places or {}, raw)).fit(train)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4])
@pytest.mark.parametrize("later", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("unknown", [None, 2])
def test_numbers_alone(share: float, later: float, unknown: int | None) -> None:
    train, unseen = rows(share), rows(later, 1)
    if unknown is not None:
        train[:, unknown] = np.nan  # nothing is known of it in train
    for plain in (fitted(train), fitted(train, raw=tuple(range(9)))):
        before = unseen.copy()
        assert same_bits(straight.transformed(plain, unseen), plain.transform(unseen))
        assert unseen.tobytes() == before.tobytes()


@pytest.mark.parametrize("places, raw", [({8: 5}, ()), ({}, (0, 3)), ({7: 3, 8: 40}, (0,))])
def test_any_other_goes_the_long_way(places: dict[int, int], raw: tuple[int, ...]) -> None:
    train = rows(0.2)
    for place, levels in places.items():
        train[:, place] = np.arange(ROWS) % levels
    plain = fitted(train, places, raw)
    made, own = straight.transformed(plain, train), plain.transform(train)
    made, own = (one if isinstance(one, np.ndarray) else one.toarray() for one in (made, own))
    assert made.dtype == own.dtype and made.tobytes() == own.tobytes()


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 1]])
def test_columns_that_are_not_all_in_their_order_are_not_mistaken(order: list[int]) -> None:
    train = rows(0.1, columns=3)
    steps = Pipeline(
        [("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)), ("centre", StandardScaler())]
    )
    plain = ColumnTransformer([("numbers", steps, order)]).fit(train)
    assert straight.transformed(plain, train).tobytes() == plain.transform(train).tobytes()


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_baseline_answers_as_scikit_learns_own_pipeline(kind: str, share: float) -> None:
    values = rows(share, 3)
    specs = {"t": {"kind": "table", "numbers": 9, "categories": []}}
    arrays = {"numbers": np.nan_to_num(values), "missing": np.isnan(values).astype(np.float32), "codes": np.zeros((ROWS, 0), np.int64)}
    prepared = {"t": Prepared(arrays, np.ones(ROWS, bool))}
    head = {"kind": "binary", "classes": ["no", "yes"]}

    class Known:
        values = (np.nan_to_num(rows(share, 3)[:, 0]) > 0).astype(np.float32)
        known = np.ones(ROWS, bool)

    model = fit_baseline(BaselineOptions(kind=kind, trials=1), specs, prepared, Known, head, seed=0)  # type: ignore[arg-type]
    assert isinstance(model, Pipeline)
    chance = np.asarray(model.predict_proba(values)[:, 1], np.float64)
    edge = 1 / (1 + np.exp(20.0))
    inside = np.clip(chance, edge, 1 - edge)
    expected = np.clip(np.log(inside) - np.log1p(-inside), -20, 20)
    assert baseline_logits(model, head, specs, prepared)[:, 0].tobytes() == expected.tobytes()
    assert np.isnan(values).any() == bool(share) and (not isinstance(model.steps[-1][1], LogisticRegression) or chance.std() > 0)

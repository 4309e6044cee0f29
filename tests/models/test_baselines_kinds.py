"""Every kind of baseline on every kind of target, on all kinds of inputs at once, through the bytes of a bundle."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from meddx.errors import BundleError, RecipeError
from meddx.inputs.types import Prepared
from meddx.models.baselines import LIMIT, baseline_logits, fit_baseline
from meddx.models.heads import make_head
from meddx.models.options import BaselineOptions
from meddx.predict.estimators import dump_estimator, load_estimator

BINARY = {"kind": "binary", "classes": ["no", "yes"]}
MULTI = {"kind": "multiclass", "classes": ["a", "b", "c"]}
LABELS = {"kind": "multilabel", "classes": ["x", "y"]}
ORDINAL = {"kind": "ordinal", "classes": ["0", "1", "2", "3"]}
NUMBER = {"kind": "regression", "classes": [], "mean": 50.0, "std": 10.0}
SPECS: dict[str, dict[str, Any]] = {
    "ecg": {"kind": "signal", "leads": 1, "steps": 64, "rate": 64.0, "summary_names": ["mean", "std"], "optional": True},
    "note": {"kind": "text", "tokens": 12, "words": 40, "optional": True},
    "t": {"kind": "table", "numbers": 1, "categories": [3, 50], "optional": False},
    "labs": {"kind": "events", "steps": 4, "variables": 1, "summary_names": ["k last", "k count"], "optional": True},
}
FITTING = [
    (kind, head)
    for kind in ("prevalence", "logistic", "linear", "forest", "boosting")
    for head in (BINARY, MULTI, LABELS, ORDINAL, NUMBER)
    if (kind != "logistic" or head is not NUMBER) and (kind != "linear" or head in (ORDINAL, NUMBER))
]
EACH = [  # trees are slow to fit; two of them stay with the quick tests
    pytest.param(
        kind,
        head,
        id=f"{kind}-{head['kind']}",
        marks=[pytest.mark.slow] * (kind in ("forest", "boosting") and head not in (BINARY, NUMBER)),
    )
    for kind, head in FITTING
]


class Known:
    def __init__(self, values: np.ndarray, known: np.ndarray | None = None) -> None:
        self.values = values
        self.known = np.ones(values.shape, bool) if known is None else known


def cases(rows: int = 240, seed: int = 0) -> tuple[dict[str, Prepared], np.ndarray]:
    """Each input carries a part of the truth; some cases lack an optional one."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(4, rows))
    tokens = rng.integers(2, 20, (rows, 12)).astype(np.int32)
    tokens[parts[1] > 0, :3] = [30, 31, 32]
    samples = rng.normal(size=(rows, 1, 64)).astype(np.float32) + parts[0][:, None, None].astype(np.float32)
    moments = np.concatenate([samples.mean(2), samples.std(2)], 1)
    summary = np.stack([parts[3] * 1000, rng.integers(1, 9, rows)], 1).astype(np.float32)
    summary[rng.random(rows) < 0.1] = np.nan
    codes = np.stack([(parts[2] > 0).astype(int), rng.integers(0, 50, rows)], 1)
    here = rng.random((3, rows)) < 0.95
    prepared = {
        "ecg": Prepared({"samples": samples, "length": np.full(rows, 64, np.int32)}, here[0], {}, {"summary": moments}),
        "note": Prepared({"tokens": tokens, "length": rng.integers(4, 13, rows).astype(np.int32)}, here[1]),
        "t": Prepared({"numbers": rng.normal(size=(rows, 1)).astype(np.float32), "missing": np.zeros((rows, 1), np.float32),
                       "codes": codes}, np.ones(rows, bool)),
        "labs": Prepared({"values": np.zeros((rows, 4, 1), np.float32)}, here[2], {}, {"summary": summary}),
    }  # fmt: skip
    truth = parts[0] + 1.2 * np.sign(parts[1]) + 0.8 * np.sign(parts[2]) + parts[3] + 0.3 * rng.normal(size=rows)
    return prepared, truth


def labels_of(head: dict[str, Any], truth: np.ndarray) -> Known:
    if head["kind"] == "multiclass":
        return Known(np.digitize(truth, [-1, 1]))
    if head["kind"] == "ordinal":
        return Known(np.digitize(truth, [-2, 0, 2]))
    if head["kind"] == "multilabel":
        return Known(np.stack([truth > 0, truth > 1], 1).astype(np.float32))
    if head["kind"] == "regression":
        return Known(50 + 10 * truth / truth.std())
    return Known((truth > 0).astype(np.float32))


def fitted(kind: str, head: dict[str, Any], **more: Any) -> Any:
    """One model for all tests that only ask it."""
    return _once(kind, head["kind"], tuple(more.items()))


@cache
def _once(kind: str, head: str, more: tuple[tuple[str, Any], ...]) -> Any:
    return fitted_anew(kind, next(one for _, one in FITTING if one["kind"] == head), **dict(more))


def fitted_anew(kind: str, head: dict[str, Any], **more: Any) -> Any:
    prepared, truth = cases()
    groups = np.arange(len(truth)) // 2
    options = BaselineOptions(kind=kind, **{"trials": 3 if kind in ("logistic", "linear") else 1, **more})
    return fit_baseline(options, SPECS, prepared, labels_of(head, truth), head, seed=0, groups=groups)


def rank_correlation(score: np.ndarray, truth: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(score, truth).statistic)


@pytest.mark.parametrize(("kind", "head"), EACH)
def test_new_cases_are_answered_in_the_heads_shape_and_through_a_bundle(kind: str, head: dict[str, Any]) -> None:
    model = fitted(kind, head)
    prepared, truth = cases(seed=5)
    logits = baseline_logits(model, head, SPECS, prepared)
    answers = make_head(head)
    assert logits.shape == (240, answers.n_outputs) and logits.dtype == np.float64 and np.isfinite(logits).all()
    chances = answers.probabilities(logits)
    if head["kind"] in ("multiclass", "ordinal"):
        np.testing.assert_allclose(chances.sum(1), 1, atol=1e-6)
    if kind == "prevalence":
        assert (logits == logits[0]).all()
    else:
        score = chances @ np.arange(chances.shape[1]) if head["kind"] in ("multiclass", "ordinal") else chances[:, 0]
        assert rank_correlation(score, truth) > 0.6
    assert np.array_equal(baseline_logits(load_estimator(dump_estimator(model)), head, SPECS, prepared), logits)


@pytest.mark.parametrize(("kind", "head"), EACH)
def test_equal_fits_give_equal_bytes(kind: str, head: dict[str, Any]) -> None:
    assert dump_estimator(fitted_anew(kind, head)) == dump_estimator(fitted(kind, head))


@pytest.mark.parametrize(("kind", "head"), EACH)
def test_a_case_is_answered_by_itself_whatever_it_lacks(kind: str, head: dict[str, Any]) -> None:
    model = fitted(kind, head)
    prepared, _ = cases()
    whole = baseline_logits(model, head, SPECS, prepared)

    def one(row: slice, here: bool = True) -> np.ndarray:
        some = {
            name: Prepared({key: array[row] for key, array in each.arrays.items()}, each.present[row] & (here or name == "t"), {},
                           {key: array[row] for key, array in each.aside.items()})
            for name, each in prepared.items()
        }  # fmt: skip
        return baseline_logits(model, head, SPECS, some)

    np.testing.assert_allclose(one(slice(7, 8)), whole[7:8], atol=1e-5)
    assert one(slice(0, 0)).shape == (0, whole.shape[1])
    assert np.isfinite(one(slice(0, 3), here=False)).all()


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_only_the_named_inputs_are_looked_at(kind: str) -> None:
    model = fitted(kind, BINARY, inputs=("note", "t"))
    prepared, truth = cases(seed=5)
    logits = baseline_logits(model, BINARY, SPECS, prepared)
    broken = {name: prepared[name] for name in ("note", "t")}
    assert np.array_equal(baseline_logits(model, BINARY, SPECS, broken), logits)
    assert not np.array_equal(baseline_logits(fitted(kind, BINARY), BINARY, SPECS, prepared), logits)
    again = load_estimator(dump_estimator(model))
    assert again["inputs"] == ["note", "t"] and np.array_equal(baseline_logits(again, BINARY, SPECS, prepared), logits)
    with pytest.raises(BundleError, match="1 inputs that are not there"):
        baseline_logits(model, BINARY, {"t": SPECS["t"]}, prepared)


def test_every_input_alone_says_something() -> None:
    prepared, truth = cases(600, seed=5)
    for name in SPECS:
        logits = baseline_logits(fitted("logistic", BINARY, inputs=(name,)), BINARY, SPECS, prepared)
        assert rank_correlation(logits[:, 0], truth) > 0.15, name


@pytest.mark.parametrize("head", [BINARY, NUMBER], ids=lambda head: head["kind"])
def test_selected_columns_go_through_a_bundle(head: dict[str, Any]) -> None:
    model = fitted("linear" if head is NUMBER else "logistic", head, select=8)
    assert len(model["kept"]) == 8
    prepared, truth = cases(seed=5)
    logits = baseline_logits(load_estimator(dump_estimator(model)), head, SPECS, prepared)
    assert rank_correlation(logits[:, 0], truth) > 0.6


def test_a_number_comes_back_in_its_own_unit() -> None:
    prepared, truth = cases(seed=5)
    for kind in ("linear", "boosting", "forest"):
        values = make_head(NUMBER).probabilities(baseline_logits(fitted(kind, NUMBER), NUMBER, SPECS, prepared))[:, 0]
        assert 45 < values.mean() < 55 and 4 < values.std() < 14
    middle = fitted("prevalence", NUMBER)
    values = make_head(NUMBER).probabilities(baseline_logits(middle, NUMBER, SPECS, prepared))
    np.testing.assert_allclose(values, labels_of(NUMBER, cases()[1]).values.mean())
    linear = baseline_logits(fitted("linear", NUMBER), NUMBER, SPECS, prepared)[:, 0]
    assert np.square(linear - (labels_of(NUMBER, truth).values - 50) / 10).mean() < 0.5


def test_ordinal_log_odds_fall_and_linear_is_a_normal_cut_in_steps() -> None:
    prepared, truth = cases(seed=5)
    for kind in ("logistic", "linear", "forest", "prevalence"):
        logits = baseline_logits(fitted(kind, ORDINAL), ORDINAL, SPECS, prepared)
        assert (np.diff(logits, axis=1) <= 0).all() and np.abs(logits).max() <= LIMIT
    from scipy.stats import norm

    model = fitted("linear", ORDINAL, inputs=("t",))
    logits = baseline_logits(model, ORDINAL, SPECS, prepared)
    inner = model["model"]
    dense = np.concatenate([prepared["t"].arrays["numbers"], prepared["t"].arrays["codes"]], 1, dtype=np.float32)
    value = inner["model"].predict(dense)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 1])), norm.sf(1.5, value, inner["deviation"]), atol=1e-6)


def test_a_class_between_that_train_never_had_keeps_its_place() -> None:
    prepared, truth = cases()
    values = np.where(truth > 0, 3, 0)
    for kind in ("logistic", "forest"):
        model = fit_baseline(BaselineOptions(kind=kind, trials=1), SPECS, prepared, Known(values), ORDINAL, seed=0)
        chances = make_head(ORDINAL).probabilities(baseline_logits(model, ORDINAL, SPECS, prepared))
        assert chances[:, 1:3].max() < 1e-3 and ((chances[:, 3] > 0.5) == (values == 3)).mean() > 0.9


@pytest.mark.parametrize(
    ("kind", "head", "words"),
    [
        ("linear", BINARY, "linear does not answer a binary"),
        ("logistic", NUMBER, "does not answer a number"),
        ("logistic", {"kind": "tags", "classes": ["O", "B"]}, "target of kind tags"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, head: dict[str, Any], words: str) -> None:
    prepared, truth = cases(20)
    with pytest.raises(RecipeError, match=words):
        fit_baseline(BaselineOptions(kind=kind), SPECS, prepared, Known(truth), head, seed=0)


def test_an_unknown_input_is_named_with_those_there_are() -> None:
    prepared, truth = cases(20)
    with pytest.raises(RecipeError, match="(?s)no input film.*ecg, note, t, labs"):
        fit_baseline(BaselineOptions(kind="logistic", inputs=("film",)), SPECS, prepared, Known(truth), BINARY, seed=0)

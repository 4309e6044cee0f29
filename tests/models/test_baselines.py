from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meddx.errors import DataError
from meddx.inputs.types import Prepared
from meddx.models.baselines import LIMIT, baseline_logits, fit_baseline
from meddx.models.boosting import settings as boosting_settings
from meddx.models.heads import Head
from meddx.models.options import BaselineOptions

pytestmark = pytest.mark.slow

SPECS = {"t": {"kind": "table", "numbers": 3, "categories": [5, 60], "optional": False}}
KINDS = ("prevalence", "logistic", "forest", "boosting")
BINARY = {"kind": "binary", "classes": ["no", "yes"]}
MULTI = {"kind": "multiclass", "classes": ["a", "b", "c"]}
LABELS = {"kind": "multilabel", "classes": ["x", "y"]}


class Known:
    def __init__(self, values: np.ndarray, known: np.ndarray | None = None) -> None:
        self.values = values
        self.known = np.ones(values.shape if values.ndim == 2 else len(values), bool) if known is None else known


def rows_and_truth(rows: int = 400, seed: int = 0) -> tuple[dict[str, Prepared], np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 3)).astype(np.float32)
    codes = np.stack([rng.integers(0, 5, rows), rng.integers(0, 60, rows)], 1)
    missing = (rng.random((rows, 3)) < 0.1).astype(np.float32)
    score = 1.5 * numbers[:, 0] * (1 - missing[:, 0]) + (codes[:, 0] == 2)
    return {"t": Prepared({"numbers": numbers, "missing": missing, "codes": codes}, np.ones(rows, bool))}, score + 0.5 * rng.normal(
        size=rows
    )


def labels_for(head: dict[str, Any], score: np.ndarray) -> Known:
    if head["kind"] == "multiclass":
        return Known(np.digitize(score, [-0.5, 0.8]))
    if head["kind"] == "multilabel":
        known = np.random.default_rng(1).random((len(score), 2)) < 0.8
        return Known(np.where(known, np.stack([score > 0, score < -1], 1), np.nan).astype(np.float32), known)
    return Known((score > 0).astype(np.float32))


def fitted(kind: str, head: dict[str, Any], trials: int = 2, **more: Any) -> tuple[Any, np.ndarray]:
    prepared, score = rows_and_truth()
    model = fit_baseline(BaselineOptions(kind=kind, trials=trials), SPECS, prepared, labels_for(head, score), head, seed=0, **more)
    return model, baseline_logits(model, head, SPECS, prepared)


def separation(logits: np.ndarray, positive: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, logits))


@pytest.mark.parametrize("head", [BINARY, MULTI, LABELS], ids=lambda head: head["kind"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_learns_new_rows_and_goes_through_a_bundle(kind: str, head: dict[str, Any]) -> None:
    from meddx.predict.estimators import dump_estimator, load_estimator

    model, _ = fitted(kind, head)
    prepared, score = rows_and_truth(seed=5)
    logits = baseline_logits(model, head, SPECS, prepared)
    width = Head(head["kind"], head["classes"]).n_outputs
    assert logits.shape == (400, width) and np.abs(logits).max() <= LIMIT
    if kind == "prevalence":
        assert (logits == logits[0]).all()
    elif head["kind"] == "binary":
        assert separation(logits[:, 0], score > 0) > 0.85
    elif head["kind"] == "multiclass":
        np.testing.assert_allclose(np.exp(logits).sum(1), 1, atol=1e-6)
        assert (logits.argmax(1) == np.digitize(score, [-0.5, 0.8])).mean() > 0.6
    else:
        assert separation(logits[:, 0], score > 0) > 0.85 and separation(logits[:, 1], score < -1) > 0.85
    again = load_estimator(dump_estimator(model))
    assert np.array_equal(baseline_logits(again, head, SPECS, prepared), logits)


@pytest.mark.parametrize("kind", KINDS)
def test_skops_needs_only_types_of_scikit_learn_and_numpy(kind: str) -> None:
    import skops.io

    needed = set(skops.io.get_untrusted_types(data=skops.io.dumps(fitted(kind, BINARY)[0])))
    # the partial is of check_array, in the transformer that boosting keeps for its categories
    assert {name for name in needed if not name.startswith(("sklearn.", "numpy."))} <= {"functools.partial"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_model_on_any_number_of_processors(kind: str) -> None:
    groups = np.array([f"p{row // 3}" for row in range(400)], dtype=object)
    trials = 1 if kind == "boosting" else 2  # two threads on one busy processor take long
    assert np.array_equal(fitted(kind, BINARY, trials, groups=groups)[1], fitted(kind, BINARY, trials, groups=groups, n_jobs=2)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_scored_each_by_itself_with_unseen_levels_and_new_missing(kind: str) -> None:
    model, whole = fitted(kind, BINARY)
    prepared, _ = rows_and_truth()
    one = prepared["t"]
    single = {"t": Prepared({name: array[7:8] for name, array in one.arrays.items()}, np.ones(1, bool))}
    np.testing.assert_allclose(baseline_logits(model, BINARY, SPECS, single), whole[7:8], atol=1e-6)
    nothing = {
        "t": Prepared(
            {"numbers": np.zeros((1, 3), np.float32), "missing": np.ones((1, 3), np.float32), "codes": np.array([[1, 1]])}, np.ones(1, bool)
        )
    }
    assert np.isfinite(baseline_logits(model, BINARY, SPECS, nothing)).all()
    empty = {"t": Prepared({name: array[:0] for name, array in one.arrays.items()}, np.ones(0, bool))}
    assert baseline_logits(model, BINARY, SPECS, empty).shape == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_only_known_labels_are_learned_from(kind: str) -> None:
    prepared, score = rows_and_truth()
    known = np.arange(400) < 300
    first, second = (score > 0).astype(np.float32), (score > 0).astype(np.float32)
    second[300:] = np.nan
    made = [
        fit_baseline(BaselineOptions(kind=kind, trials=1), SPECS, prepared, Known(one, known), BINARY, seed=0) for one in (first, second)
    ]
    logits = [baseline_logits(one, BINARY, SPECS, prepared) for one in made]
    assert np.array_equal(*logits)
    with pytest.raises(DataError, match="no case"):
        fit_baseline(BaselineOptions(kind=kind), SPECS, prepared, Known(first, np.zeros(400, bool)), BINARY, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_train_never_had_gets_the_least_chance(kind: str) -> None:
    prepared, score = rows_and_truth()
    model = fit_baseline(BaselineOptions(kind=kind, trials=1), SPECS, prepared, Known(np.where(score > 0, 2, 0)), MULTI, seed=0)
    assert (baseline_logits(model, MULTI, SPECS, prepared)[:, 1] == -LIMIT).all()
    model = fit_baseline(BaselineOptions(kind=kind, trials=1), SPECS, prepared, Known(np.ones(400, np.float32)), BINARY, seed=0)
    assert (baseline_logits(model, BINARY, SPECS, prepared) == LIMIT).all()


def test_the_prevalence_is_the_share_of_train() -> None:
    prepared, _ = rows_and_truth(10)
    model = fit_baseline(BaselineOptions(kind="prevalence"), SPECS, prepared, Known(np.array([1.0] * 3 + [0.0] * 7)), BINARY, seed=0)
    np.testing.assert_allclose(baseline_logits(model, BINARY, SPECS, prepared), np.log(0.3 / 0.7))


def test_boosting_does_not_learn_levels_by_heart() -> None:
    """A category of 60 levels that says nothing: encoded by the other folds it does little harm."""
    rng = np.random.default_rng(3)
    labels = (rng.random(600) < 0.3).astype(np.float32)
    arrays = {
        "numbers": np.zeros((600, 3), np.float32),
        "missing": np.zeros((600, 3), np.float32),
        "codes": np.stack([np.zeros(600, int), rng.integers(0, 60, 600)], 1),
    }
    prepared = {"t": Prepared(arrays, np.ones(600, bool))}
    model = fit_baseline(BaselineOptions(kind="boosting", trials=1), SPECS, prepared, Known(labels), BINARY, seed=0)
    assert baseline_logits(model, BINARY, SPECS, prepared).std() < 0.4
    crossed = model.named_steps["encode"].transform(np.zeros((1, 5), np.float32))
    assert crossed.shape == (1, 5)


def test_drawn_settings_are_the_same_for_a_seed_and_fit_few_rows() -> None:
    assert boosting_settings(5, 1000, 0) == boosting_settings(5, 1000, 0) != boosting_settings(5, 1000, 1)
    assert max(one["min_samples_leaf"] for one in boosting_settings(30, 40, 0)) == 2


def test_pictures_have_a_pixel_logistic() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0.0, 1.0], 60).astype(np.float32)
    pixels = rng.integers(0, 120, (120, 1, 56, 56)).astype(np.uint8)
    pixels[labels == 1, :, 20:30, 20:30] += 60
    specs = {"film": {"kind": "image", "channels": 1, "size": 56, "max": 255, "optional": False}}
    prepared = {"film": Prepared({"pixels": pixels}, np.ones(120, bool))}
    model = fit_baseline(BaselineOptions(kind="logistic", trials=3), specs, prepared, Known(labels), BINARY, seed=0)
    assert model.named_steps["logistic"].coef_.shape == (1, 784)
    assert separation(baseline_logits(model, BINARY, specs, prepared)[:, 0], labels) > 0.95


def test_estimators_and_labels_must_match() -> None:
    model, _ = fitted("prevalence", LABELS)
    prepared, _ = rows_and_truth()
    with pytest.raises(DataError, match="3 labels"):
        baseline_logits(model, {"kind": "multilabel", "classes": ["x", "y", "z"]}, SPECS, prepared)


@pytest.mark.slow
def test_the_baselines_are_strong_on_real_data(shared_data: Any) -> None:
    """Cleveland by 10-fold cross-validation: logistic AUROC about .91 (published: about .90)."""
    import pandas as pd
    import pyarrow as pa

    from meddx.inputs.options import TableInput
    from meddx.inputs.prepare import fit

    names = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"]
    frame = pd.read_csv(shared_data / "heart_uci/processed.cleveland.data", names=names, na_values="?")
    labels = (frame["num"] > 0).to_numpy().astype(np.float32)
    table = pa.Table.from_pandas(frame.drop(columns="num"))
    fold, logits = np.random.default_rng(0).permutation(len(labels)) % 10, np.zeros(len(labels))
    for one in range(10):
        train, test = table.filter(fold != one), table.filter(fold == one)
        made = fit({"t": TableInput(category=("cp", "restecg", "slope", "thal"))}, {"t": names[:-1]}, train)
        model = fit_baseline(
            BaselineOptions(kind="logistic"), made.specs(), made.transform(train), Known(labels[fold != one]), BINARY, seed=0
        )
        logits[fold == one] = baseline_logits(model, BINARY, made.specs(), made.transform(test))[:, 0]
    assert separation(logits, labels) > 0.89


@pytest.mark.parametrize("head", [BINARY, MULTI, LABELS], ids=lambda head: head["kind"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_only_fill_the_batch_change_no_bit_of_those_that_count(kind: str, head: dict[str, Any]) -> None:
    model, _ = fitted(kind, head, trials=1)
    prepared, _ = rows_and_truth(seed=5)
    whole = baseline_logits(model, head, SPECS, prepared)
    for counted in (1, 7, 399):
        assert np.array_equal(baseline_logits(model, head, SPECS, prepared, counted)[:counted], whole[:counted])


@pytest.mark.parametrize(("kind", "name"), [("forest", "RandomForestClassifier"), ("boosting", "HistGradientBoostingClassifier")])
def test_trees_are_asked_about_the_rows_that_count_only(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.ensemble

    model, _ = fitted(kind, BINARY, trials=1)
    seen: list[int] = []
    trees = getattr(sklearn.ensemble, name)
    real = trees.predict_proba
    monkeypatch.setattr(trees, "predict_proba", lambda self, x: (seen.append(len(x)), real(self, x))[1])
    baseline_logits(model, BINARY, SPECS, rows_and_truth(seed=5)[0], 7)
    assert seen == [7]

"""Ordinal and regression numbers, and the newer metrics, against scikit-learn and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from meddx.errors import RecipeError
from meddx.evaluate.compare import compare
from meddx.evaluate.fitting import check_metrics, metrics_of, metrics_shown
from meddx.evaluate.metrics import LOWER_IS_BETTER, NAMES, binary_numbers
from meddx.evaluate.multi import MulticlassNumbers, OrdinalNumbers, numbers_for
from meddx.evaluate.options import ComparisonOptions, PrimaryOptions
from meddx.evaluate.regression import RegressionNumbers, against_observed
from meddx.evaluate.types import ModelScores, Truth

STAGES = ("0", "1", "2", "3")
RARE = ("a", "b", "c", "rare")


def stages(n=400, seed=0, noise=0.7):
    random = np.random.default_rng(seed)
    values = random.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    logits = -((np.arange(4) - (values + random.normal(scale=noise, size=n))[:, None]) ** 2)
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return values, said, said.argmax(axis=1)


def once(numbers, n):
    return {metric: float(value[0]) for metric, value in numbers(np.ones((1, n))).items()}


def chosen(metric="kappa", **options):
    return ComparisonOptions(primary=PrimaryOptions(metric=metric, against="logistic"), bootstrap=200, **options)


def ordinal(options=None, **scene):
    values, said, decided = stages(**scene)
    _, weak, weakly = stages(**{**scene, "noise": 2.0})
    models = {"network": ModelScores(said, decided), "logistic": ModelScores(weak, weakly, "baseline")}
    truth = Truth("ordinal", STAGES, values, np.ones(len(values), bool), "stage")
    return compare(models, truth, None, options or chosen(), train_rates=[0.4, 0.3, 0.2, 0.1])


def regression(options=None, n=300, shift=0.0, seed=0):
    random = np.random.default_rng(seed)
    seen = random.normal(150, 30, n)
    good, poor = seen + random.normal(shift, 10, n), seen + random.normal(0, 20, n)
    models = {
        "network": ModelScores(good, None, low=good - 16.4, high=good + 16.4),
        "linear": ModelScores(poor[:, None], None, "baseline"),
    }
    options = options or ComparisonOptions(primary=PrimaryOptions(metric="mae", against="linear", smallest_useful=1.0), bootstrap=200)
    return compare(models, Truth("regression", (), seen, np.ones(n, bool), "pressure"), None, options, train_rates=[150.0])


@pytest.mark.parametrize("seed", range(4))
def test_quadratic_kappa_and_mae_as_scikit_learn(seed):
    values, said, decided = stages(seed=seed, noise=1.5)
    found = once(OrdinalNumbers(values, said, decided, STAGES), 400)
    assert found["kappa"] == pytest.approx(sk.cohen_kappa_score(values, decided, weights="quadratic"), abs=1e-12)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(values, decided), abs=1e-12)
    assert abs(found["kappa"] - sk.cohen_kappa_score(values, decided, weights="linear")) > 1e-3  # the twin that must differ
    assert once(MulticlassNumbers(values, said, decided, STAGES), 400).items() <= found.items()


def test_kappa_of_weights_is_that_of_copied_rows():
    values, said, decided = stages(n=60)
    weights = np.random.default_rng(1).integers(0, 4, (3, 60)).astype(float)
    found = OrdinalNumbers(values, said, decided, STAGES)(weights)
    for row, times in enumerate(weights.astype(int)):
        copied = [np.repeat(one, times, axis=0) for one in (values, said, decided)]
        again = once(OrdinalNumbers(*copied, STAGES), int(times.sum()))
        for metric in ("kappa", "mae", "sensitivity/1", "ppv/2", "f1/3"):
            assert found[metric][row] == pytest.approx(again[metric], abs=1e-12), metric


def test_the_order_of_rows_changes_nothing():
    values, said, decided = stages(n=100)
    order = np.random.default_rng(0).permutation(100)
    whole, mixed = (once(OrdinalNumbers(values[o], said[o], decided[o], STAGES), 100) for o in (np.arange(100), order))
    assert mixed == pytest.approx(whole, abs=1e-12, nan_ok=True)


def test_kappa_is_undefined_only_where_all_is_one_class_and_says_so():
    same = OrdinalNumbers(np.full(20, 2), np.tile([0.1, 0.1, 0.7, 0.1], (20, 1)), np.full(20, 2), STAGES)
    assert np.isnan(once(same, 20)["kappa"]) and "of one class" in same.why_undefined("kappa")
    silent = OrdinalNumbers(np.arange(4), np.full((4, 4), 0.25), None, STAGES)
    assert np.isnan(once(silent, 4)["mae"]) and silent.why_undefined("kappa") == "it makes no decisions"
    constant = once(OrdinalNumbers(np.arange(4), np.full((4, 4), 0.25), np.full(4, 1), STAGES), 4)
    assert constant["kappa"] == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_accuracy_as_scikit_learn(seed):
    values, said, decided = stages(seed=seed)
    found = once(MulticlassNumbers(values, said, decided, STAGES), 400)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(values, decided), abs=1e-12)
    yes, sure = values > 1, said[:, 2:].sum(axis=1)
    binary = binary_numbers(yes, sure, sure > 0.5)
    assert binary["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(yes, sure > 0.5), abs=1e-12)
    assert binary["f1"] == pytest.approx(sk.f1_score(yes, sure > 0.5), abs=1e-12)
    smaller = min(sk.recall_score(yes, sure > 0.5), sk.precision_score(yes, sure > 0.5))
    assert binary["min_se_ppv"] == pytest.approx(smaller, abs=1e-12)


def test_min_se_ppv_at_the_edges():
    labels = np.array([1.0, 1, 0, 0])
    nobody = binary_numbers(labels, labels, np.zeros(4))
    assert nobody["min_se_ppv"] == 0.0 and np.isnan(nobody["ppv"])
    assert np.isnan(binary_numbers(np.zeros(4), labels, labels)["min_se_ppv"])
    assert np.isnan(binary_numbers(labels, labels)["min_se_ppv"])


def test_averages_over_the_named_classes_only():
    values, said, decided = stages()
    found = once(MulticlassNumbers(values, said, decided, RARE, ("a", "b", "c")), 400)
    whole = once(MulticlassNumbers(values, said, decided, RARE), 400)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(values, decided, labels=[0, 1, 2], average="macro"), abs=1e-12)
    assert found["ppv"] == pytest.approx(sk.precision_score(values, decided, labels=[0, 1, 2], average="macro"), abs=1e-12)
    assert found["macro_f1"] != whole["macro_f1"] and found["accuracy"] == whole["accuracy"]
    assert found["f1/3"] == pytest.approx(sk.f1_score(values == 3, decided == 3), abs=1e-12)  # still in the table by class


def test_a_rare_class_that_is_not_named_does_not_take_the_interval_of_the_average():
    values, said, decided = stages(n=300)
    few = np.flatnonzero(values == 3)[5:]
    values = values.copy()
    values[few] = 2
    truth = Truth("multiclass", RARE, values, np.ones(300, bool))
    models = {"network": ModelScores(said, decided), "logistic": ModelScores(said[::-1], decided[::-1], "baseline")}
    cells = {}
    for classes in ((), ("a", "b", "c"), ("a",)):
        found = compare(models, truth, None, chosen("macro_f1", classes=classes), train_rates=[0.25] * 4)
        cells[classes] = found["models"][0]["numbers"]["macro_f1"]
        rare = found["per_class"][3]
        assert rare["cases"] == 5 and "5 with rare" in rare["models"]["network"]["sensitivity"]["reason"]
        assert found["per_class"][0]["models"]["network"]["f1"]["low"] is not None
        assert rare["averaged"] == (not classes)
        assert found["models"][0]["numbers"]["accuracy"]["low"] is not None
    assert cells[()]["low"] is None and "rare" in cells[()]["reason"]
    assert cells[("a", "b", "c")]["low"] is not None and cells[("a",)]["low"] is not None


def test_a_named_class_that_is_not_there_is_said():
    values, said, decided = stages(n=300)
    keep = values != 3
    truth = Truth("multiclass", RARE, values[keep], np.ones(int(keep.sum()), bool))
    one = ModelScores(said[keep], decided[keep])
    models = {"network": one, "logistic": ModelScores(one.probabilities, one.decisions, "baseline")}
    found = compare(models, truth, None, chosen("macro_f1", classes=("a", "rare")), train_rates=[0.25] * 4)
    assert any("averages leave out rare" in line for line in found["warnings"])


def test_per_class_numbers_as_scikit_learn():
    values, _, decided = stages()
    found = ordinal()
    each = sk.precision_recall_fscore_support(values, decided)
    for j, one in enumerate(found["per_class"]):
        model = one["models"]["network"]
        assert one["class"] == STAGES[j] and one["cases"] == each[3][j] and set(one["models"]) == {"network", "logistic", "prevalence"}
        for metric, right in zip(("ppv", "sensitivity", "f1"), each, strict=False):
            assert model[metric]["value"] == pytest.approx(right[j], abs=1e-12)
            assert model[metric]["low"] <= right[j] <= model[metric]["high"]
    assert found["per_class"][3]["models"]["prevalence"]["ppv"]["reason"] == "no case was decided to be 3"


def test_ordinal_comparison():
    found = ordinal()
    assert found["primary"]["verdict"] == "useful" and found["primary"]["metric_name"] == "quadratic kappa"
    assert found["models"][0]["confusion"] is not None and len(found["curves"]) == 4
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    lower = ordinal(chosen("mae"))["primary"]
    assert lower["model_number"]["value"] < lower["against_number"]["value"] and lower["difference"]["value"] > 0


@pytest.mark.parametrize("seed", range(3))
def test_regression_numbers_as_scikit_learn(seed):
    random = np.random.default_rng(seed)
    seen = random.normal(1e6, 30, 200)  # far from 0: sums of squares would cancel
    said = seen + random.normal(5, 20, 200)
    found = once(RegressionNumbers(seen, said), 200)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(seen, said), rel=1e-12)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(seen, said), rel=1e-12)
    assert found["r2"] == pytest.approx(sk.r2_score(seen, said), rel=1e-9)
    weights = random.integers(0, 3, 200)
    drawn = RegressionNumbers(seen, said)(weights[None, :].astype(float))
    assert drawn["r2"][0] == pytest.approx(sk.r2_score(seen, said, sample_weight=weights), rel=1e-9)


def test_regression_at_the_edges():
    flat = RegressionNumbers(np.full(9, 3.1), np.arange(9.0))
    assert np.isnan(once(flat, 9)["r2"]) and flat.why_undefined("r2") == "every case has the same observed value"
    one = once(RegressionNumbers([1.0, 3.0], [1.0, 4.0], [0.0, 3.5], [2.0, 4.5]), 2)
    assert one["coverage"] == 0.5 and one["width"] == 1.5
    assert np.isnan(once(RegressionNumbers([1.0, 3.0], [1.0, 4.0]), 2)["coverage"])


def test_regression_comparison():
    found = regression()
    primary, row = found["primary"], found["models"][0]
    assert {"mae", "rmse"} <= LOWER_IS_BETTER and "r2" not in LOWER_IS_BETTER
    assert primary["verdict"] == "useful" and primary["difference"]["value"] == pytest.approx(
        primary["against_number"]["value"] - primary["model_number"]["value"]
    )
    assert list(row["numbers"]) == ["mae", "rmse", "r2"] and row["confusion"] is None and found["per_class"] == []
    assert 0.8 < row["calibration"]["coverage"]["value"] < 1 and found["models"][1]["calibration"]["coverage"] is None
    constant = next(one for one in found["models"] if one["name"] == "prevalence")
    assert abs(constant["numbers"]["r2"]["value"]) < 0.05
    assert found["cases"]["values"]["train_mean"] == 150.0 and found["cases"]["outcomes"] == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_regression_warns_of_a_mean_that_is_off():
    assert regression()["warnings"] == ["Which cases belong to one patient is not known: intervals may be too narrow."]
    assert "too high on average" in regression(shift=15.0)["warnings"][0]


def test_no_case_can_be_read_off_the_figure():
    seen = np.append(np.random.default_rng(0).normal(size=500), 1e5)
    found = against_observed(seen, seen)
    assert max(found["edges"]) < 10 and sum(map(sum, found["counts"])) == 501
    assert min(one["cases"] for one in found["bins"]) >= 15


def test_a_metric_that_does_not_fit_is_refused_with_those_that_do():
    for kind, metric in (("regression", "auroc"), ("binary", "kappa"), ("multiclass", "rmse"), ("ordinal", "r2")):
        with pytest.raises(RecipeError, match=rf"{metric} does not fit a {kind} answer") as told:
            check_metrics(kind, STAGES, chosen(metric))
        assert metrics_of(kind)[0] in told.value.next_step and metric not in told.value.next_step.split(", ")
    with pytest.raises(RecipeError, match="comparison.also: mae"):
        check_metrics("binary", STAGES, chosen("auroc", also=("mae",)))
    with pytest.raises(RecipeError, match="no class 'd'"):
        check_metrics("ordinal", STAGES, chosen(classes=("0", "d")))
    with pytest.raises(RecipeError, match="no averages"):
        check_metrics("binary", ("no", "yes"), chosen("auroc", classes=("yes",)))
    with pytest.raises(RecipeError, match="auroc does not fit a regression answer"):
        regression(chosen("auroc"))


def test_every_metric_that_fits_has_a_name_and_a_number():
    values, said, decided = stages()
    known = np.ones(400, bool)
    scenes = {
        "binary": (Truth("binary", ("no", "yes"), values > 1, known), ModelScores(said[:, 3], decided > 1)),
        "multiclass": (Truth("multiclass", STAGES, values, known), ModelScores(said, decided)),
        "ordinal": (Truth("ordinal", STAGES, values, known), ModelScores(said, decided)),
        "multilabel": (Truth("multilabel", STAGES, np.eye(4)[values], np.ones((400, 4), bool)), ModelScores(said, np.eye(4)[decided])),
        "regression": (Truth("regression", (), values, known), ModelScores(decided.astype(float), None)),
    }
    for kind, (truth, scores) in scenes.items():
        found = once(numbers_for(truth, scores, known), 400)
        assert all(np.isfinite(found[metric]) and metric in NAMES for metric in metrics_of(kind)), kind
        assert set(metrics_shown(kind, chosen(metrics_of(kind)[0]))) <= set(metrics_of(kind))

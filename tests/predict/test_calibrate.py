"""meddx.predict.calibrate: known truths are found, bad data stay bounded, the order of cases stands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, softmax

from meddx.dataset.target import Labels
from meddx.errors import BundleError, DataError, RecipeError
from meddx.models.heads import Head
from meddx.predict.calibrate import SLOPES, apply_calibration, check_calibration, fit_calibration

BINARY = {"kind": "binary", "classes": ["benign", "malignant"]}
MULTICLASS = {"kind": "multiclass", "classes": ["a", "b", "c"]}
MULTILABEL = {"kind": "multilabel", "classes": ["x", "y"]}


def all_known(values: np.ndarray) -> Labels:
    return Labels(values, np.ones(values.shape, bool))


def test_intercept_and_slope_of_a_known_truth_are_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 40_000)
    truth = (rng.random(len(logits)) < expit(0.7 + 0.4 * logits)).astype(np.float32)
    found = fit_calibration(None, BINARY, logits[:, None], all_known(truth))
    assert found["kind"] == "logistic"
    assert found["slope"][0] == pytest.approx(0.4, abs=0.02)
    assert found["intercept"][0] == pytest.approx(0.7, abs=0.05)
    assert found["notes"] == []
    assert json.loads(json.dumps(found)) == found


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 60), shift=st.floats(-3, 3), scale=st.floats(0.05, 20))
def test_best_likelihood_with_platts_targets(seed: int, n: int, shift: float, scale: float) -> None:
    """Newton's answer is not worse than a general optimiser's on the same bounded problem, and mean chance = mean target."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) % 3 == 0).astype(np.float32)
    logits = shift + scale * rng.normal(size=n) + scale * truth
    found = fit_calibration("logistic", BINARY, logits[:, None], all_known(truth))
    positives, negatives = truth.sum(), n - truth.sum()
    targets = np.where(truth > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(weights: np.ndarray) -> float:
        scores = weights[0] + weights[1] * logits
        return float((np.logaddexp(0, scores) - targets * scores).mean())

    other = minimize(loss, [0.0, 0.1], bounds=[(None, None), SLOPES], method="L-BFGS-B")
    assert loss(np.array([found["intercept"][0], found["slope"][0]])) <= other.fun + 1e-6
    assert apply_calibration(found, BINARY, logits[:, None]).mean() == pytest.approx(targets.mean(), abs=1e-6)
    assert SLOPES[0] <= found["slope"][0] <= SLOPES[1]


def test_separable_data_stay_finite() -> None:
    logits = np.r_[np.full(30, -0.01), np.full(20, 0.01)]
    truth = (logits > 0).astype(np.float32)
    found = fit_calibration(None, BINARY, logits[:, None], all_known(truth))
    chance = apply_calibration(found, BINARY, logits[:, None])[:, 0]
    assert found["slope"][0] == SLOPES[1]
    assert "held" in found["notes"][0]
    assert 0.001 < chance.min() < chance.max() < 0.999
    wide = fit_calibration(None, BINARY, 1000 * logits[:, None], all_known(truth))
    np.testing.assert_allclose(apply_calibration(wide, BINARY, 1000 * logits[[0, -1], None])[:, 0], [1 / 32, 21 / 22], rtol=1e-6)


def test_worse_than_chance_keeps_the_order_and_says_so() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(500) < 0.3).astype(np.float32)
    logits = rng.normal(size=500) - 2 * truth
    found = fit_calibration(None, BINARY, logits[:, None], all_known(truth))
    chance = apply_calibration(found, BINARY, logits[:, None])[:, 0]
    assert found["slope"] == [SLOPES[0]]
    assert "malignant: worse than chance" in found["notes"][0]
    assert np.abs(chance - truth.mean()).max() < 0.01
    assert (np.argsort(chance) == np.argsort(logits)).all()


def test_equal_logits_move_to_the_prevalence() -> None:
    truth = np.r_[np.ones(3), np.zeros(7)].astype(np.float32)
    found = fit_calibration(None, BINARY, np.full((10, 1), -4.0), all_known(truth))
    assert found["slope"] == [1.0]
    assert apply_calibration(found, BINARY, np.full((1, 1), -4.0))[0, 0] == pytest.approx((3 * 4 / 5 + 7 / 9) / 10)


def test_temperature_on_a_binary_head_has_no_intercept() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 4, 20_000)
    truth = (rng.random(len(logits)) < expit(logits / 2)).astype(np.float32)
    found = fit_calibration("temperature", BINARY, logits[:, None], all_known(truth))
    assert found["intercept"] == [0.0]
    assert found["slope"][0] == pytest.approx(0.5, abs=0.02)


def test_multiclass_temperature_and_bias_of_a_known_truth() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (30_000, 3))
    chances = softmax(logits / 2.5 + np.array([0.5, 0.0, -0.5]), axis=1)
    truth = (rng.random(len(logits))[:, None] > chances.cumsum(1)).sum(1)
    found = fit_calibration(None, MULTICLASS, logits, all_known(truth))
    assert found["kind"] == "temperature"
    assert found["temperature"] == pytest.approx(2.5, rel=0.03)
    assert found["bias"][0] - found["bias"][2] == pytest.approx(1.0, abs=0.1)
    after = apply_calibration(found, MULTICLASS, logits)
    np.testing.assert_allclose(after.sum(1), 1)
    np.testing.assert_allclose(after.mean(0), np.bincount(truth) / len(truth), atol=2e-3)


def test_slope_is_the_temperature_alone() -> None:
    random = np.random.default_rng(5)
    logits = random.normal(size=(4000, 3)) * 2
    chance = np.exp(logits / 2 + [1.0, 0.0, -1.0])  # a truth with biases, which are not looked for
    values = np.array([random.choice(3, p=one / one.sum()) for one in chance])
    head = {"kind": "multiclass", "classes": ["a", "b", "c"]}
    labels = Labels(values.astype(float), np.ones(len(values), bool))
    found = fit_calibration("slope", head, logits, labels)
    assert found["kind"] == "temperature" and found["bias"] == [0.0, 0.0, 0.0]

    def loss(temperature: float) -> float:
        page = {"kind": "temperature", "temperature": temperature, "bias": [0.0, 0.0, 0.0]}
        return float(-np.log(apply_calibration(page, head, logits)[np.arange(len(values)), values]).mean())

    assert loss(found["temperature"]) < min(loss(found["temperature"] * one) for one in (0.95, 1.05))
    with pytest.raises(RecipeError, match="slope is not for"):
        fit_calibration("slope", {"kind": "binary", "classes": ["no", "yes"]}, logits[:, :1], labels)


def test_multiclass_separable_and_with_a_class_unseen_stays_bounded() -> None:
    truth = np.arange(60) % 2
    logits = 30 * np.eye(3)[truth]
    found = fit_calibration(None, MULTICLASS, logits, all_known(truth))
    chance = apply_calibration(found, MULTICLASS, logits)
    assert np.abs(found["bias"]).max() < 30
    assert 0.9 < chance[0, 0] < 0.999
    assert chance[0, 2] > 1e-6
    assert "1 classes have no case" in found["notes"][0]


def test_multilabel_is_one_fit_a_label_and_unknown_labels_do_not_count() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (5000, 2))
    truth = (rng.random((5000, 2)) < expit(logits * [1.0, 0.5])).astype(np.float32)
    known = rng.random((5000, 2)) < 0.7
    found = fit_calibration(None, MULTILABEL, logits, Labels(truth, known))
    spoiled = fit_calibration(None, MULTILABEL, logits, Labels(np.where(known, truth, 1 - truth), known))
    assert spoiled == found
    alone = fit_calibration(None, BINARY, logits[known[:, 1], 1:], all_known(truth[known[:, 1], 1]))
    assert found["slope"][1] == alone["slope"][0]


@pytest.mark.parametrize(
    "head, logits", [(BINARY, [[0.3], [-2.0]]), (MULTICLASS, [[1.0, 2, 3], [0, 0, 9]]), (MULTILABEL, [[1.0, -1], [800, -800]])]
)
def test_none_is_what_the_head_says(head: dict, logits: list) -> None:
    found = fit_calibration("none", head, np.array(logits), all_known(np.zeros(2)))
    assert found == {"kind": "none"}
    np.testing.assert_allclose(
        apply_calibration(found, head, np.array(logits)), Head(head["kind"], head["classes"]).probabilities(np.array(logits))
    )


def test_refusals() -> None:
    one = np.zeros((4, 1))
    with pytest.raises(DataError, match="'malignant' has 0 positive and 4 negative"):
        fit_calibration(None, BINARY, one, all_known(np.zeros(4)))
    with pytest.raises(DataError, match="two classes"):
        fit_calibration(None, MULTICLASS, np.zeros((4, 3)), all_known(np.zeros(4, int)))
    with pytest.raises(DataError, match="not finite"):
        fit_calibration(None, BINARY, np.array([[np.inf], [0.0]]), all_known(np.array([0, 1])))
    with pytest.raises(DataError, match="do not fit"):
        fit_calibration(None, BINARY, np.zeros((4, 2)), all_known(np.zeros(4)))
    with pytest.raises(RecipeError, match="logistic"):
        fit_calibration("logistic", MULTICLASS, np.zeros((4, 3)), all_known(np.zeros(4, int)))


@pytest.mark.parametrize(
    "calibration, head",
    [
        ({}, BINARY),
        ({"kind": "isotonic"}, BINARY),
        ({"kind": "logistic", "slope": [1.0], "intercept": [0.0]}, MULTICLASS),
        ({"kind": "logistic", "slope": [1.0], "intercept": [0.0, 0.0]}, MULTILABEL),
        ({"kind": "logistic", "slope": [0.0], "intercept": [0.0]}, BINARY),
        ({"kind": "logistic", "slope": [float("nan")], "intercept": [0.0]}, BINARY),
        ({"kind": "logistic", "slope": "1", "intercept": [0.0]}, BINARY),
        ({"kind": "temperature", "bias": [0.0, 0.0, 0.0]}, MULTICLASS),
        ({"kind": "temperature", "temperature": -1.0, "bias": [0.0, 0.0, 0.0]}, MULTICLASS),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(calibration: dict, head: dict) -> None:
    with pytest.raises(BundleError, match="calibration"):
        check_calibration(calibration, head)


def test_what_is_fitted_passes_the_check() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, 50)
    check_calibration(fit_calibration(None, BINARY, rng.normal(size=(50, 1)), all_known(truth)), BINARY)
    check_calibration(fit_calibration(None, MULTICLASS, rng.normal(size=(50, 3)), all_known(truth)), MULTICLASS)
    check_calibration(fit_calibration("none", MULTILABEL, rng.normal(size=(50, 2)), all_known(truth)), MULTILABEL)

"""meddx.predict.calibrate of ordinal and regression answers: known truths are found, the order of classes stands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from meddx.dataset.target import Labels
from meddx.errors import BundleError, DataError, RecipeError
from meddx.predict.calibrate import SLOPES, apply_calibration, check_calibration, fit_calibration

BINARY = {"kind": "binary", "classes": ["benign", "malignant"]}
MULTICLASS = {"kind": "multiclass", "classes": ["a", "b", "c"]}
MULTILABEL = {"kind": "multilabel", "classes": ["x", "y"]}


def all_known(values: np.ndarray) -> Labels:
    return Labels(values, np.ones(values.shape, bool))


ORDINAL = {"kind": "ordinal", "classes": ["none", "mild", "severe"]}
REGRESSION = {"kind": "regression", "classes": [], "mean": 50.0, "std": 10.0}


def cumulative(scores: np.ndarray, cuts: tuple[float, ...] = (-1.0, 1.5)) -> np.ndarray:
    return scores[:, None] - np.array(cuts)


def test_ordinal_temperature_and_shift_of_a_known_truth_are_found() -> None:
    rng = np.random.default_rng(6)
    logits = cumulative(rng.normal(0, 3, 30_000))
    truth = (rng.random(len(logits))[:, None] < expit(logits / 2 + 0.4)).sum(1)  # P(y > j) falls, so one draw decides
    found = fit_calibration(None, ORDINAL, logits, all_known(truth))
    assert found["kind"] == "temperature"
    assert found["temperature"] == pytest.approx(2.0, rel=0.04)
    assert found["bias"] == [pytest.approx(0.4, abs=0.05)] * 2
    after = apply_calibration(found, ORDINAL, logits)
    np.testing.assert_allclose(after.sum(1), 1)
    np.testing.assert_allclose(after.mean(0), np.bincount(truth) / len(truth), atol=6e-3)
    check_calibration(found, ORDINAL)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 50), scale=st.floats(0.01, 30), k=st.integers(2, 6))
def test_ordinal_gives_chances_whatever_the_logits(seed: int, n: int, scale: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k - 1))  # of models fitted apart: not even ordered
    truth = rng.integers(0, k, n)
    truth[:2] = [0, k - 1]
    head = {"kind": "ordinal", "classes": [str(one) for one in range(k)]}
    found = fit_calibration(None, head, logits, all_known(truth))
    chances = apply_calibration(found, head, logits)
    assert (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(1), 1)
    assert SLOPES[0] <= 1 / found["temperature"] * 1.000001 and 1 / found["temperature"] <= SLOPES[1] * 1.000001
    check_calibration(found, head)


def test_ordinal_of_two_classes_is_the_binary_one() -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2, (4000, 1))
    truth = (rng.random(4000) < expit(0.5 + 0.6 * logits[:, 0])).astype(int)
    two = {"kind": "ordinal", "classes": ["no", "yes"]}
    ordinal = apply_calibration(fit_calibration(None, two, logits, all_known(truth)), two, logits)[:, 1]
    binary = apply_calibration(fit_calibration(None, BINARY, logits, all_known(truth)), BINARY, logits)[:, 0]
    np.testing.assert_allclose(ordinal, binary, atol=2e-3)


def test_the_gradient_of_the_cumulative_likelihood_is_its_derivative() -> None:
    from meddx.predict.fits import _cumulative_logs

    logits = cumulative(np.linspace(-3, 3, 7), (-1.0, 0.5, 2.0))
    logs, by_slope, by_shift = _cumulative_logs(logits, 1.3, 0.2)
    np.testing.assert_allclose(np.exp(logs).sum(1), 1)
    step = 1e-6
    for place, found in ((0, by_slope), (1, by_shift)):
        up, down = ([1.3, 0.2], [1.3, 0.2])
        up[place] += step
        down[place] -= step
        np.testing.assert_allclose((_cumulative_logs(logits, *up)[0] - _cumulative_logs(logits, *down)[0]) / (2 * step), found, atol=1e-6)


def test_twin_a_shift_for_each_threshold_makes_a_class_of_negative_width() -> None:
    logits = cumulative(np.array([0.0]), (-0.1, 0.1))
    crossed = {"kind": "temperature", "temperature": 1.0, "bias": [-1.0, 1.0], "notes": []}
    shifted = logits + np.array(crossed["bias"])
    assert expit(shifted[0, 0]) - expit(shifted[0, 1]) < 0
    with pytest.raises(BundleError, match="does not fit"):
        check_calibration(crossed, ORDINAL)


def test_regression_line_of_a_known_truth_in_its_units() -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(2000, 1))
    values = 50 + 10 * logits[:, 0]
    truth = 7 + 0.8 * values + rng.normal(0, 3, 2000)
    known = np.arange(2000) % 3 > 0
    found = fit_calibration(None, REGRESSION, logits, Labels(np.where(known, truth, np.nan), known))
    assert (found["kind"], found["notes"]) == ("linear", [])
    assert found["slope"] == pytest.approx(0.8, abs=0.03) and found["intercept"] == pytest.approx(7, abs=1.5)
    after = apply_calibration(found, REGRESSION, logits)
    assert after.shape == (2000, 1)
    np.testing.assert_allclose(after[:, 0], found["intercept"] + found["slope"] * values)
    assert after[known, 0].mean() == pytest.approx(truth[known].mean())
    check_calibration(found, REGRESSION)
    np.testing.assert_allclose(apply_calibration({"kind": "none"}, REGRESSION, logits)[:, 0], values)


def test_regression_that_is_worse_than_the_mean_or_constant() -> None:
    logits = np.linspace(-1, 1, 20)[:, None]
    worse = fit_calibration(None, REGRESSION, logits, all_known(-logits[:, 0]))
    assert worse["slope"] == SLOPES[0] and "worse than the mean" in worse["notes"][0]
    flat = fit_calibration(None, REGRESSION, np.zeros((20, 1)), all_known(np.full(20, 60.0)))
    assert (flat["slope"], flat["intercept"]) == (1.0, 10.0)
    with pytest.raises(DataError, match="three cases"):
        fit_calibration(None, REGRESSION, np.zeros((2, 1)), all_known(np.zeros(2)))


@pytest.mark.parametrize(
    "kind, head",
    [("linear", BINARY), ("linear", MULTICLASS), ("logistic", ORDINAL), ("temperature", REGRESSION), ("logistic", REGRESSION)],
)
def test_a_kind_that_is_not_for_the_answer(kind: str, head: dict) -> None:
    with pytest.raises(RecipeError, match=f"{kind} is not for {head['kind']}"):
        fit_calibration(kind, head, np.zeros((4, 2)), all_known(np.zeros(4)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "calibration, head",
    [
        ({"kind": "temperature", "temperature": 1.0, "bias": [0.0, 0.0, 0.0]}, ORDINAL),
        ({"kind": "temperature", "temperature": 1.0, "bias": "ab"}, ORDINAL),
        ({"kind": "linear", "intercept": 0.0, "slope": 0.0}, REGRESSION),
        ({"kind": "linear", "intercept": float("nan"), "slope": 1.0}, REGRESSION),
        ({"kind": "linear", "slope": 1.0}, REGRESSION),
        ({"kind": "linear", "intercept": 0.0, "slope": 1.0}, BINARY),
    ],
)
def test_pages_of_the_newer_answers_that_do_not_fit(calibration: dict, head: dict) -> None:
    with pytest.raises(BundleError, match="calibration"):
        check_calibration(calibration, head)

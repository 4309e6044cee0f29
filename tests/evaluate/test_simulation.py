"""Does the verdict keep its word?  Two different models of equal true value, a truly better one, and how often an interval holds.

Fixed seeds; limits are three standard errors of the simulation below 95 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from meddx.evaluate.bootstrap import draw, interval
from meddx.evaluate.metrics import BinaryNumbers
from meddx.evaluate.verdict import difference, judge

pytestmark = pytest.mark.slow


def trial(seed: int, first: float, second: float, n: int, cases_a_patient: int = 1):
    """Two scores with their own noise, `first` and `second` standard deviations between the outcomes; the paired AUROC difference."""
    random = np.random.default_rng(seed)
    people = n // cases_a_patient
    labels = np.repeat(random.random(people) < 0.3, cases_a_patient)
    models = {}
    for name, apart in (("first", first), ("second", second)):
        own = 0.7 * np.repeat(random.normal(size=people), cases_a_patient) + np.sqrt(1 - 0.49) * random.normal(size=n)
        models[name] = BinaryNumbers(labels, norm.cdf(apart * labels + own))
    draws = draw(models, np.repeat(np.arange(people), cases_a_patient), 250, seed)
    points = {name: float(one(np.ones((1, n)))["auroc"][0]) for name, one in models.items()}
    pairs = {name: (points[name], draws[name]["auroc"]) for name in models}
    return points, draws, difference("auroc", pairs["first"], pairs["second"], "")


@pytest.mark.parametrize("cases_a_patient", [1, 3])
def test_equal_models_are_not_shown_to_be_better(cases_a_patient):
    """Of 200, at most 5 % + 3 standard errors are called different, and about half of that better."""
    words = [judge(*trial(seed, 1.2, 1.2, 240, cases_a_patient)[2], 0.01)["verdict"] for seed in range(200)]
    better = sum(word in ("better", "useful") for word in words)
    worse = sum(word == "worse" for word in words)
    assert better <= 12 and worse <= 12 and better + worse <= 19


def test_a_truly_better_model_is_found():
    words = [judge(*trial(seed, 2.0, 1.0, 300)[2], 0.01)["verdict"] for seed in range(40)]
    assert sum(word in ("better", "useful") for word in words) >= 38


def test_the_interval_of_an_auroc_holds_the_truth():
    truth = norm.cdf(1.2 / np.sqrt(2))
    held = 0
    for seed in range(200):
        _, draws, _ = trial(seed, 1.2, 1.2, 240)
        around = interval(draws["first"]["auroc"])
        held += around.low <= truth <= around.high
    assert 181 <= held <= 200


def test_cases_taken_as_patients_would_be_too_sure():
    """Twin: with three alike cases a patient, drawing cases instead of patients holds the truth clearly less often."""
    truth, held = norm.cdf(1.2 / np.sqrt(2)), {"patients": 0, "cases": 0}
    for seed in range(100):
        random = np.random.default_rng(seed)
        labels = np.repeat(random.random(60) < 0.4, 4)
        said = norm.cdf(1.2 * labels + np.repeat(random.normal(size=60), 4))
        for unit, patients in (("patients", np.repeat(np.arange(60), 4)), ("cases", np.arange(240))):
            around = interval(draw({"m": BinaryNumbers(labels, said)}, patients, 200, seed)["m"]["auroc"])
            held[unit] += around.low <= truth <= around.high
    assert held["patients"] >= 85 and held["cases"] <= 75

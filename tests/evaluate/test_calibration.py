"""Slope, intercept, bins and Wilson against other people's code and worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from meddx.evaluate import calibration
from meddx.evaluate.curves import curves, operating_point


def spread_out(seed: int = 0, n: int = 4000, stretch: float = 1.0, shift: float = 0.0):
    random = np.random.default_rng(seed)
    logit = random.normal(-0.5, 1.5, n)
    labels = (random.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    return labels, 1 / (1 + np.exp(-(stretch * logit + shift)))


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (3, 10), (10, 10), (96, 104)])
def test_wilson_as_scipy(hits, of):
    expected = binomtest(hits, of).proportion_ci(0.95, method="wilson")
    assert calibration.wilson(hits, of) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_of_nothing():
    assert np.isnan(calibration.wilson(0, 0)).all()


def test_slope_as_scikit_learn():
    labels, said = spread_out(stretch=1.7)
    found, around = calibration.slope(labels, said, np.arange(4000))
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(said / (1 - said))[:, None], labels)
    assert found == pytest.approx(float(fit.coef_[0, 0]), abs=1e-5)
    assert around.low < 1 / 1.7 < around.high and around.high < 1


def test_intercept_finds_the_shift_and_leaves_no_gap():
    labels, said = spread_out(shift=0.8)
    found, around = calibration.intercept(labels, said, np.arange(4000))
    assert around.low < -0.8 < around.high
    mended = 1 / (1 + np.exp(-(np.log(said / (1 - said)) + found)))
    assert mended.mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_repeated_patients_widen_the_interval_as_they_should():
    labels, said = spread_out(n=300)
    once = calibration.slope(labels, said, np.arange(300))
    again = np.repeat(np.arange(300), 4)
    clustered = calibration.slope(labels[again], said[again], again)
    naive = calibration.slope(labels[again], said[again], np.arange(1200))
    assert clustered[0] == pytest.approx(once[0], abs=1e-8)
    assert clustered[1].spread == pytest.approx(once[1].spread, rel=1e-3)
    assert naive[1].spread < 0.6 * once[1].spread


def test_slope_covers_one_when_calibrated():
    hits = 0
    for seed in range(200):
        labels, said = spread_out(seed, 400)
        around = calibration.slope(labels, said, np.arange(400))[1]
        hits += around.low <= 1 <= around.high
    assert 180 <= hits <= 199


@pytest.mark.parametrize(
    ("labels", "said", "why"),
    [([0, 1, 0, 1], [0.3] * 4, "all alike"), ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "separate"), ([1, 1, 1], [0.1, 0.5, 0.9], "one outcome")],
)
def test_no_slope_says_why(labels, said, why):
    found, around = calibration.slope(labels, said, np.arange(len(labels)))
    assert np.isnan(found) and why in around.reason


def test_certain_probabilities_do_not_crash():
    labels, said = spread_out(n=200)
    found, _ = calibration.slope(labels, np.round(said), np.arange(200))
    assert np.isfinite(found) and 0 < found < 0.2


def test_bins_hold_every_case_once_and_ties_together():
    labels, said = spread_out(n=1000)
    found = calibration.bins(labels, said)
    assert len(found) == 10 and all(one["cases"] == 100 for one in found)
    assert sum(one["seen"] * one["cases"] for one in found) == pytest.approx(labels.sum())
    tied = calibration.bins(labels, np.full(1000, 0.3))
    assert len(tied) == 1 and tied[0]["cases"] == 1000
    assert len(calibration.bins(labels[:20], said[:20])) == 1


def test_curves_are_small_and_true():
    labels, said = spread_out(n=4000)
    found = curves(labels, said)
    x, y = np.array(found["roc"]["x"]), np.array(found["roc"]["y"])
    assert len(x) <= 300 and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1) and (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    from sklearn.metrics import roc_auc_score

    assert float(np.trapezoid(y, x)) == pytest.approx(roc_auc_score(labels, said), abs=0.002)
    assert sum(found["histogram"]["with"]) == labels.sum() and sum(found["histogram"]["without"]) == (1 - labels).sum()


def test_curves_with_one_outcome_only():
    found = curves([0, 0, 0], [0.1, 0.2, 0.9])
    assert "roc" not in found and "pr" not in found and found["rate"] == 0
    assert operating_point([0, 0], [0, 1]) is None
    assert operating_point([0, 1, 1, 0], [1, 1, 0, 0]) == {"sensitivity": 0.5, "false_positive_rate": 0.5, "ppv": 0.5}

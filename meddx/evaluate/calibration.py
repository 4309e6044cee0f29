"""Probabilities and outcomes in, how far the probabilities can be believed out: slope, intercept, bins, Wilson.

Cox 1958, Van Calster 2016: slope b of logit(outcome) = a + b logit(p), 1 is right, below 1 is too extreme; intercept a of
logit(outcome) = a + logit(p), 0 is right.  Their intervals are Wald with errors that are robust to several cases a patient
(Liang and Zeger 1986).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.bootstrap import Interval
from meddx.evaluate.types import Floats, Ints

CLIP = 1e-12
STEPS = 60
FURTHEST = 50.0  # a slope or intercept beyond this means that the outcomes are separated
Z = 1.959964


def wilson(hits: float, of: float, z: float = Z) -> tuple[float, float]:
    """The interval of a proportion hits / of (Wilson 1927); NaN where `of` is 0."""
    if of <= 0:
        return float("nan"), float("nan")
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def slope(labels: ArrayLike, probabilities: ArrayLike, patients: Ints) -> tuple[float, Interval]:
    """The calibration slope and its interval; NaN with a reason where the fit does not exist."""
    logit = _logit(probabilities)
    if np.ptp(logit) < 1e-9:
        return float("nan"), Interval(reason="the probabilities are all alike")
    return _fit(np.stack([logit, np.ones_like(logit)], axis=1), np.zeros_like(logit), np.array([1.0, 0.0]), labels, patients)


def intercept(labels: ArrayLike, probabilities: ArrayLike, patients: Ints) -> tuple[float, Interval]:
    """The calibration intercept with the slope held at 1, and its interval."""
    logit = _logit(probabilities)
    return _fit(np.ones((len(logit), 1)), logit, np.zeros(1), labels, patients)


def bins(labels: ArrayLike, probabilities: ArrayLike, most: int = 10, at_least: int = 15) -> list[dict[str, float]]:
    """Bins of equal mass for the calibration curve: mean probability, share with the outcome and its Wilson interval, cases."""
    truth, said = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    count = int(np.clip(len(said) // at_least, 1, most))
    order = np.argsort(said, kind="stable")
    _, group, sizes = np.unique(said[order], return_inverse=True, return_counts=True)
    middle = (np.cumsum(sizes) - 0.5 * sizes)[group]  # equal probabilities stay together
    which = np.minimum((middle * count / len(said)).astype(int), count - 1)
    found = []
    for one in np.unique(which):
        rows = order[which == one]
        low, high = wilson(float(truth[rows].sum()), len(rows))
        found.append({"said": float(said[rows].mean()), "seen": float(truth[rows].mean()), "low": low, "high": high, "cases": len(rows)})
    return found


def _logit(probabilities: ArrayLike) -> Floats:
    sure = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    result: Floats = np.log(sure) - np.log1p(-sure)
    return result


def _fit(design: Floats, offset: Floats, start: Floats, labels: ArrayLike, patients: Ints) -> tuple[float, Interval]:
    """Logistic regression by Newton's method with step halving; the first coefficient, with its cluster-robust interval."""
    truth, beta = np.asarray(labels, dtype=np.float64), start
    if len(np.unique(truth)) < 2:
        return float("nan"), Interval(reason="there is one outcome only")
    for _ in range(STEPS):
        residual, inverse = _newton(design, offset, beta, truth)
        if inverse is None or np.abs(beta).max() > FURTHEST:
            return float("nan"), Interval(reason="the probabilities separate the outcomes without a fault")
        step = inverse @ (design.T @ residual)
        while np.abs(step).max() > 1e-12 and _loss(design, offset, beta + step, truth) > _loss(design, offset, beta, truth) + 1e-12:
            step = step / 2
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    residual, inverse = _newton(design, offset, beta, truth)
    if inverse is None:
        return float("nan"), Interval(reason="the probabilities separate the outcomes without a fault")
    spread = math.sqrt(_robust(design * residual[:, None], inverse, patients)[0, 0])
    return float(beta[0]), Interval(float(beta[0] - Z * spread), float(beta[0] + Z * spread), spread)


def _newton(design: Floats, offset: Floats, beta: Floats, truth: Floats) -> tuple[Floats, Any]:
    """Residuals [n] and the inverse information, or None where that is singular."""
    said = 0.5 * (1 + np.tanh(0.5 * (design @ beta + offset)))
    information = design.T @ (design * (said * (1 - said))[:, None])
    flat = not np.isfinite(information).all() or np.linalg.cond(information) > 1e14
    return truth - said, None if flat else np.linalg.inv(information)


def _loss(design: Floats, offset: Floats, beta: Floats, truth: Floats) -> float:
    linear = design @ beta + offset
    return float((np.logaddexp(0, linear) - truth * linear).sum())


def _robust(scores: Floats, inverse: Floats, patients: Ints) -> Floats:
    groups = int(patients.max()) + 1
    sums = np.stack([np.bincount(patients, column, groups) for column in scores.T], axis=1)
    result: Floats = inverse @ (sums.T @ sums) @ inverse * groups / max(1, groups - 1)
    return result

"""Logits and answers in, the numbers of a calibration out: one function for each way of calibrating."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import DataError

Floats = NDArray[np.float64]
SLOPES = (1e-3, 1e2)  # below: worse than chance, the order must still stand; above: separable, or hardly any spread
PRIOR_SD = 3.0  # of log temperature and biases; bounds them where a class is missing or the classes are separable
NARROWEST = 1e-9  # between two cumulative logits; a class of no width has no likelihood


def fit_logistic(scores: Floats, truth: NDArray[Any], name: str, *, with_intercept: bool) -> tuple[float, float, str]:
    """(intercept, slope, note) of P = sigmoid(intercept + slope * logit), the slope inside SLOPES.

    Platt, "Probabilistic outputs for support vector machines" (1999): maximum likelihood with the targets
    (P + 1) / (P + 2) and 1 / (N + 2), which keep separable data finite.  The likelihood is concave, so where the best slope
    lies outside SLOPES the nearest end is best.
    """
    positive = np.asarray(truth) > 0.5
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise DataError(
            f"calibration needs both answers, and {name!r} has {positives} positive and {negatives} negative cases",
            "the calibrate part",
            "give the calibrate part a larger share, or check target.positive and target.negative",
        )
    targets = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    if np.ptp(scores) <= 1e-9 * max(1.0, float(np.abs(scores).max())):
        return (_intercept(scores, targets) if with_intercept else 0.0), 1.0, "all logits are equal: the slope stays 1"
    slope = _slope(scores, targets) if with_intercept else _slope_alone(scores, targets)
    low, high = SLOPES
    note = ""
    if slope <= low:
        note = f"worse than chance in the calibrate part: slope held at {low:g}, so probabilities stay near the prevalence"
    elif slope >= high:
        note = f"the slope is held at {high:g}"
    slope = float(np.clip(slope, low, high))
    return (_intercept(slope * scores, targets) if with_intercept else 0.0), slope, note


def _slope(scores: Floats, targets: Floats) -> float:
    """The slope beside a free intercept, by Newton's method with halving on standardised logits."""
    centre, scale = float(scores.mean()), float(scores.std())
    design = np.stack([np.ones_like(scores), (scores - centre) / scale], axis=1)
    share = float(targets.mean())
    weights = np.array([np.log(share / (1 - share)), 0.0])
    loss = _loss(design @ weights, targets)
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        gradient = design.T @ (chance - targets) / len(targets)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design / len(targets) + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-8 and _loss(design @ (weights - size * step), targets) > loss:
            size /= 2
        weights = weights - size * step
        loss = min(loss, _loss(design @ weights, targets))
        if np.abs(size * step).max() < 1e-10 or size <= 1e-8:
            break
    return float(weights[1] / scale)


def _slope_alone(scores: Floats, targets: Floats) -> float:
    """The slope without an intercept: temperature scaling of one logit (Guo et al., ICML 2017), slope = 1 / temperature."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda log: _loss(np.exp(log) * scores, targets), bounds=np.log(SLOPES), method="bounded")
    return float(np.exp(found.x))


def _intercept(offsets: Floats, targets: Floats) -> float:
    """The intercept at which the mean probability equals the mean target; the mean grows with it, so one root."""
    from scipy.optimize import brentq
    from scipy.special import expit

    reach = float(np.abs(offsets).max()) + 50
    return float(brentq(lambda shift: float((expit(offsets + shift) - targets).mean()), -reach, reach, xtol=1e-12))


def _loss(scores: Floats, targets: Floats) -> float:
    """Mean cross-entropy of soft targets in nats."""
    return float((np.logaddexp(0, scores) - targets * scores).mean())


def fit_temperature(scores: Floats, truth: NDArray[Any], *, with_bias: bool = True) -> dict[str, Any]:
    """softmax(logits / temperature + bias), by L-BFGS on the log-likelihood with a weak normal prior (PRIOR_SD).

    Guo et al., "On calibration of modern neural networks" (ICML 2017) for the temperature; Alexandari et al., "Maximum
    likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation" (ICML 2020) for the bias.  The
    targets are Platt's, for two classes the same as in `fit_logistic`: (N + 1) / (N + 2) for the class of the case, N its
    number of cases, and the rest shared by the others.

    `with_bias` False: the temperature alone, for calibrating on few patients, whose own shares of the classes the biases would learn.
    On MIT-BIH's 22 records the log loss of records that neither fit had seen was lower in each of four models (.147 against .178 in one).
    """
    from scipy.optimize import minimize

    if len(scores) == 0 or len(np.unique(truth)) < 2:
        raise DataError("calibration needs cases of two classes or more", "the calibrate part", "give it a larger share")
    n, classes = scores.shape
    targets = _targets(truth, classes)

    def objective(weights: Floats) -> tuple[float, Floats]:
        slope, bias = np.exp(weights[0]), weights[1:]
        chance = softmax(slope * scores + bias)
        wrong = chance - targets
        loss = -(targets * np.log(np.maximum(chance, 1e-300))).sum() + (weights @ weights) / (2 * PRIOR_SD**2)
        gradient = np.concatenate([[(wrong * slope * scores).sum()], wrong.sum(axis=0)]) + weights / PRIOR_SD**2
        return float(loss) / n, gradient / n

    bounds = [tuple(np.log(SLOPES)), *[(None, None) if with_bias else (0.0, 0.0)] * classes]
    found = minimize(objective, np.zeros(classes + 1), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return _tempered(float(np.exp(-found.x[0])), [float(one) for one in found.x[1:]], classes - len(np.unique(truth)))


def _targets(truth: NDArray[Any], classes: int) -> Floats:
    """Platt's soft targets [n, classes]: (N + 1) / (N + 2) for the class of the case, the rest shared by the others."""
    rest = 1 / (np.bincount(truth, minlength=classes) + 2)[truth]
    targets = np.repeat(rest[:, None] / (classes - 1), classes, axis=1)
    targets[np.arange(len(truth)), truth] = 1 - rest
    return np.asarray(targets, np.float64)


def _tempered(temperature: float, bias: list[float], missing: int) -> dict[str, Any]:
    notes = [f"{missing} classes have no case in the calibrate part"] if missing else []
    if temperature >= 0.999 / SLOPES[0]:
        notes.append("worse than chance in the calibrate part: probabilities stay near the prevalence of each class")
    return {"kind": "temperature", "temperature": temperature, "bias": bias, "notes": notes}


def fit_cumulative(scores: Floats, truth: NDArray[Any]) -> dict[str, Any]:
    """cumulative logits / temperature + one shift for all of them, by L-BFGS with the prior and the targets of `fit_temperature`.

    `scores` [n, k-1] = log-odds of y > j (McCullagh, "Regression models for ordinal data", JRSS B 42 (1980) 109), `truth`
    int [n].  A shift for each threshold could cross two of them, and a class would get a negative probability; one keeps
    their order.  Raises DataError where the cases are all of one class.
    """
    from scipy.optimize import minimize

    if len(scores) == 0 or len(np.unique(truth)) < 2:
        raise DataError("calibration needs cases of two classes or more", "the calibrate part", "give it a larger share")
    n, classes = len(scores), scores.shape[1] + 1
    targets = _targets(truth, classes)

    def objective(weights: Floats) -> tuple[float, Floats]:
        logs, by_slope, by_shift = _cumulative_logs(scores, float(np.exp(weights[0])), float(weights[1]))
        loss = -(targets * logs).sum() + (weights @ weights) / (2 * PRIOR_SD**2)
        gradient = -np.array([(targets * by_slope).sum() * np.exp(weights[0]), (targets * by_shift).sum()]) + weights / PRIOR_SD**2
        return float(loss) / n, gradient / n

    found = minimize(objective, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[tuple(np.log(SLOPES)), (None, None)])
    bias = [float(found.x[1])] * (classes - 1)
    return _tempered(float(np.exp(-found.x[0])), bias, classes - len(np.unique(truth)))


def _cumulative_logs(scores: Floats, slope: float, shift: float) -> tuple[Floats, Floats, Floats]:
    """(log probability [n, k] of each class, its derivatives by the slope and by the shift) of logits slope * scores + shift.

    sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)): no difference of numbers that are nearly equal.
    """
    from scipy.special import expit

    logits = slope * scores + shift
    above, below = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)  # log P(y > j), log P(y <= j)
    gap = np.maximum(-np.diff(scores, axis=1), NARROWEST)  # between neighbours, before the slope
    nothing = np.zeros((len(scores), 1))
    logs = np.hstack([nothing, above]) + np.hstack([below, nothing])
    logs[:, 1:-1] += np.log(-np.expm1(-slope * gap))
    by_logit_above, by_logit_below = expit(-logits), -expit(logits)
    by_shift = np.hstack([nothing, by_logit_above]) + np.hstack([by_logit_below, nothing])
    by_slope = np.hstack([nothing, by_logit_above * scores]) + np.hstack([by_logit_below * scores, nothing])
    by_slope[:, 1:-1] += gap / np.expm1(np.minimum(slope * gap, 700))
    return logs, by_slope, by_shift


def fit_linear(values: Floats, truth: Floats) -> dict[str, Any]:
    """intercept + slope * value by least squares, in the units of the target; the slope inside SLOPES, so the order stands.

    Raises DataError with fewer than three cases, or an answer that is not finite.
    """
    if len(values) < 3 or not np.isfinite(truth).all():
        raise DataError(
            f"calibration of a number needs three cases with finite answers or more, and there are {int(np.isfinite(truth).sum())}",
            "the calibrate part",
            "give it a larger share",
        )
    centre, middle = float(values.mean()), float(truth.mean())
    spread = values - centre
    if np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return {"kind": "linear", "intercept": middle - centre, "slope": 1.0, "notes": ["all predictions are equal: the slope stays 1"]}
    slope = float(spread @ (truth - middle) / (spread @ spread))
    low, high = SLOPES
    notes = [f"worse than the mean in the calibrate part: the slope is held at {low:g}"] if slope <= low else []
    notes += [f"the slope is held at {high:g}"] if slope >= high else []
    slope = float(np.clip(slope, low, high))
    return {"kind": "linear", "intercept": middle - slope * centre, "slope": slope, "notes": notes}


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True)) if scores.size else scores
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)

"""Logits and answers in, a calibration out; logits and a calibration in, probabilities out.

All functions are pure.  A calibration is JSON: {"kind": "none"}, {"kind": "logistic", "intercept": [k], "slope": [k],
"notes": [...]} or {"kind": "temperature", "temperature": t, "bias": [classes], "notes": [...]}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import BundleError, DataError, RecipeError

if TYPE_CHECKING:
    from meddx.dataset.target import Labels
    from meddx.predict.options import Calibration

Floats = NDArray[np.float64]
SLOPES = (1e-3, 1e2)  # below: worse than chance, the order must still stand; above: separable, or hardly any spread
PRIOR_SD = 3.0  # of log temperature and biases; bounds them where a class is missing or the classes are separable


def default_kind(head: Mapping[str, Any]) -> Calibration:
    """logistic for binary and multilabel, temperature for multiclass."""
    return "temperature" if head["kind"] == "multiclass" else "logistic"


def fit_calibration(kind: Calibration | None, head: Mapping[str, Any], logits: NDArray[Any], labels: Labels) -> dict[str, Any]:
    """A calibration fitted on the calibrate part.

    `logits` [n, k] (binary k = 1); `labels` with unknown ones masked.  `kind` None: the head's default.  `temperature` on a
    binary or multilabel head fits the slope alone.  Raises DataError where an answer has one class only, or a logit is not
    finite, and RecipeError for `logistic` on a multiclass head.
    """
    kind = kind or default_kind(head)
    if kind == "none":
        return {"kind": "none"}
    scores = _checked(head, logits)
    if head["kind"] == "multiclass":
        if kind == "logistic":
            raise RecipeError("calibration logistic is for binary and multilabel answers", "calibration", "use temperature, or none")
        return _fit_temperature(scores[labels.known], np.asarray(labels.values)[labels.known])
    truth, known = labels.values.reshape(scores.shape), labels.known.reshape(scores.shape)
    intercepts, slopes, notes = [], [], []
    for column, name in enumerate(_answers(head)):
        rows = known[:, column]
        intercept, slope, note = _fit_logistic(scores[rows, column], truth[rows, column], name, with_intercept=kind == "logistic")
        intercepts.append(intercept)
        slopes.append(slope)
        notes += [f"{name}: {note}"] if note else []
    return {"kind": "logistic", "intercept": intercepts, "slope": slopes, "notes": notes}


def apply_calibration(calibration: Mapping[str, Any], head: Mapping[str, Any], logits: NDArray[Any]) -> Floats:
    """Calibrated probabilities: binary [n, 1] = P(positive), multilabel [n, labels], multiclass [n, classes] adding up to 1."""
    from scipy.special import expit

    scores = np.asarray(logits, np.float64)
    kind = calibration["kind"]
    if head["kind"] == "multiclass":
        if kind == "temperature":
            scores = scores / calibration["temperature"] + np.asarray(calibration["bias"])
        return _softmax(scores)
    if kind == "logistic":
        scores = scores * np.asarray(calibration["slope"]) + np.asarray(calibration["intercept"])
    return np.asarray(expit(scores), np.float64)


def check_calibration(calibration: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Raises BundleError where `apply_calibration` could not use it: an unknown kind, a wrong length, no numbers, a slope of 0."""
    kind = calibration.get("kind")
    allowed = ("none", "temperature") if head["kind"] == "multiclass" else ("none", "logistic")
    if kind not in allowed:
        raise BundleError(f"the calibration {str(kind)[:40]!r} is not known", "bundle.json", "use the meddx that wrote the bundle")
    if kind == "none":
        return
    width = len(_answers(head))
    lists = [calibration.get("bias")] if kind == "temperature" else [calibration.get("slope"), calibration.get("intercept")]
    steep = [calibration.get("temperature")] if kind == "temperature" else calibration.get("slope")
    if any(not isinstance(one, list) or len(one) != width or not _all_numbers(one) for one in lists) or not _all_numbers(steep, above=0):
        raise BundleError(f"the calibration does not fit a {head['kind']} answer", "bundle.json", "make the bundle again")


def _all_numbers(values: Any, above: float = -np.inf) -> bool:
    return all(isinstance(one, int | float) and above < one < np.inf for one in values)


def _answers(head: Mapping[str, Any]) -> list[str]:
    """What each number is about: binary the positive class, else every class or label."""
    return [head["classes"][1]] if head["kind"] == "binary" else list(head["classes"])


def _checked(head: Mapping[str, Any], logits: NDArray[Any]) -> Floats:
    scores = np.asarray(logits, np.float64)
    width = 1 if head["kind"] == "binary" else len(head["classes"])
    if scores.ndim != 2 or scores.shape[1] != width:
        raise DataError(f"logits of the shape {scores.shape} do not fit an answer of {width} numbers", "calibration")
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).any(axis=1).sum())} cases have logits that are not finite", "calibration")
    return scores


def _fit_logistic(scores: Floats, truth: NDArray[Any], name: str, *, with_intercept: bool) -> tuple[float, float, str]:
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


def _fit_temperature(scores: Floats, truth: NDArray[Any]) -> dict[str, Any]:
    """softmax(logits / temperature + bias), by L-BFGS on the log-likelihood with a weak normal prior (PRIOR_SD).

    Guo et al., "On calibration of modern neural networks" (ICML 2017) for the temperature; Alexandari et al., "Maximum
    likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation" (ICML 2020) for the bias.  The
    targets are Platt's, for two classes the same as in `_fit_logistic`: (N + 1) / (N + 2) for the class of the case, N its
    number of cases, and the rest shared by the others.
    """
    from scipy.optimize import minimize

    if len(scores) == 0 or len(np.unique(truth)) < 2:
        raise DataError("calibration needs cases of two classes or more", "the calibrate part", "give it a larger share")
    n, classes = scores.shape
    rest = 1 / (np.bincount(truth, minlength=classes) + 2)[truth]
    targets = np.repeat(rest[:, None] / (classes - 1), classes, axis=1)
    targets[np.arange(n), truth] = 1 - rest

    def objective(weights: Floats) -> tuple[float, Floats]:
        slope, bias = np.exp(weights[0]), weights[1:]
        chance = _softmax(slope * scores + bias)
        wrong = chance - targets
        loss = -(targets * np.log(np.maximum(chance, 1e-300))).sum() + (weights @ weights) / (2 * PRIOR_SD**2)
        gradient = np.concatenate([[(wrong * slope * scores).sum()], wrong.sum(axis=0)]) + weights / PRIOR_SD**2
        return float(loss) / n, gradient / n

    bounds = [tuple(np.log(SLOPES)), *[(None, None)] * classes]
    found = minimize(objective, np.zeros(classes + 1), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    temperature = float(np.exp(-found.x[0]))
    missing = classes - len(np.unique(truth))
    notes = [f"{missing} classes have no case in the calibrate part"] if missing else []
    if temperature >= 0.999 / SLOPES[0]:
        notes.append("worse than chance in the calibrate part: probabilities stay near the prevalence of each class")
    return {"kind": "temperature", "temperature": temperature, "bias": [float(one) for one in found.x[1:]], "notes": notes}


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True)) if scores.size else scores
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)

"""Logits and answers in, a calibration out; logits and a calibration in, probabilities out.

All functions are pure.  A calibration is JSON, by kind of answer (k classes or labels):

    all           {"kind": "none"}
    binary        {"kind": "logistic", "intercept": [1], "slope": [1], "notes": [...]}
    multilabel    {"kind": "logistic", "intercept": [k], "slope": [k], "notes": [...]}
    multiclass    {"kind": "temperature", "temperature": t, "bias": [k], "notes": [...]}
    ordinal       {"kind": "temperature", "temperature": t, "bias": [k-1], "notes": [...]}, of the cumulative logits
    regression    {"kind": "linear", "intercept": a, "slope": b, "notes": [...]}, in the units of the target

Each may hold `absent`, pages of the same kind by what a case lacks: see patterns.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import BundleError, DataError, RecipeError
from meddx.predict.fits import SLOPES as SLOPES
from meddx.predict.fits import fit_cumulative, fit_linear, fit_logistic, fit_temperature, softmax

if TYPE_CHECKING:
    from meddx.dataset.target import Labels
    from meddx.predict.options import Calibration

Floats = NDArray[np.float64]
# the first is what a kind of answer gets where the recipe says nothing
FITTING: dict[str, tuple[Calibration, ...]] = {
    "binary": ("logistic", "temperature", "none"),
    "multilabel": ("logistic", "temperature", "none"),
    "multiclass": ("temperature", "slope", "none"),
    "ordinal": ("temperature", "none"),
    "regression": ("linear", "none"),
    "tags": ("none",),
}


def default_kind(head: Mapping[str, Any]) -> Calibration:
    """logistic for binary and multilabel, temperature for multiclass and ordinal, linear for regression, none for tags."""
    return FITTING[head["kind"]][0]


def n_logits(head: Mapping[str, Any]) -> int:
    """Columns of the logits: binary and regression 1, ordinal one less than classes, else one a class or label; tags: for T tags
    one a word and tag, and T * T + 2 * T of the chain."""
    if head["kind"] == "tags":
        tags = 2 * len(head["classes"]) + 1
        return int(head["tokens"]) * tags + tags * tags + 2 * tags
    return {"binary": 1, "regression": 1, "ordinal": len(head["classes"]) - 1}.get(head["kind"], len(head["classes"]))


def fit_calibration(kind: Calibration | None, head: Mapping[str, Any], logits: NDArray[Any], labels: Labels) -> dict[str, Any]:
    """A calibration fitted on the calibrate part.

    `logits` [n, k] (binary k = 1); `labels` with unknown ones masked.  `kind` None: the head's default.  `temperature` on a
    binary or multilabel head fits the slope alone, `slope` on a multiclass one the temperature alone.  Raises DataError where an
    answer has one class only, or a logit is not finite, and RecipeError for a kind that does not fit the head, such as `logistic`
    on a multiclass one.
    """
    kind = kind or default_kind(head)
    if kind not in FITTING[head["kind"]]:
        allowed = " or ".join(FITTING[head["kind"]])
        raise RecipeError(f"calibration {kind} is not for {head['kind']} answers", "calibration", f"use {allowed}")
    if kind == "none":
        return {"kind": "none"}
    scores = _checked(head, logits)
    if head["kind"] in ("multiclass", "ordinal"):
        truth = np.asarray(labels.values)[labels.known].astype(np.int64)
        if head["kind"] == "multiclass":
            return fit_temperature(scores[labels.known], truth, with_bias=kind != "slope")
        return fit_cumulative(np.minimum.accumulate(scores[labels.known], axis=1), truth)  # in order, as the head reads them
    if head["kind"] == "regression":
        rows = labels.known.reshape(-1)
        return fit_linear(_probabilities(head, scores)[rows, 0], np.asarray(labels.values, np.float64).reshape(-1)[rows])
    truth, known = labels.values.reshape(scores.shape), labels.known.reshape(scores.shape)
    intercepts, slopes, notes = [], [], []
    for column, name in enumerate(_answers(head)):
        rows = known[:, column]
        intercept, slope, note = fit_logistic(scores[rows, column], truth[rows, column], name, with_intercept=kind == "logistic")
        intercepts.append(intercept)
        slopes.append(slope)
        notes += [f"{name}: {note}"] if note else []
    return {"kind": "logistic", "intercept": intercepts, "slope": slopes, "notes": notes}


def apply_calibration(calibration: Mapping[str, Any], head: Mapping[str, Any], logits: NDArray[Any]) -> Floats:
    """Calibrated answers: binary [n, 1] = P(positive), multilabel [n, labels], multiclass and ordinal [n, classes] adding up
    to 1, regression [n, 1] = the value in the units of the target, tags the logits as they are."""
    from scipy.special import expit

    scores = np.asarray(logits, np.float64)
    kind = calibration["kind"]
    if kind == "temperature":
        scores = scores / calibration["temperature"] + np.asarray(calibration["bias"])
    if head["kind"] == "multiclass":
        return softmax(scores)
    if head["kind"] == "tags":
        return scores
    if head["kind"] in ("ordinal", "regression"):
        values = _probabilities(head, scores)
        return calibration["intercept"] + calibration["slope"] * values if kind == "linear" else values
    if kind == "logistic":
        scores = scores * np.asarray(calibration["slope"]) + np.asarray(calibration["intercept"])
    return np.asarray(expit(scores), np.float64)


def _probabilities(head: Mapping[str, Any], scores: Floats) -> Floats:
    """What the head makes of logits; a regression's values in the units of the target."""
    from meddx.models.heads import make_head

    return np.asarray(make_head(head).probabilities(scores), np.float64)


def check_calibration(calibration: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Raises BundleError where `apply_calibration` could not use it: an unknown kind, a wrong length, no numbers, a slope of 0.

    The pages under `absent` are held to the same.
    """
    patterns = calibration.get("absent", {})
    if not isinstance(patterns, dict) or not all(isinstance(page, dict) and "absent" not in page for page in patterns.values()):
        raise BundleError("the calibrations of cases that lack something are not pages", "bundle.json", "make the bundle again")
    for page in (calibration, *patterns.values()):
        _check_page(page, head)


def _check_page(calibration: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    kind = calibration.get("kind")
    written = {"binary": "logistic", "multilabel": "logistic", "regression": "linear", "tags": "none"}.get(head["kind"], "temperature")
    if kind not in ("none", written):
        raise BundleError(f"the calibration {str(kind)[:40]!r} is not known", "bundle.json", "use the meddx that wrote the bundle")
    if kind == "none":
        return
    shifts: Any
    steep: Any
    if kind == "linear":
        shifts, steep, good = [calibration.get("intercept")], [calibration.get("slope")], True
    elif kind == "temperature":
        shifts, steep = calibration.get("bias"), [calibration.get("temperature")]
        good = head["kind"] != "ordinal" or _never_rises(shifts)
    else:
        shifts, steep = calibration.get("intercept"), calibration.get("slope")
        good = isinstance(steep, list) and len(steep) == n_logits(head)
    good = good and isinstance(shifts, list) and len(shifts) == n_logits(head)
    if not good or not _all_numbers(shifts) or not _all_numbers(steep, above=0):
        raise BundleError(f"the calibration does not fit a {head['kind']} answer", "bundle.json", "make the bundle again")


def _never_rises(shifts: Any) -> bool:
    """Whether cumulative logits that fall from class to class still do with these shifts."""
    return isinstance(shifts, list) and _all_numbers(shifts) and all(a >= b for a, b in zip(shifts, shifts[1:], strict=False))


def _all_numbers(values: Any, above: float = -np.inf) -> bool:
    return all(isinstance(one, int | float) and above < one < np.inf for one in values)


def _answers(head: Mapping[str, Any]) -> list[str]:
    """What each number is about: binary the positive class, else every class or label."""
    return [head["classes"][1]] if head["kind"] == "binary" else list(head["classes"])


def _checked(head: Mapping[str, Any], logits: NDArray[Any]) -> Floats:
    scores = np.asarray(logits, np.float64)
    width = n_logits(head)
    if scores.ndim != 2 or scores.shape[1] != width:
        raise DataError(f"logits of the shape {scores.shape} do not fit an answer of {width} numbers", "calibration")
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).any(axis=1).sum())} cases have logits that are not finite", "calibration")
    return scores

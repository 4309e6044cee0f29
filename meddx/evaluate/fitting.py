"""A kind of answer in, the metrics that fit it and their names out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from meddx.errors import RecipeError
from meddx.evaluate.metrics import MACRO, METRICS, NAMES
from meddx.evaluate.options import ComparisonOptions, Metric
from meddx.evaluate.regression import REGRESSION_METRICS
from meddx.evaluate.spans import SPAN_METRICS
from meddx.evaluate.types import CLASSED

_CLASSED = (*(one for one in METRICS if one not in ("f1", "min_se_ppv")), "macro_f1")
_FITTING = {
    "binary": METRICS,
    "multiclass": _CLASSED,
    "multilabel": _CLASSED,
    "ordinal": ("kappa", "mae", *_CLASSED),
    "regression": REGRESSION_METRICS,
    "tags": SPAN_METRICS,
}
# Over classes it is the mean sensitivity, which the table has anyway; it is shown where it was asked for.
_TWICE = frozenset({"balanced_accuracy"})


def metrics_of(kind: str) -> tuple[str, ...]:
    """The metrics that fit this kind of answer, in the order of the table."""
    return _FITTING[kind]


def metrics_shown(kind: str, options: ComparisonOptions) -> tuple[str, ...]:
    """The rows of the table: the primary metric and `also`, or all that fit and do not say the same twice."""
    asked = {options.primary.metric, *options.also}
    if options.also:
        return tuple(one for one in metrics_of(kind) if one in asked)
    return tuple(one for one in metrics_of(kind) if one in asked or kind not in CLASSED or one not in _TWICE)


def metric_name(kind: str, metric: str) -> str:
    """What a number is called: `macro` before those that are averages over classes or labels."""
    if kind in CLASSED and metric == "balanced_accuracy":
        return NAMES[metric]
    averaged = kind == "multilabel" or (kind in CLASSED and metric in MACRO)
    return f"macro {NAMES[metric]}" if averaged and metric != "macro_f1" else NAMES[metric]


def check_metrics(kind: str, classes: Sequence[str], options: ComparisonOptions) -> None:
    """RecipeError for a metric that does not fit this kind of answer, or a class that there is not; it needs no data."""
    fitting = metrics_of(kind)
    sayable = [one for one in fitting if one in get_args(Metric)]
    for where, metrics in (("comparison.primary.metric", (options.primary.metric,)), ("comparison.also", options.also)):
        for metric in metrics:
            if metric not in fitting:
                raise RecipeError(f"{where}: {metric} does not fit a {kind} answer", where, f"one that does: {', '.join(sayable)}")
    if options.classes and kind in ("binary", "regression", "tags"):
        raise RecipeError(f"comparison.classes: a {kind} answer has no averages over classes", "comparison.classes", "leave it out")
    gone = [one for one in options.classes if one not in classes]
    if gone:
        raise RecipeError(f"comparison.classes: no class {gone[0]!r}", "comparison.classes", f"there are: {', '.join(classes)}")

"""Many classes or many labels in, the same numbers out: averages over one-against-the-rest.

An average (macro) runs over the classes that the cases can speak about: those seen both with and without, and of these over
the ones that were named, where some were.  The list is fixed on the whole part, so that every model and every resample
averages over the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.fitting import metric_name as metric_name
from meddx.evaluate.fitting import metrics_of as metrics_of
from meddx.evaluate.metrics import EPSILON, MACRO, METRICS, NEEDS_DECISIONS, BinaryNumbers, Numbers
from meddx.evaluate.ranked import Cumulative, Ranking, calibration_error
from meddx.evaluate.regression import RegressionNumbers
from meddx.evaluate.spans import SpanNumbers, span_counts
from meddx.evaluate.types import Bools, Floats, ModelScores, Truth

PER_CLASS = ("sensitivity", "ppv", "f1")


class MulticlassNumbers:
    """`classes_of` [n] class numbers, `probabilities` [n, k], `decisions` [n] class numbers or None.

    auroc, auprc, sensitivity, specificity, ppv, macro_f1: mean over classes, one against the rest.  balanced_accuracy: mean
    sensitivity.  brier: sum over classes (Brier 1950, from 0 to 2).  ece and in_the_large: of the most probable class and whether
    it was right.  `averaged` names the classes of the averages; all other numbers are of all classes.
    """

    def __init__(
        self,
        classes_of: ArrayLike,
        probabilities: ArrayLike,
        decisions: ArrayLike | None,
        names: Sequence[str],
        averaged: Sequence[str] = (),
    ) -> None:
        values = np.asarray(classes_of, dtype=np.int64)
        said = np.asarray(probabilities, dtype=np.float64)
        decided = None if decisions is None else np.asarray(decisions, dtype=np.int64)
        self.names, self.decisions = tuple(names), decided
        self.each = [BinaryNumbers(values == j, said[:, j], None if decided is None else decided == j) for j in range(said.shape[1])]
        truth = (values[:, None] == np.arange(said.shape[1])).astype(np.float64)
        self.known: Bools = np.ones(truth.shape, dtype=bool)
        self.usable = usable_classes(truth == 1, self.known) & named(names, averaged)
        self._per_class = PerClass(truth, self.known, None if decided is None else decided[:, None] == np.arange(said.shape[1]))
        chosen = np.clip(said[np.arange(len(values)), values], EPSILON, 1 - EPSILON)
        right = np.full(len(values), np.nan) if decided is None else (decided == values).astype(np.float64)
        self._top = said.max(axis=1)
        self._top_right = (said.argmax(axis=1) == values).astype(np.float64)
        self._ranking = Ranking.of(self._top)
        self._columns = np.stack(
            [np.ones(len(values)), right, ((said - truth) ** 2).sum(axis=1), -np.log(chosen), self._top - self._top_right], axis=1
        )

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        total, right, squares, loss, gap = (weights @ self._columns).T
        each = [self.each[j].rates(weights) for j in np.flatnonzero(self.usable)]
        cumulative = Cumulative.of(self._ranking, self._top_right, self._top, weights)
        macro = {name: _mean(each, name, len(weights)) for name in MACRO}
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                **self._per_class(weights),
                **macro,
                "balanced_accuracy": macro["sensitivity"],
                "macro_f1": _mean(each, "f1", len(weights)),
                "accuracy": right / total,
                "brier": squares / total,
                "log_loss": loss / total,
                "ece": calibration_error(cumulative),
                "in_the_large": gap / total,
            }

    def why_undefined(self, metric: str) -> str:
        return _why(self, metric)


class OrdinalNumbers(MulticlassNumbers):
    """MulticlassNumbers of classes in order, and what counts how far off a decision is, in class numbers.

    kappa: Cohen (1968) with weights (i - j)^2 / (k - 1)^2, written with moments: 1 - E(y - d)^2 / E(y - d')^2, where d' is drawn
    from the decisions without regard to y.  mae: E|y - d|.
    """

    def __init__(
        self,
        classes_of: ArrayLike,
        probabilities: ArrayLike,
        decisions: ArrayLike | None,
        names: Sequence[str],
        averaged: Sequence[str] = (),
    ) -> None:
        super().__init__(classes_of, probabilities, decisions, names, averaged)
        truth = np.asarray(classes_of, dtype=np.float64)
        decided = np.full_like(truth, np.nan) if self.decisions is None else self.decisions.astype(np.float64)
        off = truth - decided
        self._moments = np.stack([np.ones_like(truth), truth, decided, truth**2 + decided**2, off**2, np.abs(off)], axis=1)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        total, truth, decided, squares, off, distance = (weights @ self._moments).T
        by_chance = total * squares - 2 * truth * decided  # of whole numbers, so 0 is exactly 0
        with np.errstate(invalid="ignore", divide="ignore"):
            ordered = {"kappa": 1 - total * off / by_chance, "mae": distance / total}
        return {**super().__call__(weights), **ordered}

    def why_undefined(self, metric: str) -> str:
        if metric == "kappa" and self.decisions is not None:
            return "all cases are of one class, and all were decided to be of it"
        return super().why_undefined(metric)


class PerClass:
    """Sensitivity, PPV and F1 of each class or label j as `sensitivity/j`, `ppv/j`, `f1/j`, also of those that no average holds.

    `truth` [n, k] of 0 and 1, `known` [n, k], `decided` [n, k] or None.
    """

    def __init__(self, truth: Floats, known: Bools, decided: ArrayLike | None) -> None:
        chosen = np.full(truth.shape, np.nan) if decided is None else np.asarray(decided, dtype=np.float64)
        self.count = truth.shape[1]
        self._columns = np.concatenate([np.where(known, one, 0.0) for one in (truth, chosen, truth * chosen)], axis=1)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        with_it, decided, hits = np.split(weights @ self._columns, 3, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {"sensitivity": hits / with_it, "ppv": hits / decided, "f1": 2 * hits / (with_it + decided)}
        return {f"{metric}/{j}": found[metric][:, j] for metric in PER_CLASS for j in range(self.count)}


class MultilabelNumbers:
    """`values` [n, k] of 0 and 1, `known` [n, k], `probabilities` [n, k], `decisions` [n, k] or None: each number is a mean over
    labels, and an unknown label is left out of its label's number."""

    def __init__(
        self,
        values: ArrayLike,
        known: ArrayLike,
        probabilities: ArrayLike,
        decisions: ArrayLike | None,
        names: Sequence[str],
        averaged: Sequence[str] = (),
    ) -> None:
        self.known: Bools = np.asarray(known, dtype=bool)
        truth = np.where(self.known, np.asarray(values, dtype=np.float64), 0.0)
        said = np.asarray(probabilities, dtype=np.float64)
        self.names, self.decisions = tuple(names), None if decisions is None else np.asarray(decisions, dtype=np.float64)
        self.each = [
            BinaryNumbers(truth[:, j], said[:, j], None if self.decisions is None else self.decisions[:, j]) for j in range(said.shape[1])
        ]
        self.usable = usable_classes(np.asarray(truth == 1), self.known) & named(names, averaged)
        self._per_class = PerClass(truth, self.known, self.decisions)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        each = [self.each[j](weights * self.known[:, j]) for j in np.flatnonzero(self.usable)]
        numbers = {name: _mean(each, name, len(weights)) for name in (*METRICS, "in_the_large")}
        return {**self._per_class(weights), **numbers, "macro_f1": _mean(each, "f1", len(weights))}

    def why_undefined(self, metric: str) -> str:
        return _why(self, metric)


def numbers_for(truth: Truth, scores: ModelScores, rows: Bools, averaged: Sequence[str] = ()) -> Numbers:
    """The numbers of one model on the chosen `rows` [n] of the cases; `averaged` names the classes of the averages, none: all."""
    if truth.kind == "tags":
        spans = np.asarray(truth.values)[rows], np.asarray(scores.probabilities)[rows]
        return SpanNumbers(span_counts(*spans, len(truth.classes)))
    said = np.asarray(scores.probabilities, dtype=np.float64)[rows]
    decided = None if scores.decisions is None else np.asarray(scores.decisions)[rows]
    values, known = np.asarray(truth.values)[rows], np.asarray(truth.known)[rows]
    if truth.kind == "binary":
        return BinaryNumbers(values, said.reshape(len(said)), None if decided is None else decided.reshape(len(said)))
    if truth.kind == "regression":
        low, high = (None if one is None else np.asarray(one, dtype=np.float64)[rows] for one in (scores.low, scores.high))
        return RegressionNumbers(values, said.reshape(len(said)), low, high)
    if truth.kind == "multilabel":
        return MultilabelNumbers(values, known, said, decided, truth.classes, averaged)
    one_class = OrdinalNumbers if truth.kind == "ordinal" else MulticlassNumbers
    return one_class(values, said, decided, truth.classes, averaged)


def named(names: Sequence[str], averaged: Sequence[str]) -> Bools:
    """[k]: the classes that averages run over: those named, or all where none is."""
    return np.array([not averaged or name in averaged for name in names], dtype=bool)


def usable_classes(positive: Bools, known: Bools) -> Bools:
    """[k]: the classes seen both with and without among the known cases; `positive` and `known` are [n, k]."""
    return np.asarray((positive & known).any(axis=0) & (~positive & known).any(axis=0))


def _mean(each: Sequence[dict[str, Floats]], name: str, count: int) -> Floats:
    if not each:
        return np.full(count, np.nan)
    result: Floats = np.mean([one[name] for one in each], axis=0)
    return result


def _why(numbers: MulticlassNumbers | MultilabelNumbers, metric: str) -> str:
    if metric in NEEDS_DECISIONS and numbers.decisions is None:
        return "it makes no decisions"
    if not numbers.usable.any():
        return "no class is seen both with and without"
    if metric == "ppv":
        for j in np.flatnonzero(numbers.usable):
            decisions = numbers.each[j].decisions
            if decisions is not None and not decisions.any():
                return f"no case was decided to be {numbers.names[j]}"
    return "not defined on these cases"

"""Many classes or many labels in, the same numbers out: averages over one-against-the-rest.

An average (macro) runs over the classes that the cases can speak about: those seen both with and without.  The list is
fixed on the whole part, so that every model and every resample averages over the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.metrics import EPSILON, METRICS, NAMES, NEEDS_DECISIONS, BinaryNumbers, Numbers
from meddx.evaluate.ranked import Cumulative, Ranking, calibration_error
from meddx.evaluate.types import Bools, Floats, ModelScores, Truth

MULTI_METRICS = (*METRICS, "macro_f1")
MACRO = ("auroc", "auprc", "sensitivity", "specificity", "ppv")


class MulticlassNumbers:
    """`classes_of` [n] class numbers, `probabilities` [n, k], `decisions` [n] class numbers or None.

    auroc, auprc, sensitivity, specificity, ppv, macro_f1: mean over classes, one against the rest.  brier: sum over classes
    (Brier 1950, from 0 to 2).  ece and in_the_large: of the most probable class and whether it was right.
    """

    def __init__(self, classes_of: ArrayLike, probabilities: ArrayLike, decisions: ArrayLike | None, names: Sequence[str]) -> None:
        values = np.asarray(classes_of, dtype=np.int64)
        said = np.asarray(probabilities, dtype=np.float64)
        decided = None if decisions is None else np.asarray(decisions, dtype=np.int64)
        self.names, self.decisions = tuple(names), decided
        self.each = [BinaryNumbers(values == j, said[:, j], None if decided is None else decided == j) for j in range(said.shape[1])]
        truth = (values[:, None] == np.arange(said.shape[1])).astype(np.float64)
        self.known: Bools = np.ones(truth.shape, dtype=bool)
        self.usable = usable_classes(truth == 1, self.known)
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
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                **{name: _mean(each, name, len(weights)) for name in MACRO},
                "macro_f1": _mean(each, "f1", len(weights)),
                "accuracy": right / total,
                "brier": squares / total,
                "log_loss": loss / total,
                "ece": calibration_error(cumulative),
                "in_the_large": gap / total,
            }

    def why_undefined(self, metric: str) -> str:
        return _why(self, metric)


class MultilabelNumbers:
    """`values` [n, k] of 0 and 1, `known` [n, k], `probabilities` [n, k], `decisions` [n, k] or None: each number is a mean over
    labels, and an unknown label is left out of its label's number."""

    def __init__(
        self, values: ArrayLike, known: ArrayLike, probabilities: ArrayLike, decisions: ArrayLike | None, names: Sequence[str]
    ) -> None:
        self.known: Bools = np.asarray(known, dtype=bool)
        truth = np.where(self.known, np.asarray(values, dtype=np.float64), 0.0)
        said = np.asarray(probabilities, dtype=np.float64)
        self.names, self.decisions = tuple(names), None if decisions is None else np.asarray(decisions, dtype=np.float64)
        self.each = [
            BinaryNumbers(truth[:, j], said[:, j], None if self.decisions is None else self.decisions[:, j]) for j in range(said.shape[1])
        ]
        self.usable = usable_classes(np.asarray(truth == 1), self.known)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        each = [self.each[j](weights * self.known[:, j]) for j in np.flatnonzero(self.usable)]
        numbers = {name: _mean(each, name, len(weights)) for name in (*METRICS, "in_the_large")}
        return {**numbers, "macro_f1": _mean(each, "f1", len(weights))}

    def why_undefined(self, metric: str) -> str:
        return _why(self, metric)


def numbers_for(truth: Truth, scores: ModelScores, rows: Bools) -> Numbers:
    """The numbers of one model on the chosen `rows` [n] of the cases."""
    said = np.asarray(scores.probabilities, dtype=np.float64)[rows]
    decided = None if scores.decisions is None else np.asarray(scores.decisions)[rows]
    values, known = np.asarray(truth.values)[rows], np.asarray(truth.known)[rows]
    if truth.kind == "binary":
        return BinaryNumbers(values, said.reshape(len(said)), None if decided is None else decided.reshape(len(said)))
    if truth.kind == "multiclass":
        return MulticlassNumbers(values, said, decided, truth.classes)
    return MultilabelNumbers(values, known, said, decided, truth.classes)


def metrics_of(kind: str) -> tuple[str, ...]:
    """The metrics that a table of this kind of answer shows."""
    return METRICS if kind == "binary" else MULTI_METRICS


def metric_name(kind: str, metric: str) -> str:
    """What a number is called: `macro` before those that are averages over classes or labels."""
    averaged = kind == "multilabel" or (kind == "multiclass" and metric in MACRO)
    return f"macro {NAMES[metric]}" if averaged and metric != "macro_f1" else NAMES[metric]


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

"""True and predicted spans of each case in, exact-span F1, precision and recall out.

A span is (start, end, label number).  It counts only if both ends and the label agree, as in the CoNLL evaluation (Tjong Kim Sang
and De Meulder 2003); a span that is given twice in one case counts once.  Each case is counted first, so that a resample is a
weighted sum of counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.evaluate.types import Bools, Floats, Ints

SPAN_METRICS = ("span_f1", "span_precision", "span_recall")
HITS, SAID, TRUE = range(3)  # places in the last axis of the counts


class SpanNumbers:
    """`counts` [n, labels, 3] of `span_counts`.

    span_f1: 2 hits / (said + true), span_precision: hits / said, span_recall: hits / true, over the spans of all labels and cases
    together (micro).  Of label j the same as `f1/j`, `ppv/j` and `sensitivity/j`, the names that they have for classes.
    """

    def __init__(self, counts: Ints) -> None:
        self.counts = counts
        micro = counts.sum(axis=1, keepdims=True)
        self._columns = np.concatenate([micro, counts], axis=1).astype(np.float64).reshape(len(counts), -1)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        sums = (weights @ self._columns).reshape(len(weights), -1, 3)
        hits, said, true = sums[..., HITS], sums[..., SAID], sums[..., TRUE]
        with np.errstate(invalid="ignore", divide="ignore"):
            f1, precision, recall = 2 * hits / (said + true), hits / said, hits / true
        found = {"span_f1": f1[:, 0], "span_precision": precision[:, 0], "span_recall": recall[:, 0]}
        for j in range(self.counts.shape[1]):
            found |= {f"f1/{j}": f1[:, j + 1], f"ppv/{j}": precision[:, j + 1], f"sensitivity/{j}": recall[:, j + 1]}
        return found

    def why_undefined(self, metric: str) -> str:
        name, _, label = metric.partition("/")
        if name in ("span_precision", "ppv"):
            return "no span was predicted"
        whose = "no case has a span" + (" with this label" if label else "")
        return f"{whose}, and none was predicted" if name in ("span_f1", "f1") else whose


def span_array(cases: Iterable[Any]) -> NDArray[np.object_]:
    """[n]: one list of spans a case, or None where the case was not scored; NumPy alone would make a block of equal lists."""
    given = list(cases)
    found = np.empty(len(given), dtype=object)
    for row, one in enumerate(given):
        found[row] = one
    return found


def span_lists(cases: Iterable[Any], numbers: Mapping[str, int]) -> NDArray[np.object_]:
    """[n]: rows as they are stored, {start, end, label, ...}, as `Truth` and `ModelScores` want them; None stays None.

    `numbers`: label to its number; a span with another label is left aside (a label that the page calls unlabelled).
    """
    return span_array(
        None if one is None else [(span["start"], span["end"], numbers[span["label"]]) for span in one if span["label"] in numbers]
        for one in cases
    )


def span_counts(true: Iterable[Any], said: Iterable[Any], labels: int) -> Ints:
    """[n, labels, 3]: hits, predicted and true spans of each case and label."""
    pairs = list(zip(true, said, strict=True))
    counts = np.zeros((len(pairs), labels, 3), dtype=np.int64)
    for row, (wanted, given) in enumerate(pairs):
        there, here = _distinct(wanted), _distinct(given)
        for place, spans in ((HITS, there & here), (SAID, here), (TRUE, there)):
            for _, _, label in spans:
                counts[row, label, place] += 1
    return counts


def holds(values: Iterable[Any], known: Bools, labels: int) -> Bools:
    """[n, labels]: whether a case has a span of the label; nothing where the case is not known."""
    found = np.zeros((len(known), labels), dtype=bool)
    for row, spans in enumerate(values):
        for _, _, label in _distinct(spans) if known[row] else ():
            found[row, label] = True
    return found


def check_spans(name: str, given: Any, known: Bools, labels: int, *, may_lack: bool) -> None:
    """ValueError where `given` is no object array [n] of lists of spans.

    Only the cases of `known` [n] are looked at; where `may_lack`, one of them may be None.
    """
    if not isinstance(given, np.ndarray) or given.dtype != object or given.shape != known.shape:
        raise ValueError(f"{name}: tags need an object array of {len(known)} lists of (start, end, label number)")
    for row in np.flatnonzero(known):
        if given[row] is None and may_lack:
            continue
        if given[row] is None:
            raise ValueError(f"{name}: a known case has no list of spans")
        if any(not 0 <= start < end or not 0 <= label < labels for start, end, label in given[row]):
            raise ValueError(f"{name}: a span is empty, ends before it starts, or has no label among {labels}")


def _distinct(spans: Any) -> set[tuple[int, int, int]]:
    return {(int(start), int(end), int(label)) for start, end, label in spans}

"""Single columns and labels of the train part in, how well each alone knows the answer out.

Each column becomes a few groups (values, quantile bins, and missing as a group of its own); the score of a case is the share of positive
cases in its group among the *other* four fifths of the patients, drawn towards the prevalence by SMOOTHING cases.  So a column cannot look
good by being rare, and the pattern of missingness counts.  The screen finds columns that know the answer alone; it cannot find columns that
were merely written afterwards: those must be declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from meddx.dataset.columns import match, wide_columns
from meddx.dataset.options import TimingOptions
from meddx.dataset.target import Labels
from meddx.dataset.values import coded, kind_of, numbers
from meddx.errors import LeakError
from meddx.inputs.options import InputOptions, TableInput

WARN, REFUSE = 0.90, 0.98
FOLDS = 5
SMOOTHING = 5.0
MAX_BINS, ROWS_A_BIN = 100, 20
FEWEST = 10  # of positive and of negative cases; below, a number would be noise
SHOWN = 4
KEPT = 100


@dataclass(frozen=True)
class Screened:
    """One column: AUROC of its value with missingness, and of missingness alone, both out of fold; for several classes the highest."""

    column: str
    auroc: float
    missing_auroc: float
    declared: bool = False
    wide: bool = False

    @property
    def height(self) -> float:
        return max(self.auroc, self.missing_auroc)


def screen(columns: Iterable[tuple[str, Any]], labels: Labels, kind: str, folds: np.ndarray) -> list[Screened]:
    """(name, Arrow column [n]) pairs against labels [n], folds int64 [n] by patient; best first.  Empty when there are too few cases."""
    questions = _questions(labels, kind)
    found = []
    if questions:
        for name, column in columns:
            codes, gone = _groups(column)
            both = [max(oof_auroc(codes[known], truth, folds[known]) for truth, known in questions)]
            both.append(max(oof_auroc(gone[known], truth, folds[known]) for truth, known in questions) if gone.any() else 0.5)
            found.append(Screened(name, round(both[0], 4), round(both[1], 4)))
    return sorted(found, key=lambda one: (-one.height, one.column))


def _questions(labels: Labels, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(truth bool [m], positions [m]) a yes-no question: one, or one a class, or one a label."""
    asked = []
    if kind == "multilabel":
        asked = [(labels.values[:, k] > 0, np.flatnonzero(labels.known[:, k])) for k in range(labels.values.shape[1])]
    elif kind == "regression":
        known = np.flatnonzero(labels.known)
        asked = [(labels.values > np.median(labels.values[known]), known)] if len(known) else []
    elif kind in ("multiclass", "ordinal"):
        known = np.flatnonzero(labels.known)
        asked = [(labels.values == number, known) for number in np.unique(labels.values[known])]
    else:
        asked = [(labels.values > 0, np.flatnonzero(labels.known))]
    return [(truth[rows], rows) for truth, rows in asked if min(truth[rows].sum(), (~truth[rows]).sum()) >= FEWEST]


def _groups(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """(group of each case, 1 where the value is missing), int64 [n]; missing is the last group."""
    if kind_of(column.type) not in ("number", "time"):
        codes, levels = coded(column)
        return np.where(codes < 0, len(levels), codes), (codes < 0).astype(np.int64)
    values = numbers(column)
    gone = np.isnan(values)
    present = np.sort(values[~gone])
    bins = int(np.clip(len(present) // ROWS_A_BIN, 5, MAX_BINS))
    edges = present[np.flatnonzero(np.diff(present)) + 1] if len(present) else present  # every value but the smallest begins a group
    if len(edges) >= bins:
        edges = np.unique(present[(np.arange(1, bins) * len(present)) // bins])
    codes = np.searchsorted(edges, values, side="right")
    return np.where(gone, len(edges) + 1, codes).astype(np.int64), gone.astype(np.int64)


def oof_auroc(codes: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> float:
    """AUROC of out-of-fold target means.  codes int64 [n] from 0, truth bool [n], folds int64 [n] in 0..4."""
    size = int(codes.max(initial=0)) + 1
    cells = folds * size + codes
    cases = np.bincount(cells, minlength=FOLDS * size).reshape(FOLDS, size).astype(np.float64)
    positive = np.bincount(cells, weights=truth, minlength=FOLDS * size).reshape(FOLDS, size)
    others, others_positive = cases.sum(axis=0) - cases, positive.sum(axis=0) - positive
    score = (others_positive + SMOOTHING * truth.mean()) / (others + SMOOTHING)
    return _auroc_of_cells(score.ravel(), positive.ravel(), (cases - positive).ravel())


def _auroc_of_cells(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """P(score of a positive > score of a negative) + half the ties, from counts a cell."""
    unique, place = np.unique(np.round(score, 12), return_inverse=True)
    above = np.bincount(place.reshape(-1), weights=positive, minlength=len(unique))
    below = np.bincount(place.reshape(-1), weights=negative, minlength=len(unique))
    higher = above.sum() - np.cumsum(above)
    return float((below * (higher + above / 2)).sum() / (above.sum() * below.sum()))


def judge(
    found: Iterable[Screened], inputs: Mapping[str, InputOptions], columns: Mapping[str, list[str]], timing: TimingOptions
) -> tuple[list[dict[str, Any]], list[str]]:
    """(what to keep in the record, messages).

    LeakError above REFUSE for a column that is neither declared in known_at nor part of a wide pattern.
    """
    names = sorted({name for one in columns.values() for name in one})
    declared = set(match(list(timing.known_at), names))
    wide = {name for key, one in inputs.items() if isinstance(one, TableInput) for name in wide_columns(one, columns[key])}
    marked = [replace(one, declared=one.column in declared, wide=one.column in wide) for one in found]
    guilty = [one for one in marked if one.height > REFUSE and not one.declared and not one.wide]
    if guilty:
        first = guilty[0].column
        raise LeakError(
            f"{len(guilty)} column(s) alone know the answer (AUROC on train, out of fold): {_list(guilty)}",
            "inputs",
            f"written after the outcome? timing: {{after_outcome: [{first!r}]}}.  "
            f"Known in time? timing: {{known_at: {{{first!r}: when, in words}}}}",
        )
    high = [one for one in marked if one.height > WARN]
    messages = []
    if high:
        all_declared = all(one.declared for one in high)
        doubt = "all declared in timing.known_at" if all_declared else "are they known when the case is decided?"
        messages.append(f"{len(high)} column(s) alone reach an AUROC above {WARN:.2f} on train: {_list(high)}; {doubt}")
    return [asdict(one) for one in marked[:KEPT]], messages


def _list(found: list[Screened]) -> str:
    ways = [" (its missingness)" if one.missing_auroc > one.auroc else "" for one in found]
    shown = ", ".join(f"{one.column} {one.height:.3f}{way}" for one, way in list(zip(found, ways, strict=True))[:SHOWN])
    return shown + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")

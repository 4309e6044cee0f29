"""Patients and a page in, the fold of every case out; and of one fold's training cases, those that choose the best epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meddx.dataset import parting
from meddx.dataset.options import SplitOptions
from meddx.errors import DataError, LeakError

NONE = -1


def deal(keys: np.ndarray, patients: np.ndarray, strata: np.ndarray, rows: np.ndarray, split: SplitOptions) -> np.ndarray:
    """int64 [n, repeats]: the fold of each case, whole patients, every stratum spread evenly; -1 for cases that are not in `rows`.

    `keys` [p] patients' keys, `patients` [n] their numbers, `strata` [p].  A patient's fold depends on who the patients are and on the
    seed, never on the order of rows.
    """
    assert isinstance(split.folds, int)
    who = np.unique(patients[rows])
    if len(who) < split.folds:
        raise DataError(f"{len(who)} patients cannot be dealt into {split.folds} folds", "split.folds", "ask for fewer folds")
    folds = np.full((len(patients), split.repeats), NONE, dtype=np.int64)
    for repeat in range(split.repeats):
        rank = parting.hash_order(keys, split.seed, f"folds {repeat}")
        place = np.full(len(keys), NONE, dtype=np.int64)
        place[who] = parting.cut(strata[who], rank[who], [1 / split.folds] * split.folds)
        folds[rows, repeat] = place[patients[rows]]
    return folds


def written_out(values: np.ndarray, rows: np.ndarray, n: int, split: SplitOptions) -> np.ndarray:
    """int64 [n, 1]: the fold that the page gives to each value (object [len(rows)], text); -1 elsewhere.

    DataError for a value that no fold names.
    """
    assert isinstance(split.folds, dict)
    number = {value: place for place, members in enumerate(split.folds.values()) for value in members}
    strange = [value for value in values if value not in number]
    if strange:
        raise DataError(
            f"{len(strange)} cases belong to no fold ({len(set(strange))} values)",
            f"split by {split.by}",
            "list their values in split.folds, or leave the cases out by a cohort filter",
        )
    folds = np.full((n, 1), NONE, dtype=np.int64)
    folds[rows, 0] = [number[value] for value in values]
    return folds


def patients_across_folds(folds: np.ndarray, patients: np.ndarray) -> None:
    """LeakError when a patient has cases in two folds of one repeat."""
    for repeat in folds.T:
        inside = repeat != NONE
        pairs = np.unique(np.stack([patients[inside], repeat[inside]]), axis=1)
        crossing = np.unique(pairs[0], return_counts=True)[1] > 1
        if crossing.any():
            raise LeakError(
                f"{int(crossing.sum())} patients have cases in more than one fold",
                "split.folds",
                "put the values of one patient into one fold, or let `by: patient` deal the folds out",
            )


def inner_parts(
    keys: np.ndarray, patients: np.ndarray, strata: np.ndarray, rows: np.ndarray, share: float, seed: int, turn: str
) -> tuple[np.ndarray, np.ndarray]:
    """(train, validate) positions out of a fold's training cases `rows`, by patient; `turn` names repeat and fold, and seeds the draw."""
    who = np.unique(patients[rows])
    rank = parting.hash_order(keys, seed, f"inner {turn}")
    place = np.zeros(len(keys), dtype=np.int64)
    place[who] = parting.cut(strata[who], rank[who], [1 - share, share])
    chosen = place[patients[rows]] == 1
    if not chosen.any() or chosen.all():
        raise DataError(f"{len(who)} patients are too few to part train from validate", "split.folds", "ask for fewer folds")
    return rows[~chosen], rows[chosen]


def numbers_a_fold(folds: np.ndarray) -> Sequence[int]:
    """Folds of the first repeat, in order."""
    return sorted({int(one) for one in folds[:, 0] if one != NONE})

"""Settings tried by cross-validation inside train: folds by group, log loss (numbers: squared error) out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ROWS, CELLS = 20_000, 2_000_000  # a search sees at most so many rows, or rows x features; the chosen settings are fitted on all
FOLDS = 4
BINS = 5


def group_folds(strata: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """int64 [n] fold of each row: whole groups, dealt out at random within each stratum (the group's highest), so folds are alike."""
    rows = len(strata)
    codes = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    top = np.full(int(codes.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(top, codes, strata)
    rng = np.random.default_rng([seed, 17])
    order = np.lexsort((rng.random(len(top)), top))
    fold = np.empty(len(top), np.int64)
    fold[order] = np.arange(len(top)) % folds
    return fold[codes]


def search_rows(strata: np.ndarray, groups: np.ndarray | None, seed: int, width: int = 1) -> np.ndarray:
    """Positions of at most about 20,000 rows (fewer of wide rows, but 1,000), whole groups, strata in their proportions."""
    pieces = -(-len(strata) // max(1_000, min(ROWS, CELLS // max(width, 1))))
    return np.flatnonzero(group_folds(strata, groups, pieces, seed + 1) == 0)


def splits(labels: np.ndarray, groups: np.ndarray | None, seed: int, width: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(fit rows, held-out rows) of the search's folds; a fold that would leave a class out of the fit is skipped."""
    rows = search_rows(labels, groups, seed, width)
    fold = group_folds(labels[rows], None if groups is None else groups[rows], FOLDS, seed)
    for one in range(FOLDS):
        fit, held = rows[fold != one], rows[fold == one]
        if len(held) and len(np.unique(labels[fit])) == len(np.unique(labels)):
            yield fit, held


def bins(values: np.ndarray) -> np.ndarray:
    """int64 [n] 0..4: fifths of a number by rank, for folds that are alike; equal values share a bin."""
    edges = np.quantile(values, np.arange(1, BINS) / BINS) if len(values) else np.zeros(0)
    found = np.searchsorted(edges, values, side="left")
    counts = np.unique(found, return_counts=True)[1]
    # a bin of fewer rows than there are folds could be held out whole, and then no fold would count
    return np.asarray(found if counts.min(initial=0) > FOLDS else np.zeros(len(values)), np.int64)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of class numbers `labels` under [n, k]; probabilities are kept above 1e-7."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, 1e-7, 1.0)).mean())


def squared_error(found: np.ndarray, values: np.ndarray) -> float:
    """Mean squared difference."""
    return float(np.square(np.asarray(found, np.float64) - values).mean())

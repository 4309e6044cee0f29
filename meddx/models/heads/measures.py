"""Scores and truths in, the few numbers that training watches out: AUROC, F1, quadratic kappa."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """P(score of a positive > score of a negative), ties count half (Mann-Whitney).  score float [n], positive bool [n]."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int(positive.sum())
    return float((rank[positive].sum() - positives * (positives + 1) / 2) / (positives * (len(positive) - positives)))


def mean_auroc(columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over the (score [n], positive [n]) pairs that have both sides; NaN where none has."""
    areas = [auroc(score, positive) for score, positive in columns if 0 < positive.sum() < len(positive)]
    return float(np.mean(areas)) if areas else float("nan")


def mean_defined(numbers: Sequence[float]) -> float:
    """Mean of the numbers that are not NaN; NaN where none is left."""
    kept = [number for number in numbers if not np.isnan(number)]
    return float(np.mean(kept)) if kept else float("nan")


def best_f1(score: np.ndarray, positive: np.ndarray) -> float:
    """The largest F1 = 2 TP / (predicted + positive) over all thresholds `score >= t`; NaN without both sides.

    Not at 0.5: the published threshold is chosen later, and a rare class has no case above 0.5.
    """
    if not 0 < positive.sum() < len(positive):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.diff(score[order]) != 0, True)  # equal scores are called together
    hits = np.cumsum(positive[order])[ends]
    called = np.arange(1, len(score) + 1)[ends]
    return float((2 * hits / (called + positive.sum())).max())


def macro_f1(truth: np.ndarray, decided: np.ndarray) -> float:
    """Mean of the classes' F1 over the classes that are in `truth`; both class numbers [n]."""
    return float(
        np.mean([2 * ((truth == k) & (decided == k)).sum() / ((truth == k).sum() + (decided == k).sum()) for k in np.unique(truth)])
    )


def quadratic_kappa(truth: np.ndarray, decided: np.ndarray) -> float:
    """1 - observed / expected squared distance of the two class numbers [n] (Cohen, 1968, quadratic weights); NaN for one true class.

    Under independence the mean of (a - b)^2 is var(a) + var(b) + (mean a - mean b)^2.
    """
    a, b = truth.astype(np.float64), decided.astype(np.float64)
    expected = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(1 - np.mean((a - b) ** 2) / expected) if a.var() > 0 else float("nan")

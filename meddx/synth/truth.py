"""True probabilities in, the best AUROC that anyone can reach out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def bayes_auroc(probability: Floats) -> float:
    """The AUROC of the true probabilities themselves, expected over labels ~ Bernoulli(probability).

    `probability` is [n] in [0, 1].  No model can do better on this population, for the true probability orders the cases
    best (Neyman and Pearson 1933).  Sum over pairs i != j of p_i (1 - p_j) ([p_i > p_j] + [p_i = p_j] / 2), divided by
    the same sum without the bracket.  NaN where fewer than two cases, or no pair, is possible.
    """
    values, group = np.unique(probability, return_inverse=True)
    yes = np.bincount(group, weights=probability, minlength=len(values))
    no = np.bincount(group, weights=1 - probability, minlength=len(values))
    with_itself = float(np.sum(probability * (1 - probability)))  # i = j is no pair, and would count as a tie
    pairs = yes.sum() * no.sum() - with_itself
    if pairs <= 0:
        return float("nan")
    below = np.cumsum(no) - no
    return float((np.sum(yes * (below + no / 2)) - with_itself / 2) / pairs)


def logistic(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit))."""
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)


def spread_uniform(rng: np.random.Generator, n: int) -> Floats:
    """n numbers uniform on (0, 1), one in each n-th, in random order: a small population has the shares of a large one."""
    return (rng.permutation(n) + rng.random(n)) / max(n, 1)

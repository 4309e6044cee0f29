"""Probabilities and answers of several classes in, a weight a class that lets decisions be fair to rare ones out.

The most probable class is right most often; of a rare class it hardly ever speaks.  The decision argmax_k w_k p_k with
w_k = share_k ** -tau goes from that one (tau 0) to the one that finds all classes equally well (tau 1): Menon et al., "Long-tail learning
via logit adjustment" (ICLR 2021), after the fit.  The best F1 lies between (Lipton et al., "Optimal thresholding of classifiers to maximize
F1 measure", 2014).  One number is chosen and not a free weight a class, for with few patients the latter learns the patients: on MIT-BIH's
22 records, each fold decided with what the others chose, tau was the better in seven of nine models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import DataError

GOAL = "macro_f1"
TAUS = tuple(round(0.05 * step, 2) for step in range(21))


def choose_weights(classes: Sequence[str], counted: Sequence[str], probabilities: NDArray[Any], truth: NDArray[Any]) -> dict[str, Any]:
    """The `threshold` of a multiclass bundle for the goal macro_f1, as JSON: {"goal", "tau", "weights": {class: w}, "reached"}.

    `probabilities` [n, k], `truth` int [n], a class number each.  The mean F1 is that of `counted` (default all), as far as these cases
    have them; a class that is not counted, or that no case has, weighs as much as the most common one: 1.  Of equally good taus the least.
    """
    counts = np.bincount(truth, minlength=len(classes))
    wanted = [place for place, name in enumerate(classes) if counts[place] and (not counted or name in counted)]
    if not wanted:
        raise DataError("no case has a class whose F1 counts", "choosing the weights of the classes", "see threshold.classes")
    share = np.ones(len(classes))
    share[wanted] = counts[wanted] / counts.max()
    worth = [mean_f1(truth, decided(probabilities, share**-tau), wanted) for tau in TAUS]
    best = int(np.argmax(worth))
    weights = {name: float(one) for name, one in zip(classes, share ** -TAUS[best], strict=True)}
    reached = {"macro_f1": worth[best], "most_probable": worth[0], "classes": [classes[place] for place in wanted]}
    return {"goal": GOAL, "tau": TAUS[best], "weights": weights, "reached": reached}


def decided(probabilities: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """int64 [n]: the class with the greatest w p, the first of equals; without weights the most probable."""
    return np.asarray((probabilities if weights is None else probabilities * weights).argmax(axis=1), np.int64)


def mean_f1(truth: NDArray[Any], found: NDArray[Any], classes: Sequence[int]) -> float:
    """The mean over class numbers `classes`, each with a case, of 2 TP / (cases + decisions)."""
    each = [2 * np.sum((truth == one) & (found == one)) / (np.sum(truth == one) + np.sum(found == one)) for one in classes]
    return float(np.mean(each))

"""Observed and predicted numbers in, errors, explained variance and the figure's bins out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.types import Floats

REGRESSION_METRICS = ("mae", "rmse", "r2")
MOST_BINS, AT_LEAST = 10, 15
CELLS = 24


class RegressionNumbers:
    """`observed` [n] and `predicted` [n] in the answer's own unit; `low` and `high` [n] of each case's interval, or None.

    mae: mean |predicted - observed|.  rmse: root of the mean square.  r2: 1 - squared errors / squared deviations of the observed
    from their own mean, so a model worse than that mean is below 0.  in_the_large: mean predicted - mean observed.  Beside them
    `coverage` (share of cases within their interval) and `width` (mean width); NaN without intervals.
    """

    def __init__(self, observed: ArrayLike, predicted: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None) -> None:
        self.observed, self.predicted = np.asarray(observed, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        error = self.predicted - self.observed
        # Deviations from any fixed number give the same r2; from the mean, large numbers do not cancel.
        away = self.observed - (self.observed.mean() if len(self.observed) else 0.0)
        self.has_intervals = low is not None and high is not None
        within, width = np.full_like(error, np.nan), np.full_like(error, np.nan)
        if low is not None and high is not None:
            below, above = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
            within, width = ((below <= self.observed) & (self.observed <= above)).astype(np.float64), above - below
        self._columns = np.stack([np.ones_like(error), error, np.abs(error), error**2, away, away**2, within, width], axis=1)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        total, error, size, squares, away, spread, within, width = (weights @ self._columns).T
        with np.errstate(invalid="ignore", divide="ignore"):
            around = spread - away**2 / total
            scale = np.finfo(np.float64).eps * spread * len(self.observed)
            return {
                "mae": size / total,
                "rmse": np.sqrt(squares / total),
                "r2": np.where(around > scale, 1 - squares / around, np.nan),
                "in_the_large": error / total,
                "coverage": within / total,
                "width": width / total,
            }

    def why_undefined(self, metric: str) -> str:
        if metric in ("coverage", "width"):
            return "it gives no interval for a case"
        return "every case has the same observed value" if metric == "r2" and len(self.observed) else "there are no cases"


def against_observed(observed: ArrayLike, predicted: ArrayLike) -> dict[str, Any]:
    """Bins of equal mass of the predicted value, and counts on a coarse grid: no case can be read off.

    bins: mean said and mean seen, with the 10th and 90th percentile of the seen.  edges [25] are shared by both axes of counts
    [24][24], rows by observed, columns by predicted.
    """
    seen, said = np.asarray(observed, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    order = np.argsort(said, kind="stable")
    count = int(np.clip(len(said) // AT_LEAST, 1, MOST_BINS))
    bins = []
    for rows in np.array_split(order, count):
        low, high = (float(one) for one in np.quantile(seen[rows], [0.1, 0.9]))
        bins.append({"said": float(said[rows].mean()), "seen": float(seen[rows].mean()), "low": low, "high": high, "cases": len(rows)})
    # The outermost hundredth is drawn in the outermost cells, so that the scale is not one case's value.
    first, last = np.quantile(np.concatenate([seen, said]), [0.01, 0.99])
    edges = np.linspace(first, last if last > first else first + 1.0, CELLS + 1)
    inner = edges[1:-1]
    cells = np.bincount(np.digitize(seen, inner) * CELLS + np.digitize(said, inner), minlength=CELLS * CELLS).reshape(CELLS, CELLS)
    return {"bins": bins, "edges": [float(one) for one in edges], "counts": [[int(one) for one in row] for row in cells]}

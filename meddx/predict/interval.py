"""Predicted numbers and their answers in, the half-width of an interval that holds the wished share of new cases out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import DataError

Floats = NDArray[np.float64]
WHERE = "choosing the interval on the calibrate part"


def half_width(values: NDArray[Any], truth: NDArray[Any], coverage: float) -> float:
    """The ceil((n + 1) * coverage)-th smallest absolute residual of n cases, in the units of the target.

    Split conformal prediction, Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for
    regression", JASA 113 (2018) 1094, algorithm 2: value +- half-width holds at least the share `coverage` of new cases of
    the same kind, whatever the model, for cases that had no part in fitting it.  (A linear calibration on the same cases
    costs two numbers of theirs, about 2 / n of the coverage.)  Raises DataError where a value is not finite, or there are
    too few cases for any finite interval: n must be at least coverage / (1 - coverage).
    """
    residuals = np.abs(np.asarray(truth, np.float64).reshape(-1) - np.asarray(values, np.float64).reshape(-1))
    if not np.isfinite(residuals).all():
        raise DataError(f"{int((~np.isfinite(residuals)).sum())} residuals are not finite", WHERE)
    n = len(residuals)
    rank = math.ceil((n + 1) * coverage - 1e-9)  # 0.9 * 10 is 9, and not just above
    if not 1 <= rank <= n:
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise DataError(
            f"an interval for {coverage:.0%} of the cases needs {needed} labelled cases or more, and there are {n}",
            WHERE,
            "give the calibrate part a larger share, or lower threshold.coverage",
        )
    return float(np.partition(residuals, rank - 1)[rank - 1])

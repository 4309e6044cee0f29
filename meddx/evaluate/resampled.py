"""One number a fold in, their mean and the corrected resampled t interval out (Nadeau and Bengio 2003).

Folds share most of their training cases, so the numbers of J folds vary together, and the plain t test takes them for J
independent looks: it finds differences where there are none.  The correction puts (1/J + n_test / n_train) s^2 in the place of
s^2 / J, with J - 1 degrees of freedom.  It is an approximation: no unbiased estimate of that variance exists (Bengio and
Grandvalet 2004).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.bootstrap import LEVEL, Interval
from meddx.evaluate.verdict import SAME, VERDICTS, judge

POWER = 0.8
ALIKE = "the same in every fold, so there is no spread to judge by"
NO_LIMIT = float("inf")


def corrected(values: ArrayLike, ratio: float) -> tuple[float, Interval]:
    """(mean, 95 % interval) of `values` [J], one a fold; NaN ones (undefined in their fold) are left out.

    `ratio` is n_test / n_train of a fold; 0 gives the plain t interval, which is too narrow for folds.  A reason stands in the
    place of the interval where fewer than two folds are left, and where all are alike.
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if len(found) == 0:
        return float("nan"), Interval(reason="undefined in every fold")
    mean = float(found.mean())
    if len(found) == 1:
        return mean, Interval(reason="one fold alone has no spread")
    deviation = float(found.std(ddof=1))
    if deviation <= SAME * max(1.0, abs(mean)):
        return mean, Interval(spread=0.0, reason=ALIKE)
    spread = math.sqrt(1 / len(found) + ratio) * deviation
    half = t_quantile(len(found) - 1, (1 + LEVEL) / 2) * spread
    return mean, Interval(mean - half, mean + half, spread)


def judge_folds(value: float, found: Interval, used: int, smallest_useful: float) -> dict[str, Any]:
    """`judge` for folds: the difference that `used` folds could have shown is reckoned with their t, and equal folds are said so."""
    if found.reason == ALIKE and abs(value) < SAME:
        return {"verdict": "not_shown", "words": f"{VERDICTS['not_shown']}: both are the same in every fold", "detectable": None}
    told = Interval(reason=f"the difference is {ALIKE}") if found.reason == ALIKE else found
    verdict = judge(value, told, smallest_useful)
    if verdict["detectable"] is not None:
        reach = t_quantile(used - 1, (1 + LEVEL) / 2) + t_quantile(used - 1, POWER)
        verdict["detectable"] = reach * found.spread
    return verdict


def within_range(kind: str, metric: str, found: Interval) -> Interval:
    """The interval of a model's number, cut at what the number can be; t intervals know no limits."""
    low = {"kappa": -1.0, "r2": -NO_LIMIT}.get(metric, 0.0)
    high = NO_LIMIT if metric in ("log_loss", "mae", "rmse") else 2.0 if metric == "brier" and kind != "binary" else 1.0
    return found if found.reason else Interval(max(low, found.low), min(high, found.high), found.spread)


def t_quantile(degrees: int, share: float) -> float:
    """Student's t with `degrees` of freedom: the value below which `share` of it lies."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))

"""Readings of variables over time in; a few numbers a case and variable for models that take no sequences, out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STATISTICS = ("first", "last", "min", "max", "mean", "count", "slope", "hours since last")


def summary_names(variables: Sequence[str]) -> list[str]:
    """The names of the columns of `summarise`, variable by variable."""
    return [f"{variable} {statistic}" for variable in variables for statistic in STATISTICS]


def summarise(case: np.ndarray, variable: np.ndarray, hour: np.ndarray, value: np.ndarray, cases: int, variables: int) -> np.ndarray:
    """float32 [cases, variables * 8]: STATISTICS of each variable; NaN where a case has none of it, and 0 as its count.

    The readings are ordered by case and time; hours are 0 at predict_at and negative before.  Slope is the least-squares line, in units an
    hour, NaN where all readings have one time.  Sums run in the order of the readings, so a case's numbers depend on that case alone.
    """
    made = np.full((cases * variables, len(STATISTICS)), np.nan)
    made[:, STATISTICS.index("count")] = 0.0
    if len(case):
        key = case * variables + variable
        order = np.argsort(key, kind="stable")
        key, hour, value = key[order], hour[order], value[order]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        ends = np.r_[starts[1:], len(key)] - 1
        count = ends - starts + 1
        group = np.repeat(np.arange(len(starts)), count)
        made[key[starts]] = np.stack(
            [
                value[starts],
                value[ends],
                np.minimum.reduceat(value, starts),
                np.maximum.reduceat(value, starts),
                np.bincount(group, value) / count,
                count,
                _slope(group, count, hour, value),
                -hour[ends],
            ],
            axis=1,
        )
    return made.reshape(cases, variables * len(STATISTICS)).astype(np.float32)


def _slope(group: np.ndarray, count: np.ndarray, hour: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Least squares in each group, about the group's means so that nothing cancels."""
    away = hour - (np.bincount(group, hour) / count)[group]
    rise = value - (np.bincount(group, value) / count)[group]
    spread = np.bincount(group, away * away)
    flat = spread <= 1e-12
    return np.where(flat, np.nan, np.bincount(group, away * rise) / np.where(flat, 1.0, spread))

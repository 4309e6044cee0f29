"""Patients drawn again and again, to an interval: the percentile bootstrap by patient.

All models see the same resamples, so differences are paired.  A patient comes with all cases; strata are not kept (the
number with the outcome varies as it would).  Intervals are plain percentiles of the draws, 2.5 and 97.5 %; for ECE, reflected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meddx.evaluate.metrics import Numbers
from meddx.evaluate.types import Bools, Floats, Ints

LEVEL = 0.95
MIN_PATIENTS = 30
MIN_EACH = 10
MAX_UNDEFINED = 0.05
BLOCK = 1_000_000
POWER = 1.959964 + 0.841621  # two-sided 5 %, power 80 %


@dataclass(frozen=True)
class Interval:
    """`low` and `high` of 95 % and `spread` (the standard error); a reason instead, when there is none."""

    low: float = float("nan")
    high: float = float("nan")
    spread: float = float("nan")
    reason: str = ""


def patient_numbers(patients: NDArray[np.object_] | None, cases: int) -> Ints:
    """[n]: a number for each case's patient.  A case whose patient is None is a patient of its own."""
    if patients is None:
        return np.arange(cases, dtype=np.int64)
    unknown = np.array([one is None for one in patients], dtype=bool)
    numbers = np.empty(cases, dtype=np.int64)
    names, known = np.unique(np.asarray(patients[~unknown], dtype=str), return_inverse=True)
    numbers[~unknown] = known
    numbers[unknown] = len(names) + np.arange(int(unknown.sum()))
    return numbers


def resamples(patients: Ints, count: int, seed: int) -> Iterator[Floats]:
    """`count` resamples as blocks of weights [b, n]: how often each case was drawn.  Blocks do not change the draws."""
    how_many = int(patients.max()) + 1
    random = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(patients))
    for start in range(0, count, rows):
        block = np.empty((min(rows, count - start), len(patients)))
        for row in block:
            row[:] = np.bincount(random.integers(0, how_many, how_many), minlength=how_many)[patients]
        yield block


def draw(models: Mapping[str, Numbers], patients: Ints, count: int, seed: int) -> dict[str, dict[str, Floats]]:
    """{model: {metric: [count]}}: every number of every model on the same resamples.  `patients` [n] are numbers from 0."""
    found: dict[str, dict[str, list[Floats]]] = {name: {} for name in models}
    for weights in resamples(patients, count, seed):
        for name, numbers in models.items():
            for metric, values in numbers(weights).items():
                found[name].setdefault(metric, []).append(values)
    return {name: {metric: np.concatenate(parts) for metric, parts in metrics.items()} for name, metrics in found.items()}


def interval(draws: Floats, reflect_at: float | None = None) -> Interval:
    """The 95 % percentile interval of `draws` [count]; none when more than 5 % of the draws are undefined.

    `reflect_at` is the estimate of a number that resampling pushes one way (ECE): the interval is turned around it (the basic
    bootstrap, Davison and Hinkley 1997), for percentiles would leave the estimate itself outside.
    """
    defined = draws[np.isfinite(draws)]
    if len(defined) < (1 - MAX_UNDEFINED) * len(draws):
        return Interval(reason="undefined in too many resamples")
    low, high = (float(one) for one in np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if reflect_at is not None:
        low, high = 2 * reflect_at - high, 2 * reflect_at - low
    return Interval(low, high, float(defined.std(ddof=1)))


def too_few(patients: Ints, positive: Bools, known: Bools, names: tuple[str, ...]) -> tuple[str, str]:
    """Why there can be no interval: (for any number, for a number averaged over classes); empty where there can.

    `positive` and `known` are [n, k], one column a class or label (binary: one).  At least 30 patients, and for each class 10
    patients with it and 10 without; a patient may count on both sides.
    """
    how_many = len(np.unique(patients))
    if how_many < MIN_PATIENTS:
        return (f"too few patients for an interval ({how_many}; {MIN_PATIENTS} are needed)",) * 2
    for j, name in enumerate(names):
        one_kind = not (positive & known)[:, j].any() or not (~positive & known)[:, j].any()
        if one_kind and len(names) > 1:
            continue  # no average holds it
        reason = too_few_of(patients, positive[:, j], known[:, j], "the outcome" if len(names) == 1 else name)
        if reason:
            return (reason, reason) if len(names) == 1 else ("", reason)
    return "", ""


def too_few_of(patients: Ints, positive: Bools, known: Bools, what: str) -> str:
    """Why numbers about this one outcome or class have no interval: fewer than 10 patients with it or without; empty where not."""
    with_it, without = len(np.unique(patients[positive & known])), len(np.unique(patients[~positive & known]))
    if min(with_it, without) >= MIN_EACH:
        return ""
    return f"too few patients for an interval ({with_it} with {what}, {without} without; {MIN_EACH} of each are needed)"

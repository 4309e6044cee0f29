"""What the laboratory knows of a stay in, its results over 48 hours as rows of a long table out.

The labs' score is 0.8 of the level of lactate plus 0.6 of the change of creatinine, both standard normal.  What else varies from result to
result leaves the mean of the lactates, and the first and the last creatinine, as they are; the other tests say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HOURS = 48.0
SHARES = np.array([0.8, 0.6])  # of level and change; their squares add up to 1
LACTATE = (2.4, 0.5)  # mmol/L: mean, and what one deviation of the level is
CREATININE = (1.8, 0.3)  # mg/dL: at the start, and what one deviation of the change is
MOLAR = 88.4  # umol/L of creatinine in 1 mg/dL
MOLAR_SHARE = 0.2  # of stays whose laboratory reports creatinine so
OTHERS = {  # mean, deviation, unit, results a stay
    "sodium": (139.0, 4.0, "mmol/L", 6),
    "potassium": (4.1, 0.4, "mmol/L", 6),
    "platelets": (240.0, 60.0, "10^9/L", 4),
    "crp": (60.0, 18.0, "mg/L", 4),
}
Result = tuple[float, str, float, str]  # hours after admission, test, value, unit


def score(parts: Floats) -> Floats:
    """The labs' scores [n] of parts [n, 2]: level of lactate, change of creatinine, standard normal."""
    return np.asarray(parts @ SHARES, np.float64)


def results(parts: Floats, rng: np.random.Generator) -> Iterator[Result]:
    """The results of one stay within its first 48 hours; `parts` is [2]."""
    wobble = rng.normal(0, 0.08, 12)
    for hour, value in zip(_hours(rng, 12), LACTATE[0] + LACTATE[1] * parts[0] + wobble - wobble.mean(), strict=True):
        yield hour, "lactate", round(float(value), 2), "mmol/L"
    yield from _creatinine(float(parts[1]), rng)
    for name, (mean, deviation, unit, count) in OTHERS.items():
        usual = rng.normal(mean, 0.8 * deviation)
        for hour, value in zip(_hours(rng, count), rng.normal(usual, 0.6 * deviation, count), strict=True):
            yield hour, name, round(float(value), 1), unit


def _creatinine(change: float, rng: np.random.Generator) -> Iterator[Result]:
    """Nine results that run from the first to the last almost straight."""
    hours = _hours(rng, 9)
    start = CREATININE[0] + rng.normal(0, 0.1) - CREATININE[1] * change / 2
    wobble = rng.normal(0, 0.02, 9)
    wobble[[0, -1]] = 0
    values = start + CREATININE[1] * change * (hours - hours[0]) / (hours[-1] - hours[0]) + wobble
    molar = rng.random() < MOLAR_SHARE
    for hour, value in zip(hours, values, strict=True):
        yield hour, "creatinine", round(float(MOLAR * value), 1) if molar else round(float(value), 2), "umol/L" if molar else "mg/dL"


def late_results(died: bool, rng: np.random.Generator) -> Iterator[Result]:
    """Two lactates from after the decision: they know the outcome, and nobody may look at them."""
    for hour in (HOURS + 2 + 20 * rng.random(2)).tolist():
        yield hour, "lactate", round(max(0.3, float(rng.normal(7.0 if died else 1.0, 0.4))), 2), "mmol/L"


def _hours(rng: np.random.Generator, count: int) -> Floats:
    """Rising hours, one in each `count`-th of the 48 hours, never quite at their ends."""
    return (np.arange(count) + rng.uniform(0.1, 0.9, count)) * (HOURS / count)

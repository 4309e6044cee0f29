"""Counts of answers by band, here and in training, in; how far they lie apart out, in a number and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALL, LARGE = 0.1, 0.25
LEAST_SHARE = 0.05  # bands are joined until each has this share of the reference
LEAST_CASES = 50


@dataclass(frozen=True)
class Shift:
    """`index`: the population stability index, None with too few cases; `chance`: what 19 of 20 equal samples stay below."""

    index: float | None
    chance: float
    verdict: str  # few, alike, chance, some, large

    @property
    def words(self) -> str:
        """What it means, for somebody who looks after the patients."""
        return {
            "few": f"Too few cases to say whether the answers shifted: fewer than {LEAST_CASES} on one side.",
            "alike": "The answers are spread as in training.",
            "chance": "The answers differ from those in training by no more than chance can make with so few cases.",
            "some": "The answers shifted somewhat since training: find out what changed before the numbers are relied on.",
            "large": "The answers shifted far since training: other patients, another device or another way of recording. "
            "Do not rely on the numbers before that is explained.",
        }[self.verdict]


def shift(here: Sequence[int], reference: Sequence[int]) -> Shift:
    """The population stability index sum((a - e) ln(a / e)) over bands, a and e the shares here and in the reference.

    Bands: 0.1 and 0.25, Siddiqi, "Credit Risk Scorecards" (2006).  Without a shift the index is about chi-squared with k - 1
    degrees of freedom times (1/n + 1/m), Yurdakul and Naranjo, "Statistical properties of the population stability index"
    (Journal of Risk Model Validation, 2020): a small archive crosses the bands by chance alone, so that is looked at too.
    """
    one, two = _joined(np.asarray(here, np.float64), np.asarray(reference, np.float64))
    n, m, bands = float(one.sum()), float(two.sum()), len(one)
    if min(n, m) < LEAST_CASES:
        return Shift(None, 0.0, "few")
    a, e = (one + 0.5) / (n + 0.5 * bands), (two + 0.5) / (m + 0.5 * bands)  # half a case more: an empty band has a logarithm
    index = float(((a - e) * np.log(a / e)).sum())
    chance = _chi_squared_95(bands - 1) * (1 / n + 1 / m)
    if index < SMALL:
        return Shift(index, chance, "alike")
    return Shift(index, chance, "chance" if index <= chance else "some" if index <= LARGE else "large")


def _joined(here: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbouring bands together until each has enough of the reference; what is left at the end goes to the last."""
    least = LEAST_SHARE * float(reference.sum())
    starts, held = [0], 0.0
    for place, cases in enumerate(reference):
        if held >= least and float(reference[place:].sum()) >= least:
            starts.append(place)
            held = 0.0
        held += float(cases)
    return np.add.reduceat(here, starts), np.add.reduceat(reference, starts)


def _chi_squared_95(degrees: int) -> float:
    """The 0.95 quantile by Wilson and Hilferty (1931), good to 3 %: scipy takes longer to import than this page to write."""
    if not degrees:
        return 0.0
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + 1.6449 * math.sqrt(part)) ** 3)

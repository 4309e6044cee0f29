"""What train had of one input in; the limits of a normal row out, and which rows of a table lie outside of them, by reason code.

A reason code is a kind and a place, `range:age`, `spacing:ct.slices`: it names columns, variables and leads, never a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import RecipeError
from meddx.yamlconf import nearest

Places = NDArray[np.int64]
Ends = tuple[float | None, float | None]
TAILS = 0.001  # of train's values at either end: what lies beyond may be a typing error, and says nothing of what is normal
LEAST_VALUES = 100  # known values of train, below which nothing is learned of a column
LEAST_FILES = 30  # the same of pictures, volumes and signals: what is measured there hardly varies by itself
BELOW = 5.0  # a value this many times below the lowest of train, where train was always above 0
TWICE = 2.0  # distance of voxels or samples: resampling copes with less


@dataclass(frozen=True)
class Range:
    """Limits of a normal value, open where infinite.  `seen`: the ends in train, rounded outwards to two digits, so that they are
    no patient's value; `given`: the recipe names the limits."""

    low: float
    high: float
    seen: tuple[float, float] | None = None
    given: bool = False

    @property
    def limits(self) -> Ends:
        return (self.low if math.isfinite(self.low) else None, self.high if math.isfinite(self.high) else None)


@dataclass(frozen=True)
class Normal:
    """All that one input knows of a normal row: code to range, place to unit, and the columns that no row of train lacked."""

    ranges: dict[str, Range] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    complete: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        ranges = {code: [*one.limits, None if one.seen is None else list(one.seen), one.given] for code, one in self.ranges.items()}
        return {"ranges": ranges, "units": dict(self.units), "complete": list(self.complete)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any] | None) -> Normal | None:
        """None where a bundle states nothing, as those of old.  TypeError, ValueError or KeyError where it is no such description."""
        if state is None:
            return None
        ranges = {str(code): _range(*one) for code, one in state["ranges"].items()}
        units = {str(name): str(unit) for name, unit in state["units"].items()}
        return cls(ranges, units, tuple(str(name) for name in state["complete"]))

    @cached_property
    def _ends(self) -> dict[str, tuple[float, float]]:
        return {code: (one.low, one.high) for code, one in self.ranges.items()}

    def ends(self, codes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) float64 of these codes; infinite where nothing is known."""
        none = (-math.inf, math.inf)
        low, high = np.array([self._ends.get(code, none) for code in codes], float).reshape(-1, 2).T
        return low, high

    def beyond(self, codes: Sequence[str], matrix: np.ndarray) -> dict[str, Places]:
        """Code to the rows outside of its range, of float [codes, n] with NaN where nothing is known; no code for which there are none.

        The extremes of a column are enough where all of it is normal: that reads the matrix twice and writes nothing.
        """
        if not matrix.size or not self.ranges:
            return {}
        low, high = self.ends(codes)
        least, most = np.fmin.reduce(matrix, axis=1), np.fmax.reduce(matrix, axis=1)
        return {
            codes[at]: np.flatnonzero((matrix[at] < low[at]) | (matrix[at] > high[at]))
            for at in np.flatnonzero((least < low) | (most > high)).tolist()
        }


def stated(normal: Normal | None) -> dict[str, Any]:
    """The entry `normal` of a state; none where nothing is known, so that an old bundle's page stays what it was."""
    return {} if normal is None else {"normal": normal.state()}


def _range(low: Any, high: Any, seen: Any, given: Any) -> Range:
    ends = None if seen is None else (float(seen[0]), float(seen[1]))
    made = Range(-math.inf if low is None else float(low), math.inf if high is None else float(high), ends, bool(given))
    if not made.low <= made.high:  # NaN too
        raise ValueError("limits that cannot be")
    return made


def learn(values: np.ndarray, least: int = LEAST_VALUES) -> Range | None:
    """The range of a column from its values in train; None where there are too few, or all are equal.

    The ends are the quantiles 0.001 and 0.999, and the limits lie one more width of that away at either side: an ordinary extreme is
    rarely that far, a wrong unit nearly always.  A column that is never negative in train has its low limit at 0 at least, since -1 and
    -9 are codes for missing; one that is always above 0 at a fifth of its low end, since that is where cm for m and mg/dl for mmol/l
    are lost: `low - width` is below 0 for most of them.  docs/design.md has what this flags of rows left out, and of wrong units.
    """
    known = values[np.isfinite(values)]
    if len(known) < least:
        return None
    bottom, top = float(known.min()), float(known.max())
    low, high = (float(one) for one in np.quantile(known, (TAILS, 1 - TAILS)))
    if low == high:  # nearly all are equal: then the others are what there is to go by
        low, high = bottom, top
    if not 0 < high - low < math.inf:
        return None
    low, high = seen = _outwards(low, high)
    floor = low / BELOW if bottom > 0 else 0.0 if bottom >= 0 else -math.inf
    return Range(max(low - (high - low), floor), high + (high - low), seen)


def learn_distance(values: np.ndarray) -> Range | None:
    """The range of distances, or of rates: up to twice and down to half of what train had."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST_FILES:
        return None
    low, high = seen = _outwards(float(known.min()), float(known.max()))
    return Range(low / TWICE, high * TWICE, seen)


def learn_floor(values: np.ndarray) -> Range | None:
    """The range of something that has no upper end: down to a fifth of what train had."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST_FILES:
        return None
    low, high = seen = _outwards(*(float(one) for one in np.quantile(known, (TAILS, 1 - TAILS))))
    return Range(low / BELOW, math.inf, seen)


def learn_exact(values: np.ndarray) -> Range | None:
    """The range of small whole numbers, such as channels: just those that train had."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST_FILES:
        return None
    low, high = float(known.min()), float(known.max())
    return Range(low, high, (low, high))


def of_files(units: Mapping[str, str], **kinds: Mapping[str, Range | None]) -> Normal:
    """Of pictures and volumes: a kind of code to (place to range)."""
    found = {f"{kind}:{place}": one for kind, of in kinds.items() for place, one in of.items() if one is not None}
    return Normal(found, dict(units))


def _outwards(low: float, high: float) -> tuple[float, float]:
    """The ends with two digits of the width, or of themselves where that is finer, the low one rounded down and the high one up."""
    width = high - low
    return _rounded(low, width, math.floor), _rounded(high, width, math.ceil)


def _rounded(value: float, width: float, towards: Callable[[float], int]) -> float:
    size = min(abs(value) or width, width or abs(value))
    if not 1e-300 < size < 1e300:
        return value
    digits = 1 - math.floor(math.log10(size))
    return float(f"{towards(round(value * 10.0**digits, 6))}e{-digits}")


def of_columns(
    where: str,
    limits: Mapping[str, Ends],
    units: Mapping[str, str],
    learned: Mapping[str, Range | None],
    complete: Sequence[str],
    before: str,
) -> Normal:
    """All of a table's input; `before` the names of a joined source's fields stands the source.  RecipeError for a limit or a unit of a
    column that is no number of it."""
    need_known(limits, learned, f"{where}.limits", "number of this input")
    need_known(units, learned, f"{where}.units", "number of this input")
    ranges = ranges_of(learned, limits, f"range:{before}")
    return Normal(ranges, {before + column: unit for column, unit in units.items()}, tuple(before + one for one in complete))


def ranges_of(found: Mapping[str, Range | None], limits: Mapping[str, Ends], before: str) -> dict[str, Range]:
    """Code (`before` + name) to range: what the recipe gives, else what was learned of a name, as far as it was."""
    made: dict[str, Range] = {}
    for name, learned in found.items():
        seen = None if learned is None else learned.seen
        if name in limits:
            low, high = limits[name]
            made[before + name] = Range(-math.inf if low is None else low, math.inf if high is None else high, seen, True)
        elif learned is not None:
            made[before + name] = learned
    return made


def need_known(given: Collection[str], known: Collection[str], where: str, what: str) -> None:
    """RecipeError for the first of the names given that is none of those known, with the nearest."""
    for name in given:
        if name not in known:
            guess = nearest(name, known)
            shown = ", ".join(list(known)[:20]) + (" ..." if len(known) > 20 else "")
            raise RecipeError(f"{name!r} is no {what}", where, (f"did you mean {guess!r}? " if guess else "") + f"there are: {shown}")

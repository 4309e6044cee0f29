"""Signals as they are before they are standardised in; how far they swing, their rates, and which are not as those of train, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from meddx.inputs.normal import LEAST_FILES, Normal, Places, learn, learn_distance, ranges_of
from meddx.inputs.options import SignalInput

SOME = 1 << 12  # samples of a lead that its spread is taken from; evenly spaced, for more say no more of a unit


@dataclass(frozen=True)
class Measured:
    """Of each signal, NaN where there is none: rate [n] of the file, samples a second; a lead (all [n, leads], in the units of the file,
    after filter and resampling) the standard deviation, lowest and highest sample, the last two only where they are asked for."""

    rate: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def nothing(cls, rows: int, leads: int, *, ends: bool) -> Measured:
        return cls(np.full(rows, np.nan), *(np.full((count, leads), np.nan) for count in (rows, rows * ends, rows * ends)))

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        return cls(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(cls)))

    def put(self, rows: np.ndarray, rate: float, values: np.ndarray) -> None:
        """Take the measure of `values` [rows, leads, n]."""
        self.rate[rows] = rate
        some = values[:, :, :: max(1, values.shape[2] // SOME)]
        with np.errstate(over="ignore"):
            self.spread[rows] = some.std(2, dtype=np.float64)
        if len(self.low):
            self.low[rows], self.high[rows] = values.min(2), values.max(2)


def learn_signals(place: str, options: SignalInput, measured: Measured) -> Normal:
    """Limits of the rate, and a lead of its spread: a lead that fell off has none, one in other units another."""
    limits = {} if options.limits is None else dict.fromkeys(options.leads, options.limits)
    spreads = {lead: learn(one, LEAST_FILES) for lead, one in zip(options.leads, measured.spread.T, strict=True)}
    ranges = ranges_of(spreads, limits, f"range:{place}.") | ranges_of({place: learn_distance(measured.rate)}, {}, "rate:")
    units = {} if options.units is None else {f"{place}.{lead}": options.units for lead in options.leads}
    return Normal(ranges, units)


def given(normal: Normal | None) -> bool:
    """Whether the recipe names limits of the samples."""
    return normal is not None and any(one.given for one in normal.ranges.values())


def outside(normal: Normal, place: str, leads: Sequence[str], measured: Measured) -> dict[str, Places]:
    """Code to rows.  Limits that the recipe gives are of every sample, learned ones of the spread."""
    codes = [f"range:{place}.{lead}" for lead in leads]
    found = normal.beyond([f"rate:{place}"], measured.rate[None])
    if not given(normal):
        return found | normal.beyond(codes, measured.spread.T)
    low, high = normal.beyond(codes, measured.low.T), normal.beyond(codes, measured.high.T)
    none = np.zeros(0, np.int64)
    return found | {code: np.union1d(low.get(code, none), high.get(code, none)) for code in codes if code in low or code in high}

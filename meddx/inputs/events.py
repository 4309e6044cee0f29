"""Readings of named variables over time in; a grid of values with a mask and the time since last seen out, fitted on train only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.duration import hours
from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.events_normal import of_variables, outside
from meddx.inputs.fold import is_joined
from meddx.inputs.normal import Normal, Range, learn, stated
from meddx.inputs.options import EventsInput
from meddx.inputs.readings import Fields, Readings, read, usual_form
from meddx.inputs.summary import summarise, summary_names
from meddx.inputs.types import Prepared

TAILS = 0.001  # of train's values of a variable, at either end: what lies beyond is drawn in, for one typing error moves a mean
MAX_CELLS = 1_000_000  # steps x variables of one case
UNCONVERTED = 0.05  # share of train's cases with a unit that is neither the usual one nor in `convert`
_CHUNK = 512  # cases whose grid is built at once


@dataclass(frozen=True)
class EventVariable:
    """One variable as train has it: its units with the factor to the usual one, the ends of its values, mean and deviation between."""

    name: str
    units: tuple[tuple[str, float], ...]  # empty where the recipe names no unit column
    low: float
    high: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class EventsPreparation:
    """The fitted way of one events input: `window` and `bin` in hours, counted from predict_at.

    Step k holds what was read from window[0] + k * bin on, to before the next step; the last one also holds the end of the window.
    """

    name: str
    optional: bool
    source: str
    fields: Fields
    window: tuple[float, float]
    bin: float
    steps: int
    variables: tuple[EventVariable, ...]
    normal: Normal | None = None

    @classmethod
    def fit(cls, name: str, options: EventsInput, table: pa.Table) -> EventsPreparation:
        """Variables, usual units, means and deviations of `table`, which must be the train part alone.

        RecipeError where the input has no joined source or names a variable that is not there; DataError where none is left, or where
        many cases have a unit that nothing converts.
        """
        if options.source is None or not is_joined(table, options.source):
            what = f"the input {name!r} of kind events needs `from`, the name of a source that is joined to the cases"
            raise RecipeError(what, f"inputs.{name}", "give the source `join` and `time`, and the input `from`")
        window = (hours(options.window[0]), hours(options.window[1]))
        fields = (options.variable, options.value, options.unit)
        whole = read(table, options.source, fields, window, None)
        _need_named(name, options, whole.variables)
        made, learned = [], {}
        for code, variable in enumerate(whole.variables):
            fitted = _fit_variable(name, variable, options, whole.take(whole.variable == code)) if _asked(variable, options) else None
            if fitted:
                made.append(fitted[0])
                learned[variable] = fitted[1]
        if not made:
            raise DataError(f"the input {name!r} has no variable left", f"inputs.{name}", "look at variables, drop, window and min_share")
        if len(made) * options.steps > MAX_CELLS:
            what = f"{options.steps} steps of {len(made)} variables are more than {MAX_CELLS:,} values a case"
            raise RecipeError(what, f"inputs.{name}", "name fewer variables, a shorter window or a wider bin")
        units = {one.name: one.units[0][0] for one in made if one.units}
        normal = of_variables(f"inputs.{name}", options, units, learned)
        return cls(name, options.optional, options.source, fields, window, hours(options.bin), options.steps, tuple(made), normal)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.variables)

    def transform(self, table: pa.Table) -> Prepared:
        """values, seen, since float32 [n, steps, variables]; aside: summary float32 [n, variables * 8].

        values: standardised by train, several in a step averaged, carried forward, 0 before the first; seen: 1 where a step has a value;
        since: log(1 + hours since the last step with one), the window's length where there was none.  Variables that train did not have
        are passed over.  Row errors: unit_unexpected, value_unreadable (text that is no number, or infinity, of a known variable within
        the window).  A case without any value is present unless the input is optional.
        """
        rows = table.num_rows
        if self.optional and self.source not in table.column_names:
            return self._prepared(
                read(pa.table({self.source: pa.nulls(rows)}), self.source, self.fields, self.window, self.names), {}, rows
            )
        readings = read(table, self.source, self.fields, self.window, self.names)
        factor = _factors(self.variables, readings.units)[readings.variable, readings.unit]
        errors = dict.fromkeys(np.unique(readings.case[readings.bad]).tolist(), "value_unreadable")
        errors |= dict.fromkeys(np.unique(readings.case[np.isnan(factor)]).tolist(), "unit_unexpected")
        good = ~np.isin(readings.case, np.fromiter(errors, np.int64, len(errors)))
        low, high = (np.array([getattr(one, end) for one in self.variables]) for end in ("low", "high"))
        value = readings.value * factor
        drawn = np.clip(value, low[readings.variable], high[readings.variable])
        kept = replace(readings.take(good), value=drawn[good])
        found = {} if self.normal is None else outside(self.normal, self._codes, kept, value[good])
        return replace(self._prepared(kept, errors, rows), outside=found)

    @cached_property
    def _codes(self) -> list[str]:
        return [f"range:{self.source}.{one.name}" for one in self.variables]

    def _prepared(self, readings: Readings, errors: dict[int, str], rows: int) -> Prepared:
        shape = (rows, self.steps, len(self.variables))
        arrays = {name: np.zeros(shape, np.float32) for name in ("values", "seen", "since")}
        cuts = np.searchsorted(readings.case, np.arange(0, rows + _CHUNK, _CHUNK))
        for place, start in enumerate(range(0, rows, _CHUNK)):
            stop = min(start + _CHUNK, rows)
            self._fill(readings.take(np.arange(cuts[place], cuts[place + 1])), start, {key: one[start:stop] for key, one in arrays.items()})
        summary = summarise(readings.case, readings.variable, readings.hour, readings.value, rows, len(self.variables))
        present = np.ones(rows, bool)
        if self.optional:
            present = np.bincount(readings.case, minlength=rows) > 0
        present[list(errors)] = False
        return Prepared(arrays, present, dict(sorted(errors.items())), {"summary": summary})

    def _fill(self, readings: Readings, first: int, into: dict[str, np.ndarray]) -> None:
        """The grid of the cases from `first` on, written into the given parts of the arrays."""
        cases, steps, width = into["values"].shape
        place = np.floor((readings.hour - self.window[0]) / self.bin + 1e-9).astype(np.int64)
        step = np.clip(place, 0, steps - 1)
        mean, deviation = np.array([(one.mean, one.deviation) for one in self.variables]).T
        scaled = (readings.value - mean[readings.variable]) / deviation[readings.variable]
        key = ((readings.case - first) * steps + step) * width + readings.variable
        count = np.bincount(key, minlength=cases * steps * width).reshape(cases, steps, width)
        total = np.bincount(key, scaled, minlength=cases * steps * width).reshape(cases, steps, width)
        seen = count > 0
        last = np.maximum.accumulate(np.where(seen, np.arange(steps)[:, None], -1), axis=1)
        carried = np.take_along_axis(total / np.maximum(count, 1), np.maximum(last, 0), axis=1)
        waited = np.where(last < 0, self.window[1] - self.window[0], (np.arange(steps)[:, None] - last) * self.bin)
        into["values"][:] = np.where(last < 0, 0.0, carried)
        into["seen"][:] = seen
        into["since"][:] = np.log1p(waited)

    def spec(self) -> dict[str, Any]:
        """Sizes for the encoder, the variables' names, and the names of the summary's columns."""
        return {
            "kind": "events",
            "optional": self.optional,
            "steps": self.steps,
            "variables": len(self.variables),
            "names": list(self.names),
            "summary_names": summary_names(self.names),
        }

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "events",
            "name": self.name,
            "optional": self.optional,
            "source": self.source,
            "fields": list(self.fields),
            "window": list(self.window),
            "bin": self.bin,
            "steps": self.steps,
            "variables": [
                [one.name, [list(pair) for pair in one.units], one.low, one.high, one.mean, one.deviation] for one in self.variables
            ],
            **stated(self.normal),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> EventsPreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        try:
            variable, value, unit = state["fields"]
            start, end = state["window"]
            made = cls(
                str(state["name"]),
                bool(state["optional"]),
                str(state["source"]),
                (str(variable), str(value), None if unit is None else str(unit)),
                (float(start), float(end)),
                float(state["bin"]),
                int(state["steps"]),
                tuple(_variable(*one) for one in state["variables"]),
                Normal.from_state(state.get("normal")),
            )
            cells = made.steps * len(made.variables)
            if not 0 < cells <= MAX_CELLS or not made.window[0] < made.window[1] <= 0 or not made.bin > 0:
                raise ValueError("sizes that cannot be")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of an events input is not readable", next_step="the bundle is damaged: build it again") from error
        return made


def _variable(name: Any, units: Any, low: Any, high: Any, mean: Any, deviation: Any) -> EventVariable:
    pairs = tuple((str(unit), float(factor)) for unit, factor in units)
    made = EventVariable(str(name), pairs, float(low), float(high), float(mean), float(deviation))
    numbers = (made.low, made.high, made.mean, made.deviation, *(factor for _, factor in pairs))
    if not all(math.isfinite(one) for one in numbers) or made.low > made.high or made.deviation <= 0:
        raise ValueError("a variable's numbers cannot be")
    return made


def _asked(variable: str, options: EventsInput) -> bool:
    def any_of(patterns: tuple[str, ...]) -> bool:
        return any(variable == pattern or fnmatchcase(variable, pattern) for pattern in patterns)

    return any_of(options.variables) and not any_of(options.drop)


def _need_named(name: str, options: EventsInput, there: tuple[str, ...]) -> None:
    """RecipeError for a variable that is named outright and that train does not have: likely a spelling."""
    named = [one for one in options.variables if not any(sign in one for sign in "*?[")]
    lacking = [one for one in (*named, *options.convert) if one not in there]
    if lacking:
        shown = ", ".join(there[:20]) + (" ..." if len(there) > 20 else "")
        raise RecipeError(f"train has no variable {lacking[0]!r} within the window", f"inputs.{name}", f"there are: {shown}")
    for factors in options.convert.values():
        if not all(math.isfinite(factor) and factor != 0 for factor in factors.values()):
            raise RecipeError("a factor of `convert` is zero or not finite", f"inputs.{name}.convert", "give the factor to the usual unit")


def _fit_variable(name: str, variable: str, options: EventsInput, readings: Readings) -> tuple[EventVariable, Range | None] | None:
    """None where too few cases have it, or where most of its values are no numbers."""
    good = readings.take(~readings.bad)
    if len(np.unique(good.case)) < max(1.0, options.min_share * readings.cases) or len(good.case) < np.sum(readings.bad):
        return None
    units = _fit_units(name, variable, options, good)
    factor = np.ones(len(good.case))
    if options.unit is not None:
        table = dict(units)
        factor = np.array([table.get(unit, np.nan) for unit in good.units])[good.unit]
    values = np.sort((good.value * factor)[np.isfinite(factor)])  # sorted, so that sums do not depend on the order of rows
    low, high = (float(one) for one in np.quantile(values, (TAILS, 1 - TAILS)))
    normal = learn(values)
    values = np.clip(values, low, high)
    mean, deviation = float(values.mean()), float(values.std())
    return EventVariable(variable, units, low, high, mean, deviation if deviation > 1e-9 * max(abs(mean), 1e-30) else 1.0), normal


def _fit_units(name: str, variable: str, options: EventsInput, good: Readings) -> tuple[tuple[str, float], ...]:
    """(unit, factor) of all units that are understood, the usual one first; rows without a unit count as the usual one if train has such.

    The usual unit is the one most rows of train have, of those that `convert` does not turn into another.
    """
    if options.unit is None:
        return ()
    factors = {usual_form(unit): factor for unit, factor in options.convert.get(variable, {}).items()}
    counts = np.bincount(good.unit, minlength=len(good.units))
    there = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
    usual = next((place for place in there if place and good.units[place] not in factors), None)
    bare = [("", 1.0)] if counts[0] and "" not in factors else []
    pairs = [] if usual is None else [(good.units[usual], 1.0)]
    pairs += bare + [(unit, factor) for unit, factor in sorted(factors.items())]
    understood = {unit for unit, _ in pairs}
    lost = np.isin(good.unit, [place for place in there if good.units[place] not in understood])
    share = len(np.unique(good.case[lost])) / max(good.cases, 1)
    if share > UNCONVERTED:
        others = ", ".join(repr(good.units[place]) for place in there if good.units[place] not in understood)
        what = f"{share:.0%} of train's cases have {variable!r} in {others}, which nothing turns into {pairs[0][0]!r}"
        raise DataError(what, f"inputs.{name}.convert", f"convert: {{{variable}: {{unit: factor}}}}")
    return tuple(pairs)


def _factors(variables: tuple[EventVariable, ...], units: tuple[str, ...]) -> np.ndarray:
    """[variables, units] to multiply with; NaN for a unit that is not understood; all 1 for a variable without units."""
    made = np.full((len(variables), len(units)), np.nan)
    for row, variable in enumerate(variables):
        table = dict(variable.units)
        made[row] = [table.get(unit, np.nan) for unit in units] if variable.units else 1.0
    return made

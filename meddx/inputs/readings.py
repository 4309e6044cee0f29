"""The rows of a long table in (variable, value, unit, time); arrays of case, hour, variable and value, and which rows are bad, out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError
from meddx.inputs.cells import as_numbers, as_text
from meddx.inputs.fold import TIME, flat_column, parents, rows_of

_INFINITE = pa.array(["inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"])
NO_UNIT = ""
Fields = tuple[str, str, str | None]  # the columns of variable, value, unit


@dataclass(frozen=True)
class Readings:
    """Rows within the window that have a variable and something in the place of the value, ordered by case and time.

    case int64; hour float64 (0 = predict_at, else negative); variable int64, a place in `variables`; value float64, NaN where `bad`
    (text that is no number, or infinity); unit int64, a place in `units` (0 = none given).
    """

    cases: int
    variables: tuple[str, ...]
    units: tuple[str, ...]
    case: np.ndarray
    hour: np.ndarray
    variable: np.ndarray
    value: np.ndarray
    unit: np.ndarray
    bad: np.ndarray

    def take(self, keep: np.ndarray) -> Readings:
        """The readings of a mask or of places."""
        fields = (self.case, self.hour, self.variable, self.value, self.unit, self.bad)
        return Readings(self.cases, self.variables, self.units, *(one[keep] for one in fields))


def usual_form(unit: str) -> str:
    """A unit without the accidents of typing: NFKC, no spaces, lower case, so that `mg/dL` is `mg / dl`."""
    return "".join(unicodedata.normalize("NFKC", unit).split()).casefold()


def read(table: pa.Table, source: str, fields: Fields, window: tuple[float, float], known: Sequence[str] | None) -> Readings:
    """The readings of the joined `source`; `fields`: the names of variable, value and unit; `window` in hours, both ends count.

    `known`: the variables that count, in the order of their codes; None: all that there are, by name.  DataError where a column lacks.
    """
    offsets, rows = rows_of(table, source)
    cases = len(offsets) - 1
    if not rows.num_rows:
        none = np.zeros(0, np.int64)
        return Readings(cases, tuple(known or ()), (NO_UNIT,), none, none.astype(float), none, none.astype(float), none, none.astype(bool))
    hour = np.asarray(pc.cast(_field(rows, source, TIME), pa.float64()))
    inside = np.flatnonzero((hour >= window[0]) & (hour <= window[1]))
    chosen = rows.select([name for name in dict.fromkeys(fields) if name in rows.column_names]).take(inside)
    names = as_text(_field(chosen, source, fields[0]), fields[0])
    if known is None:
        known = sorted(name for name in pc.unique(names).to_pylist() if name is not None)
    code = np.asarray(pc.fill_null(pc.index_in(names, value_set=pa.array(known, pa.string()), skip_nulls=True), -1)).astype(np.int64)
    value, bad = _values(_field(chosen, source, fields[1]))
    units, unit = _units(chosen, source, fields[2])
    whole = Readings(cases, tuple(known), units, parents(offsets)[inside], hour[inside], code, value, unit, bad)
    return whole.take((code >= 0) & (np.isfinite(value) | bad))


def _field(rows: pa.Table, source: str, name: str) -> pa.Array:
    if name not in rows.column_names:
        hint = "say `time` of this source, so that values have a place in time" if name == TIME else "look at its spelling, and at `keep`"
        raise DataError(f"the rows of {source!r} have no column {name!r}", "inputs", hint)
    return flat_column(rows, name)


def _values(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(float64 with NaN for none, bool: there, but no finite number)."""
    values, bad = as_numbers(column)
    if pa.types.is_floating(column.type):
        bad = np.isinf(np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan)))
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        spelled = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column, pa.string()))), value_set=_INFINITE)
        bad = bad | np.asarray(pc.fill_null(spelled, False))
    return np.where(bad, np.nan, values), bad


def _units(rows: pa.Table, source: str, name: str | None) -> tuple[tuple[str, ...], np.ndarray]:
    """(the units there are, none first; the unit of each row as a place in them)."""
    if name is None:
        return (NO_UNIT,), np.zeros(rows.num_rows, np.int64)
    coded = pc.dictionary_encode(as_text(_field(rows, source, name), name))
    forms = [usual_form(unit) for unit in coded.dictionary.to_pylist()]
    units = (NO_UNIT, *sorted(set(forms) - {NO_UNIT}))
    place = {unit: code for code, unit in enumerate(units)}
    mapped = np.array([*(place[form] for form in forms), 0], np.int64)  # the last for null
    return units, mapped[np.asarray(pc.fill_null(coded.indices, len(forms)))]

"""Columns of a table in; numbers, a missing mask and category codes out, by rules fitted on train only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import BundleError, DataError
from meddx.inputs.options import TableInput
from meddx.inputs.types import Prepared

MISSING, OTHER = 0, 1
MAX_LEVELS = 254  # missing and other included; histogram boosting takes at most 255 category codes
CLIP = 20.0  # standard deviations; a wrong unit at scoring time must not overflow float32
_UNREADABLE = "number_unreadable"
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$"
_NOT_A_NUMBER = ["", "nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"]


@dataclass(frozen=True)
class NumberColumn:
    """One number: the train median, mean and standard deviation of its finite values; deviation 0 = constant in train."""

    name: str
    median: float
    mean: float
    deviation: float

    def scale(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(standardised float32 [n], missing float32 [n]) of float64 values with NaN for missing; a constant column gives 0."""
        missing = ~np.isfinite(values)
        if self.deviation == 0.0:
            return np.zeros(len(values), np.float32), missing.astype(np.float32)
        filled = np.where(missing, self.median, values)
        scaled = np.clip(filled / self.deviation - self.mean / self.deviation, -CLIP, CLIP)
        return scaled.astype(np.float32), missing.astype(np.float32)


@dataclass(frozen=True)
class CategoryColumn:
    """One category: the levels seen often enough in train, most frequent first; they have the codes 2, 3, ..."""

    name: str
    levels: tuple[str, ...]

    def codes(self, texts: pa.Array) -> np.ndarray:
        """int64 [n]: 0 missing, 1 a value that train did not have (or seldom), 2.. the levels."""
        found = pc.index_in(texts, value_set=pa.array(self.levels, pa.string()), skip_nulls=True)
        codes = np.asarray(pc.fill_null(pc.add(pc.cast(found, pa.int64()), 2), OTHER))
        return np.where(np.asarray(pc.is_null(texts)), MISSING, codes)


def _column(table: pa.Table, name: str) -> pa.Array | None:
    """The column as one array without dictionary, or None where the table lacks it.  DataError if it stands twice."""
    places = table.schema.get_all_field_indices(name)
    if len(places) > 1:
        raise DataError(f"the column {name!r} stands {len(places)} times in the table")
    if not places:
        return None
    column = table.column(places[0]).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_boolean(kind))


def as_text(column: pa.Array, name: str) -> pa.Array:
    """The values as text, empty text as null; a whole float is written as a whole number, so 11, 11.0 and "11" are one level."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        values = np.asarray(pc.fill_null(pc.cast(column, pa.float64()), 0.0))
        if np.all((values == np.floor(values)) & (np.abs(values) < 2**53)):
            column = pc.cast(column, pa.int64())
    try:
        texts = pc.cast(column, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(f"the column {name!r} holds {column.type}, not text or numbers") from error
    return pc.if_else(pc.equal(texts, ""), None, texts)


def as_numbers(column: pa.Array, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [n] with NaN for missing, bool [n] True where a text is not a number).

    Text is parsed, for a caller may hand over what a form field held; dates are days since 1970; infinity is missing.
    """
    unreadable = np.zeros(len(column), bool)
    if _is_text(column.type):
        column, unreadable = _parse(column)
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
        column = pc.divide(pc.cast(micros, pa.float64()), 86_400e6)
    try:
        column = pc.cast(column, pa.float64(), safe=False)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(f"the column {name!r} holds {column.type}, not numbers") from error
    values = np.array(pc.fill_null(column, np.nan), np.float64)
    values[~np.isfinite(values)] = np.nan
    return values, unreadable


def _parse(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    number = pc.match_substring_regex(texts, _NUMBER)
    unknown = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(_NOT_A_NUMBER))
    unreadable = pc.fill_null(pc.invert(pc.or_(number, unknown)), False)
    plain = pc.replace_substring_regex(pc.if_else(pc.fill_null(number, False), texts, None), r"^\+", "")
    return pc.cast(plain, pa.float64()), np.asarray(unreadable).astype(bool)


def _fit_number(name: str, values: np.ndarray) -> NumberColumn:
    known = values[np.isfinite(values)]
    if not len(known):
        return NumberColumn(name, 0.0, 0.0, 0.0)
    unit = float(np.abs(known).max()) or 1.0  # so that squares of huge values do not overflow
    mean, deviation = float((known / unit).mean()), float((known / unit).std())
    if deviation <= 1e-9 * abs(mean):
        deviation = 0.0
    return NumberColumn(name, float(np.median(known)), mean * unit, deviation * unit)


def _fit_category(name: str, texts: pa.Array, min_count: int) -> CategoryColumn:
    counts = pc.value_counts(pc.drop_null(texts))
    frequent = counts.filter(pc.greater_equal(counts.field("counts"), min_count))
    pairs = sorted(
        zip(frequent.field("values").to_pylist(), frequent.field("counts").to_pylist(), strict=True), key=lambda pair: (-pair[1], pair[0])
    )
    return CategoryColumn(name, tuple(level for level, _ in pairs[: MAX_LEVELS - 2]))


@dataclass(frozen=True)
class TablePreparation:
    """The fitted way of one table input."""

    name: str
    optional: bool
    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]

    @classmethod
    def fit(cls, name: str, options: TableInput, columns: Sequence[str], table: pa.Table) -> TablePreparation:
        """Medians, deviations and levels of `columns` in `table`, which must be the train part alone."""
        if not columns:
            raise DataError(f"the input {name!r} has no columns left", "inputs", "name columns, or drop fewer")
        numbers, categories = [], []
        for column_name in columns:
            column = _column(table, column_name)
            if column is None:
                raise DataError(f"the column {column_name!r} of the input {name!r} is not in the table")
            if _is_text(column.type) or any(fnmatchcase(column_name, pattern) for pattern in options.category):
                categories.append(_fit_category(column_name, as_text(column, column_name), options.min_count))
            else:
                numbers.append(_fit_number(column_name, as_numbers(column, column_name)[0]))
        return cls(name, options.optional, tuple(numbers), tuple(categories))

    @property
    def columns(self) -> tuple[str, ...]:
        return (*(one.name for one in self.numbers), *(one.name for one in self.categories))

    def transform(self, table: pa.Table) -> Prepared:
        """numbers float32 [n, d], missing float32 [n, d], codes int64 [n, c].

        A row is absent where the input is optional and every column is empty.  Text that is no number in a number's
        place is the row error `number_unreadable`.  DataError where a column of a needed input is not there.
        """
        rows = table.num_rows
        arrays = {
            "numbers": np.zeros((rows, len(self.numbers)), np.float32),
            "missing": np.ones((rows, len(self.numbers)), np.float32),
            "codes": np.full((rows, len(self.categories)), MISSING, np.int64),
        }
        bad = np.zeros(rows, bool)
        columns = self._take(table)
        for place, number in enumerate(self.numbers):
            values, unreadable = as_numbers(columns[number.name], number.name)
            arrays["numbers"][:, place], arrays["missing"][:, place] = number.scale(values)
            bad |= unreadable
        for place, category in enumerate(self.categories):
            arrays["codes"][:, place] = category.codes(as_text(columns[category.name], category.name))
        present = ~bad
        if self.optional:
            present &= (arrays["missing"] == 0).any(1) | (arrays["codes"] != MISSING).any(1)
        return Prepared(arrays, present, {int(row): _UNREADABLE for row in np.flatnonzero(bad)})

    def _take(self, table: pa.Table) -> dict[str, pa.Array]:
        found = {name: _column(table, name) for name in self.columns}
        lacking = [name for name, column in found.items() if column is None]
        if lacking and not self.optional:
            shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
            raise DataError(
                f"the table lacks {len(lacking)} column(s) that the model needs: {shown}",
                f"input {self.name}",
                "give the column, empty where it is not known",
            )
        return {name: pa.nulls(table.num_rows) if column is None else column for name, column in found.items()}

    def spec(self) -> dict[str, Any]:
        """Sizes for the encoder; a category's size counts missing and other."""
        return {
            "kind": "table",
            "optional": self.optional,
            "numbers": len(self.numbers),
            "names": [one.name for one in self.numbers],
            "categories": [len(one.levels) + 2 for one in self.categories],
            "category_names": [one.name for one in self.categories],
        }

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "table",
            "name": self.name,
            "optional": self.optional,
            "numbers": [[one.name, one.median, one.mean, one.deviation] for one in self.numbers],
            "categories": [[one.name, list(one.levels)] for one in self.categories],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TablePreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        try:
            numbers = tuple(
                NumberColumn(str(name), float(median), float(mean), float(deviation)) for name, median, mean, deviation in state["numbers"]
            )
            categories = tuple(CategoryColumn(str(name), _levels(levels)) for name, levels in state["categories"])
            return cls(str(state["name"]), bool(state["optional"]), numbers, categories)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of a table input is not readable", next_step="the bundle is damaged: build it again") from error


def _levels(levels: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(level) for level in levels)

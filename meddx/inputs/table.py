"""Columns of a table in; numbers, a missing mask and category codes out, by rules fitted on train only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.cells import (
    CLIP,
    MAX_LEVELS,
    MISSING,
    OTHER,
    CategoryColumn,
    NumberColumn,
    as_numbers,
    as_text,
    fit_category,
    fit_number,
    is_text,
)
from meddx.inputs.fold import TIME, flat_column, fold_rows, is_joined, parents, rows_of, several_rows
from meddx.inputs.options import TableInput
from meddx.inputs.types import Prepared

__all__ = ["CLIP", "MAX_LEVELS", "MISSING", "OTHER", "CategoryColumn", "NumberColumn", "TablePreparation"]

_UNREADABLE = "number_unreadable"
_BLOCK = 1 << 22  # numbers that are stacked at once: thousands of columns of few cases at a stroke, few columns of many


@dataclass(frozen=True)
class TablePreparation:
    """The fitted way of one table input: columns of the cases, or of the rows of a joined `source`, `many` of them folded to one."""

    name: str
    optional: bool
    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]
    source: str | None = None
    many: str | None = None

    @classmethod
    def fit(cls, name: str, options: TableInput, columns: Sequence[str], table: pa.Table) -> TablePreparation:
        """Medians, deviations and levels of `columns` in `table`, which must be the train part alone.

        For a joined source `columns` may be just its name: the recipe's patterns are then looked for among the fields of its rows, where
        none reaches the time.  DataError where a column is not there, or a case has several rows and the recipe no `many`.
        """
        source = options.source if options.source is not None and is_joined(table, options.source) else None
        kinds = _kinds(table, source)
        if source is not None and list(columns) == [source]:
            columns = _matched(name, options, kinds)
        if not columns:
            raise DataError(f"the input {name!r} has no columns left", "inputs", "name columns, or drop fewer")
        for column in columns:
            if column not in kinds:
                raise DataError(f"the column {column!r} of the input {name!r} is not in the table")
        coded = {column for column in columns if is_text(kinds[column]) or any(fnmatchcase(column, one) for one in options.category)}
        numbers = [column for column in columns if column not in coded]
        codes = [column for column in columns if column in coded]
        rule = options.many if source is not None else None
        whole = cls(name, options.optional, (), (), source, rule)._flat(table, numbers, codes)
        if whole.several.any():
            what = f"{int(whole.several.sum()):,} case(s) have several rows in the source {source!r}"
            raise DataError(what, f"inputs.{name}", "say `many: latest`, first, mean or max")
        fitted = [
            fit_number(column, values)
            for block, matrix, _ in _stacks(whole.table, numbers)
            for column, values in zip(block, matrix, strict=True)
        ]
        levels = [fit_category(column, as_text(_column(whole.table, column), column), options.min_count) for column in codes]
        return cls(name, options.optional, tuple(fitted), tuple(levels), source, rule)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._names if self.source is None else (self.source,)

    @property
    def _names(self) -> tuple[str, ...]:
        return (*(one.name for one in self.numbers), *(one.name for one in self.categories))

    def transform(self, table: pa.Table) -> Prepared:
        """numbers float32 [n, d], missing float32 [n, d], codes int64 [n, c].

        A row is absent where the input is optional and every column is empty.  Row errors: text that is no number in a number's
        place (`number_unreadable`), several joined rows and no rule which counts (`several_rows`).  DataError where a column of a
        needed input is not there.
        """
        rows = table.num_rows
        arrays = {
            "numbers": np.zeros((rows, len(self.numbers)), np.float32),
            "missing": np.ones((rows, len(self.numbers)), np.float32),
            "codes": np.full((rows, len(self.categories)), MISSING, np.int64),
        }
        numbers, codes = [one.name for one in self.numbers], [one.name for one in self.categories]
        flat = self._flat(table, numbers, codes)
        self._need(flat.table)
        median, mean, deviation = np.array([(one.median, one.mean, one.deviation) for one in self.numbers]).reshape(-1, 3).T[:, :, None]
        bad, place = flat.bad.copy(), 0
        for block, matrix, unreadable in _stacks(flat.table, numbers):
            part = slice(place, place + len(block))
            arrays["numbers"][:, part] = _scale(matrix, median[part], mean[part], deviation[part]).T
            arrays["missing"][:, part] = ~np.isfinite(matrix).T
            bad |= unreadable
            place += len(block)
        for place, category in enumerate(self.categories):
            arrays["codes"][:, place] = category.codes(as_text(_column(flat.table, category.name), category.name))
        errors = dict.fromkeys(np.flatnonzero(bad).tolist(), _UNREADABLE) | dict.fromkeys(
            np.flatnonzero(flat.several).tolist(), "several_rows"
        )
        present = ~(bad | flat.several)
        if self.optional:
            present &= (arrays["missing"] == 0).any(1) | (arrays["codes"] != MISSING).any(1)
        return Prepared(arrays, present, dict(sorted(errors.items())))

    def _flat(self, table: pa.Table, numbers: Sequence[str], codes: Sequence[str]) -> _Flat:
        """The columns with one row a case; numbers of joined rows are read as numbers before they are folded, codes never averaged."""
        cases = table.num_rows
        if self.source is None or (self.optional and self.source not in table.column_names):
            return _Flat(table, np.zeros(cases, bool), np.zeros(cases, bool))
        offsets, rows = rows_of(table, self.source)
        case, bad = parents(offsets), np.zeros(cases, bool)
        made = {}
        for name in rows.column_names:
            if name in codes:
                made[name] = flat_column(rows, name)
            elif name in numbers:
                values, unreadable = as_numbers(flat_column(rows, name), name)
                made[name], bad[case[unreadable]] = pa.array(values), True
        several = several_rows(offsets) if self.many is None else np.zeros(cases, bool)
        if not rows.num_rows:  # rows that are nowhere need not have their columns
            made = {name: pa.nulls(0) for name in (*numbers, *codes)}
        return _Flat(fold_rows(offsets, pa.table(made), self.many, latest=codes), bad, several)

    def _need(self, table: pa.Table) -> None:
        there = set(table.column_names)
        lacking = [name for name in self._names if name not in there]
        if lacking and not self.optional:
            shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
            raise DataError(
                f"the table lacks {len(lacking)} column(s) that the model needs: {shown}",
                f"input {self.name}",
                "give the column, empty where it is not known",
            )

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
            "source": self.source,
            "many": self.many,
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
            source, many = state.get("source"), state.get("many")
            if many not in (None, "latest", "first", "mean", "max"):
                raise ValueError("no such rule")
            return cls(str(state["name"]), bool(state["optional"]), numbers, categories, None if source is None else str(source), many)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of a table input is not readable", next_step="the bundle is damaged: build it again") from error


@dataclass(frozen=True)
class _Flat:
    """One row a case; `bad`: a text that is no number in a number's place; `several`: several rows and no rule which counts."""

    table: pa.Table
    bad: np.ndarray
    several: np.ndarray


def _kinds(table: pa.Table, source: str | None) -> dict[str, pa.DataType]:
    """Column to type (of its values, where it is coded by a dictionary); of the joined rows where there is a source."""
    fields = table.schema if source is None else table.schema.field(source).type.value_type
    if source is not None and pa.types.is_null(fields):  # no case has a row
        return {}
    return {field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in fields}


def _matched(name: str, options: TableInput, kinds: Mapping[str, pa.DataType]) -> list[str]:
    """The fields of joined rows that the recipe's names and patterns mean, in the rows' order; a pattern reaches texts and numbers only."""
    for pattern in options.columns:
        if pattern != "*" and not any(fnmatchcase(field, pattern) or field == pattern for field in kinds):
            raise RecipeError(f"{pattern!r} stands for no column of {options.source!r}", f"inputs.{name}", f"there are: {', '.join(kinds)}")
    plain = [
        field for field, kind in kinds.items() if field != TIME and (is_text(kind) or _is_plain_number(kind) or pa.types.is_null(kind))
    ]
    wanted = [
        field
        for field in kinds
        if field in options.columns or (field in plain and any(fnmatchcase(field, pattern) for pattern in options.columns))
    ]
    return [field for field in wanted if field not in options.drop and not any(fnmatchcase(field, pattern) for pattern in options.drop)]


def _is_plain_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _column(table: pa.Table, name: str) -> pa.Array:
    """The column as one array without dictionary, nulls where the table lacks it.  DataError if it stands twice."""
    places = table.schema.get_all_field_indices(name)
    if len(places) > 1:
        raise DataError(f"the column {name!r} stands {len(places)} times in the table")
    return flat_column(table, name) if places else pa.nulls(table.num_rows)


def _stacks(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[Sequence[str], np.ndarray, np.ndarray]]:
    """(names, float64 [names, n] with NaN for missing, bool [n] a text that is no number), a block of columns at a time."""
    place = {name: at for at, name in enumerate(table.column_names)}
    count = Counter(table.column_names) if len(place) < table.num_columns else {}
    wide = max(1, _BLOCK // max(table.num_rows, 1))
    for start in range(0, len(names), wide):
        block = names[start : start + wide]
        matrix, unreadable = np.empty((len(block), table.num_rows)), np.zeros(table.num_rows, bool)
        for row, name in enumerate(block):
            column = table.column(place[name]) if name in place and count.get(name, 1) == 1 else None
            if column is not None and _is_plain_number(column.type):
                matrix[row] = column.to_numpy()  # null becomes NaN
            else:
                matrix[row], bad = as_numbers(_column(table, name), name)
                unreadable |= bad
        matrix[~np.isfinite(matrix)] = np.nan
        yield block, matrix, unreadable


def _scale(matrix: np.ndarray, median: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """`NumberColumn.scale` of many columns: [d, n] with d x 1 medians, means and deviations; a constant column gives 0."""
    still = deviation == 0.0
    over = np.where(still, 1.0, deviation)
    scaled = np.clip(np.where(np.isfinite(matrix), matrix, median) / over - mean / over, -CLIP, CLIP)
    return np.where(still, 0.0, scaled)


def _levels(levels: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(level) for level in levels)

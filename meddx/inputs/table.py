"""Columns of a table in; numbers, a missing mask and category codes out, by rules fitted on train only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError, DataError
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
    is_plain_number,
    is_text,
    need_numbers,
    read_text,
)
from meddx.inputs.fold import flat_column, fold_rows, is_joined, parents, rows_of, several_rows
from meddx.inputs.normal import LEAST_VALUES, Normal, learn, of_columns, stated
from meddx.inputs.options import TableInput
from meddx.inputs.table_fields import kinds_of, matched
from meddx.inputs.types import Prepared

__all__ = ["CLIP", "MAX_LEVELS", "MISSING", "OTHER", "CategoryColumn", "NumberColumn", "TablePreparation"]

_UNREADABLE = "number_unreadable"
_BLOCK = 1 << 17  # numbers that are stacked at once: many columns of few cases, few of many; what stays in the caches of a usual processor


@dataclass(frozen=True)
class TablePreparation:
    """The fitted way of one table input: columns of the cases, or of the rows of a joined `source`, `many` of them folded to one."""

    name: str
    optional: bool
    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]
    source: str | None = None
    many: str | None = None
    normal: Normal | None = None

    @classmethod
    def fit(cls, name: str, options: TableInput, columns: Sequence[str], table: pa.Table) -> TablePreparation:
        """Medians, deviations and levels of `columns` in `table`, which must be the train part alone.

        For a joined source `columns` may be just its name: the recipe's patterns are then looked for among the fields of its rows, where
        none reaches the time.  DataError where a column is not there, or a case has several rows and the recipe no `many`.
        """
        source = options.source if options.source is not None and is_joined(table, options.source) else None
        kinds = kinds_of(table, source)
        if source is not None and list(columns) == [source]:
            columns = matched(name, options, kinds)
        if not columns:
            raise DataError(f"the input {name!r} has no columns left", "inputs", "name columns, or drop fewer")
        for column in columns:
            if column not in kinds:
                raise DataError(f"the column {column!r} of the input {name!r} is not in the table")
        coded = {column for column in columns if is_text(kinds[column]) or any(fnmatchcase(column, one) for one in options.category)}
        numbers = [column for column in columns if column not in coded]
        codes = [column for column in columns if column in coded]
        for column in numbers:
            need_numbers(column, kinds[column])
        rule = options.many if source is not None else None
        whole = cls(name, options.optional, (), (), source, rule)._flat(table, numbers, codes)
        if whole.several.any():
            what = f"{int(whole.several.sum()):,} case(s) have several rows in the source {source!r}"
            raise DataError(what, f"inputs.{name}", "say `many: latest`, first, mean or max")
        fitted, learned, complete = [], {}, []
        for block, matrix, gone, _ in _stacks(whole.table, numbers):
            for column, values in zip(block, matrix, strict=True):
                fitted.append(fit_number(column, values))
                learned[column] = learn(values)
                complete += [column] if gone is None or np.isfinite(values).all() else []
        texts = {column: as_text(_column(whole.table, column), column) for column in codes}
        levels = [fit_category(column, found, options.min_count) for column, found in texts.items()]
        complete += [column for column, found in texts.items() if not found.null_count]
        before = "" if source is None else f"{source}."
        normal = of_columns(
            f"inputs.{name}", options.limits, options.units, learned, complete if table.num_rows >= LEAST_VALUES else [], before
        )
        return cls(name, options.optional, tuple(fitted), tuple(levels), source, rule, normal)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._names if self.source is None else (self.source,)

    @property
    def _names(self) -> tuple[str, ...]:
        return (*(one.name for one in self.numbers), *(one.name for one in self.categories))

    def transform(self, table: pa.Table) -> Prepared:
        """numbers float32 [n, d], missing float32 [n, d], codes int64 [n, c].

        A row is absent where the input is optional and every column is empty.  Row errors: something that is no number in a number's
        place (`number_unreadable`), or no text in a category's (`category_unreadable`), several joined rows and no rule which counts
        (`several_rows`).  DataError where a column of a needed input is not there.
        """
        rows = table.num_rows
        arrays = {
            "numbers": np.empty((rows, len(self.numbers)), np.float32),
            "missing": np.zeros((rows, len(self.numbers)), np.float32),
            "codes": np.full((rows, len(self.categories)), MISSING, np.int64),
        }
        numbers, codes = [one.name for one in self.numbers], [one.name for one in self.categories]
        flat = self._flat(table, numbers, codes)
        self._need(flat.table)
        median, mean, deviation = np.array([(one.median, one.mean, one.deviation) for one in self.numbers]).reshape(-1, 3).T[:, :, None]
        bad, place = flat.bad.copy(), 0
        errors: dict[int, str] = {}
        outside: dict[str, np.ndarray] = {}
        for block, matrix, gone, unreadable in _stacks(flat.table, numbers):
            part = slice(place, place + len(block))
            if self.normal is not None:
                outside |= self.normal.beyond(self._codes[part], matrix)
            if gone is not None:
                arrays["missing"][:, part] = gone.T
                np.copyto(matrix, median[part], where=gone)
            arrays["numbers"][:, part] = _scale(matrix, mean[part], deviation[part]).T
            if unreadable is not None:
                bad |= unreadable
            place += len(block)
        for place, category in enumerate(self.categories):
            texts, odd = read_text(_column(flat.table, category.name), category.name)
            arrays["codes"][:, place] = category.codes(texts)
            errors |= dict.fromkeys(np.flatnonzero(odd).tolist(), "category_unreadable")
        errors |= dict.fromkeys(np.flatnonzero(bad).tolist(), _UNREADABLE)
        errors |= dict.fromkeys(np.flatnonzero(flat.several).tolist(), "several_rows")
        present = np.ones(rows, bool)
        present[list(errors)] = False
        if self.optional:
            present &= (arrays["missing"] == 0).any(1) | (arrays["codes"] != MISSING).any(1)
        return Prepared(arrays, present, dict(sorted(errors.items())), outside=outside)

    @cached_property
    def _codes(self) -> list[str]:
        return [f"range:{'' if self.source is None else self.source + '.'}{one.name}" for one in self.numbers]

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
                values, unreadable = as_numbers(flat_column(rows, name))
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
            **stated(self.normal),
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
            where = None if source is None else str(source)
            return cls(
                str(state["name"]), bool(state["optional"]), numbers, categories, where, many, Normal.from_state(state.get("normal"))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of a table input is not readable", next_step="the bundle is damaged: build it again") from error


@dataclass(frozen=True)
class _Flat:
    """One row a case; `bad`: a text that is no number in a number's place; `several`: several rows and no rule which counts."""

    table: pa.Table
    bad: np.ndarray
    several: np.ndarray


def _column(table: pa.Table, name: str) -> pa.Array:
    """The column as one array without dictionary, nulls where the table lacks it.  DataError if it stands twice."""
    places = table.schema.get_all_field_indices(name)
    if len(places) > 1:
        raise DataError(f"the column {name!r} stands {len(places)} times in the table")
    return flat_column(table, name) if places else pa.nulls(table.num_rows)


def _stacks(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[Sequence[str], np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """(names, float64 [names, n] with NaN for missing, bool [names, n] missing, bool [n] a text that is no number), a block of columns at a
    time; None where nothing is missing, or no column of the block was read as text."""
    place = {name: at for at, name in enumerate(table.column_names)}
    count = Counter(table.column_names) if len(place) < table.num_columns else {}
    wide = max(1, _BLOCK // max(table.num_rows, 1))
    for start in range(0, len(names), wide):
        block = names[start : start + wide]
        matrix, unreadable = np.empty((len(block), table.num_rows)), None
        for row, name in enumerate(block):
            column = table.column(place[name]) if name in place and count.get(name, 1) == 1 else None
            if column is not None and is_plain_number(column.type):
                matrix[row] = column.to_numpy()  # null becomes NaN
            else:
                matrix[row], bad = as_numbers(_column(table, name))
                unreadable = bad if unreadable is None else unreadable | bad
        known = np.isfinite(matrix)
        if known.all():
            yield block, matrix, None, unreadable
            continue
        gone = ~known
        matrix[gone] = np.nan
        yield block, matrix, gone, unreadable


def _scale(matrix: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """`NumberColumn.scale` of many columns without a gap, in place: [d, n] with d x 1 means and deviations; a constant one gives 0."""
    still = deviation == 0.0
    over = np.where(still, 1.0, deviation)
    matrix /= over  # in place: a large table waits for its memory, not for the arithmetic
    matrix -= mean / over
    np.clip(matrix, -CLIP, CLIP, out=matrix)
    matrix[still[:, 0]] = 0.0
    return matrix


def _levels(levels: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(level) for level in levels)

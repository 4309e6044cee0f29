"""Named filters and a table in, a mask of the cases that are in the cohort out; the same in training and in scoring.

Missing values follow three-valued logic, as in SQL: a comparison with a missing value is neither true nor false, `not` of it neither,
and only a filter that comes out true counts.  So a case whose value is missing is outside under `keep`, and stays in under `leave_out`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.dataset import grammar
from meddx.dataset.grammar import Both, Compare, Missing, Node, Not
from meddx.dataset.options import CohortOptions
from meddx.dataset.values import NUMBER, coded, flat, kind_of, missing, need_columns, numbers
from meddx.errors import RecipeError

Truth = tuple[np.ndarray, np.ndarray]  # bool [n]: surely true, surely false; neither is unknown


@dataclass(frozen=True)
class Filter:
    """One filter.  `parse(text)` reads it, `mask(table)` says where it is true."""

    text: str
    where: str
    tree: Node

    @classmethod
    def parse(cls, text: str, where: str = "cohort") -> Filter:
        """Raises RecipeError with the position for anything outside the grammar."""
        return cls(text, where, grammar.parse(text, where))

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(_columns(self.tree))

    def mask(self, table: pa.Table) -> np.ndarray:
        """bool [n]: the filter is surely true.  RecipeError for an unknown column or a comparison that its type does not allow."""
        need_columns(sorted(self.columns), table.schema.names, self.where)
        return self._truth(self.tree, table)[0]

    def _truth(self, node: Node, table: pa.Table) -> Truth:
        if isinstance(node, Not):
            yes, no = self._truth(node.inner, table)
            return no, yes
        if isinstance(node, Both):
            yes, no = self._truth(node.parts[0], table)
            for part in node.parts[1:]:
                more_yes, more_no = self._truth(part, table)
                yes, no = (yes & more_yes, no | more_no) if node.every else (yes | more_yes, no & more_no)
            return yes, no
        if isinstance(node, Missing):
            gone = _gone(table.column(node.column))
            return gone, ~gone
        return self._compare(node, table.column(node.column))

    def _compare(self, node: Compare, column: Any) -> Truth:
        kind = kind_of(column.type)
        if kind == "number":
            values, literals = numbers(column), [self._number(node, one) for one in node.literals]
            yes = np.isin(values, literals) if node.op == "==" else _ordered(values, node.op, literals[0])
        elif kind == "time":
            values = flat(pc.cast(column, pa.timestamp("us"), safe=False)).to_numpy(zero_copy_only=False)
            stamps = [self._instant(node, one) for one in node.literals]
            yes = np.isin(values, stamps) if node.op == "==" else _ordered(values, node.op, stamps[0])
        elif kind == "text":
            if node.op != "==":
                raise RecipeError(
                    f"the column {node.column!r} is text: {node.op} has no meaning for it",
                    self.where,
                    "use == or in [...], or have it read as numbers (take it out of the page's `text` and `category`)",
                )
            codes, levels = coded(column)
            yes = np.array([*(level in node.literals for level in levels), False], dtype=bool)[codes]
        elif kind == "empty":
            yes = np.zeros(len(column), dtype=bool)
        else:
            raise RecipeError(f"the column {node.column!r} holds no numbers, texts or times", self.where, "only `is missing` is possible")
        present = ~_gone(column)
        return yes & present, ~yes & present

    def _number(self, node: Compare, literal: str) -> float:
        if not NUMBER.fullmatch(literal):
            raise RecipeError(f"the column {node.column!r} holds numbers, {literal!r} is none", self.where, "compare it with a number")
        return float(literal)

    def _instant(self, node: Compare, literal: str) -> np.datetime64:
        return np.datetime64(instant(literal, f"{self.where}: column {node.column}"), "us")


def instant(text: str, where: str) -> datetime:
    """An ISO 8601 date or time as a UTC time without zone; a text without zone is UTC.  RecipeError where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise RecipeError(f"{text!r} is not a date or time", where, "write 2024-05-31 or 2024-05-31T08:00:00+02:00") from None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _ordered(values: np.ndarray, op: str, literal: Any) -> np.ndarray:
    compare = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}[op]
    result: np.ndarray = compare(values, literal)
    return result


def _gone(column: Any) -> np.ndarray:
    """Missing, and for text also empty: the same as for a label."""
    if kind_of(column.type) != "text":
        return missing(column)
    codes, levels = coded(column)
    empty = np.array([*(not level.strip() for level in levels), True], dtype=bool)
    return np.take(empty, codes)


def _columns(node: Node) -> set[str]:
    if isinstance(node, Not):
        return _columns(node.inner)
    if isinstance(node, Both):
        return set().union(*(_columns(part) for part in node.parts))
    return {node.column}


def _filters(options: CohortOptions) -> list[tuple[str, bool, Filter]]:
    """(key, keep, filter) of every named filter, in the page's order."""
    keep = [(f"keep.{name}", True, Filter.parse(text, f"cohort.keep.{name}")) for name, text in options.keep.items()]
    leave = [(f"leave_out.{name}", False, Filter.parse(text, f"cohort.leave_out.{name}")) for name, text in options.leave_out.items()]
    return keep + leave


def cohort_columns(options: CohortOptions) -> set[str]:
    """Every column that the filters read."""
    return set().union(*(one.columns for _, _, one in _filters(options)))


def as_compared(options: CohortOptions, table: pa.Table) -> pa.Table:
    """The table with text read as numbers where a filter orders a column against numbers: other writers keep numbers as text.

    For rows from elsewhere, not for training, where such a column is a question to the page.  A text that is no number is missing.
    """
    for name in sorted(set().union(*(_ordered_numbers(one.tree) for _, _, one in _filters(options)))):
        column = table.column(name) if name in table.column_names else None
        if column is not None and kind_of(column.type) in ("text", "binary") and not pa.types.is_boolean(column.type):
            values = [float(text) if (text := _text(value).strip()) and NUMBER.fullmatch(text) else None for value in column.to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64()))
    return table


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _ordered_numbers(node: Node) -> set[str]:
    if isinstance(node, Not):
        return _ordered_numbers(node.inner)
    if isinstance(node, Both):
        return set().union(*(_ordered_numbers(part) for part in node.parts))
    is_ordered = isinstance(node, Compare) and node.op != "==" and all(NUMBER.fullmatch(one) for one in node.literals)
    return {node.column} if is_ordered else set()


def cohort_mask(options: CohortOptions, table: pa.Table) -> np.ndarray:
    """bool [n]: every `keep` is true and no `leave_out` is."""
    inside = np.ones(table.num_rows, dtype=bool)
    for _, keep, one in _filters(options):
        mask = one.mask(table)
        inside &= mask if keep else ~mask
    return inside


def cohort_counts(options: CohortOptions, table: pa.Table) -> dict[str, int]:
    """{"read", "<keep|leave_out>.<name>": cases that this filter alone puts outside, "outside", "inside"}."""
    counts = {"read": table.num_rows}
    for key, keep, one in _filters(options):
        mask = one.mask(table)
        counts[key] = int((~mask if keep else mask).sum())
    inside = int(cohort_mask(options, table).sum())
    return {**counts, "outside": table.num_rows - inside, "inside": inside}

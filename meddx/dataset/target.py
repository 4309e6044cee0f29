"""The target's columns in, labels with a mask of the known ones out; labels are compared as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.dataset.options import TargetOptions
from meddx.dataset.values import NUMBER, coded, flat, need_columns, numbers
from meddx.errors import DataError

UNKNOWN_SHOWN = 5
Span = tuple[int, int, int]  # start, end (exclusive) in code points of the text, number of the class


@dataclass(frozen=True)
class Labels:
    """`values`: float32 [n] 0/1 (binary), int64 [n] class number (multiclass, ordinal), float64 [n] (regression), float32 [n, k] 0/1
    (multilabel), int64 [n] number of entities (tags; where they are is told by `spans_of`); 0 where unknown.

    `known`: bool of the same shape.
    """

    values: np.ndarray
    known: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """bool [n]: the case has its label, or in multilabel at least one of them."""
        return self.known if self.known.ndim == 1 else np.any(self.known, axis=1)

    def take(self, rows: np.ndarray) -> Labels:
        """The labels of some rows (positions or a mask)."""
        return Labels(self.values[rows], self.known[rows])


class TargetCoder:
    """Turns the target's columns into labels.

    `classes`: binary (first negative value, first positive value), with `positive_above` ("no", "yes"); multiclass, ordinal and tags the
    declared names; multilabel the names of the columns; regression none.  `columns`: all that `encode` reads.
    """

    def __init__(self, options: TargetOptions) -> None:
        self.options = options
        self.kind = options.kind
        self.columns = options.all_columns
        if options.kind == "multilabel":
            self.classes: tuple[str, ...] = options.columns
        elif options.kind in ("multiclass", "ordinal", "regression", "tags"):
            self.classes = tuple(options.classes)
        else:
            self.classes = ("no", "yes") if options.positive_above is not None else (options.negative[0], options.positive[0])
        self._numbers = dict.fromkeys(options.positive, 1) | dict.fromkeys(options.negative, 0)
        if options.classes:
            self._numbers = {text: number for number, texts in enumerate(options.classes.values()) for text in texts}

    def encode(self, table: pa.Table) -> Labels:
        """Labels of every row.  An empty value, or one in `unlabelled`, is not known; of tags only a null is, and entities with a label in
        `unlabelled` are left aside.

        Raises RecipeError for a column that is not there, DataError for a value that is not declared.
        """
        need_columns(self.columns, table.schema.names, "target")
        if self.kind == "regression":
            return self._amounts(table)
        if self.kind == "tags":
            return self._entities(table)
        labels = self._classes_of(table)
        if self.options.followed_until is None:
            return labels
        return Labels(labels.values, labels.known & ~((labels.values == 0) & self._followed_too_short(table)))

    def _classes_of(self, table: pa.Table) -> Labels:
        coded_columns = [self._encode_one(table, name) for name in self.options.answers]
        values = np.stack([found for found, _ in coded_columns], axis=1)
        known = np.stack([mask for _, mask in coded_columns], axis=1)
        if self.kind == "multilabel":
            return Labels(values.astype(np.float32), known)
        return Labels(values[:, 0].astype(np.float32 if self.kind == "binary" else np.int64), known[:, 0])

    def _followed_too_short(self, table: pa.Table) -> np.ndarray:
        """bool [n]: nobody knows whether the outcome came within the horizon (also where either instant is missing)."""
        assert self.options.followed_until is not None and self.options.horizon is not None
        until, decided = numbers(table.column(self.options.followed_until)), numbers(table.column("predict_at"))
        too_short: np.ndarray = ~(until - decided >= self.options.horizon.total_seconds() / 86_400)
        return too_short

    def _amounts(self, table: pa.Table) -> Labels:
        """Numbers as they are; `unlabelled` texts and empty values are not known, other texts are refused."""
        assert self.options.column is not None
        codes, levels = coded(table.column(self.options.column))
        amounts = [_amount(level, self.options.unlabelled) for level in levels]
        bad = [position for position, amount in enumerate(amounts) if amount == math.inf]
        if bad:
            raise self._refuse(self.options.column, levels, np.bincount(codes[codes >= 0], minlength=len(levels)), bad)
        values = np.array([*amounts, math.nan])[codes]
        return Labels(np.nan_to_num(values), ~np.isnan(values))

    def _entities(self, table: pa.Table) -> Labels:
        """How many entities each case has.  DataError for a label that is not declared, or a place that cannot be."""
        column = str(self.options.column)
        places = _places(table.column(column), column)
        found = np.array([self._number(label) for label in places.labels], dtype=np.int64)[places.codes]
        if (found == -2).any():
            bad = [position for position, label in enumerate(places.labels) if self._number(label) == -2]
            raise self._refuse(column, places.labels, np.bincount(places.codes, minlength=len(places.labels)), bad)
        return Labels(np.bincount(places.case[found >= 0], minlength=len(places.known)).astype(np.int64), places.known)

    def _encode_one(self, table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
        codes, levels = coded(table.column(name))
        found = [self._number(level) for level in levels]
        bad = [position for position, number in enumerate(found) if number == -2]
        if bad:
            raise self._refuse(name, levels, np.bincount(codes[codes >= 0], minlength=len(levels)), bad)
        lookup = np.array([*found, -1], dtype=np.int64)[codes]
        return np.maximum(lookup, 0), lookup >= 0

    def _number(self, level: str) -> int:
        """The class number of a value; -1 unlabelled, -2 not declared."""
        if not level.strip() or level in self.options.unlabelled:
            return -1
        limit = self.options.positive_above
        if limit is None:
            return self._numbers.get(level, -2)
        number = float(level) if NUMBER.fullmatch(level.strip()) else math.nan
        return -2 if math.isnan(number) else int(number > limit)

    def _refuse(self, name: str, levels: list[str], counts: np.ndarray, bad: list[int]) -> DataError:
        most = sorted(bad, key=lambda position: (-int(counts[position]), levels[position]))
        unit = "entities" if self.kind == "tags" else "cases"
        shown = ", ".join(f"{levels[p][:40]!r} ({int(counts[p])} {unit})" for p in most[:UNKNOWN_SHOWN])
        more = f" and {len(bad) - UNKNOWN_SHOWN} more values" if len(bad) > UNKNOWN_SHOWN else ""
        if self.options.positive_above is not None or self.kind == "regression":
            return DataError(
                f"the target holds values that are not numbers: {shown}{more}",
                f"column {name}",
                "declare them missing in the source, or list them in target.unlabelled",
            )
        lists = "target.classes" if self.options.classes else "target.positive, target.negative"
        return DataError(
            f"the target holds values that the page does not declare: {shown}{more}",
            f"column {name}",
            f"list each of them in {lists} or target.unlabelled, or leave the cases out by a cohort filter",
        )


def _amount(level: str, unlabelled: tuple[str, ...]) -> float:
    """The number of a text; NaN: not known; infinity: not a number."""
    if not level.strip() or level in unlabelled:
        return math.nan
    return float(level) if NUMBER.fullmatch(level.strip()) else math.inf


@dataclass(frozen=True)
class _Places:
    """All entities beneath each other: `case`, `start`, `end`, `codes` int64 [entities], labels[codes[i]]; `known` bool [n cases]."""

    case: np.ndarray
    start: np.ndarray
    end: np.ndarray
    codes: np.ndarray
    labels: list[str]
    known: np.ndarray


def _places(column: pa.ChunkedArray, name: str) -> _Places:
    """The entities of a column list<struct<start, end, label>>.  DataError for another column, a null in it, or an impossible place."""
    array = flat(column)
    if pa.types.is_null(array.type):
        none = np.zeros(0, np.int64)
        return _Places(none, none, none, none, [], np.zeros(len(array), dtype=bool))
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    row = array.type.value_type if is_list else None
    if row is None or not pa.types.is_struct(row) or not {"start", "end", "label"} <= {field.name for field in row}:
        what = f"the target holds {array.type}, not entities: a list of start, end and label a case"
        raise DataError(what, f"column {name}", "read files of tagged words with `format: iob`, or look at target.column")
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype(np.int64)
    entities = array.flatten()
    fields = {field.name: inner for field, inner in zip(row, entities.flatten(), strict=True)}
    codes, labels = coded(fields["label"])
    ends = [np.asarray(pc.fill_null(pc.cast(fields[key], pa.int64()), -1)) for key in ("start", "end")]
    bad = (codes < 0) | (ends[0] < 0) | (ends[1] <= ends[0])
    if bad.any():
        what = f"{int(bad.sum())} of {len(bad)} entities have no label, or do not end after they begin"
        raise DataError(what, f"column {name}", "start counts from 0, end is exclusive")
    known = np.asarray(array.is_valid())
    return _Places(np.repeat(np.arange(len(lengths)), lengths), ends[0], ends[1], codes, labels, known)


def spans_of(column: pa.ChunkedArray, classes: Mapping[str, Sequence[str]] | Sequence[str]) -> list[list[Span] | None]:
    """One list of (start, end, class number) a case, in the order of the text; None where the case is unlabelled.

    `classes`: class to the labels in the file that mean it (`target.classes`), or names that are labels themselves.  Entities with any
    other label are left aside: `TargetCoder.encode` has refused those that the page does not declare.
    """
    named = classes if isinstance(classes, Mapping) else {name: (name,) for name in classes}
    numbers_of = {label: number for number, labels in enumerate(named.values()) for label in labels}
    places = _places(column, "with the entities")
    found: list[list[Span] | None] = [[] if known else None for known in places.known]
    label_numbers = [numbers_of.get(label, -1) for label in places.labels]
    for case, start, end, code in zip(places.case.tolist(), places.start.tolist(), places.end.tolist(), places.codes.tolist(), strict=True):
        mine = found[case]
        if mine is not None and label_numbers[code] >= 0:
            mine.append((start, end, label_numbers[code]))
    return [None if one is None else sorted(one) for one in found]

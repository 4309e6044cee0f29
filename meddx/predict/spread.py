"""Answers in, how many of them fall into each band out: small enough for a bundle's page and for the metadata of a part.

The bands are fixed, so that counts of any two sets of rows can be added and held against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from meddx.predict import spans

Counts = dict[str, list[int]]
# Narrower towards 0 and 1: where an outcome is rare all answers lie below 0.1, and equal bands would see one answer there.
PROBABILITY = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
DEVIATIONS = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # a regression's value, from the mean of train
NUMBERS = (1, 2, 3, 4, 5, 6, 8, 11, 16, 21, 51, 101)  # spans of a text
VALUE = "value"
SPANS = spans.COLUMN
MOST_COLUMNS = 16  # of classes or labels; the rest is not counted

Scale = tuple[float, float]  # mean and deviation of a regression's target in train


def edges_of(column: str) -> tuple[float, ...]:
    """The inner edges of a column's bands; a band holds its lower edge."""
    return {VALUE: DEVIATIONS, SPANS: NUMBERS}.get(column, PROBABILITY)


def count_answers(answers: Mapping[str, NDArray[Any]], scale: Scale | None = None) -> Counts:
    """{column: rows in each band}; probabilities, values in their own units, or numbers of spans, [n] each; NaN is in no band."""
    found = {}
    for name, values in list(answers.items())[:MOST_COLUMNS]:
        numbers = np.asarray(values, np.float64)
        numbers = numbers[~np.isnan(numbers)]
        if name == VALUE:
            mean, deviation = scale or (0.0, 1.0)
            numbers = (numbers - mean) / deviation
        edges = edges_of(name)
        above = [len(numbers), *(int(np.count_nonzero(numbers >= edge)) for edge in edges), 0]  # faster than a search for each
        found[name] = [one - more for one, more in pairwise(above)]
    return found


def count_table(table: pa.Table, scale: Scale | None = None) -> Counts:
    """Of the scored rows in a table of predictions.  A regression is counted only where its scale is known."""
    names = [name for name, kind in zip(table.column_names, table.schema.types, strict=True) if _is_answer(name, kind)]
    if scale is None:
        names = [name for name in names if name != VALUE]
    scored = table.select([*names, "status"])
    mask = pc.equal(scored["status"], "scored")
    scored = scored if pc.all(mask).as_py() else scored.filter(mask)
    return count_answers({name: _numbers(scored[name]) for name in names[:MOST_COLUMNS]}, scale)


def add(counts: Sequence[Counts]) -> Counts:
    """The counts of several sets of rows together."""
    total: dict[str, NDArray[np.int64]] = {}
    for one in counts:
        for name, bands in one.items():
            total[name] = total[name] + bands if name in total else np.asarray(bands, np.int64)
    return {name: bands.tolist() for name, bands in total.items()}


def _is_answer(name: str, kind: pa.DataType) -> bool:
    return name == SPANS or (pa.types.is_floating(kind) and (name in ("probability", VALUE) or name.startswith("p_")))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    numbers = pc.list_value_length(column) if pa.types.is_list(column.type) else column
    return np.asarray(numbers.to_numpy(), np.float64)

"""Arrow columns in, plain numpy codes, texts and numbers out: the one place that says how a value reads as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import RecipeError
from meddx.yamlconf import nearest

Kind = Literal["number", "text", "time", "binary", "empty", "other"]
RESERVED = ("case_id", "patient_id", "predict_at")
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def kind_of(arrow_type: Any) -> Kind:
    """What a column holds, as far as filters, labels and models care; `empty` is a column of nulls only."""
    types = pa.types
    if types.is_dictionary(arrow_type):
        return kind_of(arrow_type.value_type)
    if types.is_floating(arrow_type) or types.is_integer(arrow_type) or types.is_decimal(arrow_type):
        return "number"
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_boolean(arrow_type):
        return "text"
    if types.is_timestamp(arrow_type) or types.is_date(arrow_type):
        return "time"
    if types.is_binary(arrow_type) or types.is_large_binary(arrow_type) or types.is_fixed_size_binary(arrow_type):
        return "binary"
    return "empty" if types.is_null(arrow_type) else "other"


def text_of(value: Any) -> str | None:
    """One value as text: 1.0 is "1", 0.5 is "0.5", true is "true", a time is ISO 8601; None for a missing one (NaN too)."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    number = float(value)
    if np.isnan(number):
        return None
    if isinstance(value, int) or (number.is_integer() and abs(number) < 1e16):
        return str(int(value))
    return repr(number)


def flat(column: Any) -> Any:
    """A column as one Arrow array without dictionary."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # older pyarrow returns chunks for some types
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def coded(column: Any) -> tuple[np.ndarray, list[str]]:
    """(codes int64 [n], levels): the text of row i is levels[codes[i]]; -1 is missing.  Levels are distinct, in order of appearance."""
    array = flat(column)
    if pa.types.is_null(array.type):
        return np.full(len(array), -1, dtype=np.int64), []
    encoded = array.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    levels: dict[str, int] = {}
    remap = np.full(len(encoded.dictionary) + 1, -1, dtype=np.int64)  # the last one serves the code -1
    for position, value in enumerate(encoded.dictionary.to_pylist()):
        text = text_of(value)
        if text is not None:
            remap[position] = levels.setdefault(text, len(levels))
    return remap[codes], list(levels)


def texts(column: Any) -> np.ndarray:
    """The column as an object array [n] of text, None where missing."""
    codes, levels = coded(column)
    lookup = np.array([*levels, None], dtype=object)
    result: np.ndarray = lookup[codes]
    return result


def numbers(column: Any) -> np.ndarray:
    """A number column as float64 [n], NaN where missing; a date column as days since 1970."""
    array = flat(column)
    if kind_of(array.type) == "time":
        array = pc.divide(pc.cast(pc.cast(pc.cast(array, pa.timestamp("us")), pa.int64()), pa.float64()), 86_400e6)
    array = pc.cast(array, pa.float64())
    result: np.ndarray = array.to_numpy(zero_copy_only=False).astype(np.float64)
    return result


def missing(column: Any) -> np.ndarray:
    """bool [n]: null, or NaN in a number column."""
    array = flat(column)
    if kind_of(array.type) == "number":
        gone: np.ndarray = np.isnan(numbers(array))
        return gone
    result: np.ndarray = array.is_null().to_numpy(zero_copy_only=False)
    return result


def need_columns(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """RecipeError naming the first of `names` that is not known, with the nearest one that is."""
    known = list(known)
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            raise RecipeError(f"there is no column {name!r}", where, f"did you mean {guess!r}?" if guess else listing(known))


def listing(names: Sequence[str]) -> str:
    """The first 20 names, for a message."""
    return f"columns: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}"

"""One column in; numbers with NaN for missing, or category codes, out; and what is learned of it from train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError

MISSING, OTHER = 0, 1
MAX_LEVELS = 254  # missing and other included; histogram boosting takes at most 255 category codes
CLIP = 20.0  # standard deviations; a wrong unit at scoring time must not overflow float32
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


def is_text(kind: pa.DataType) -> bool:
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


def read_text(column: pa.Array, name: str) -> tuple[pa.Array, np.ndarray]:
    """(`as_text`, bool [n] True where there is something that is no text), also for types that have no text at all."""
    try:
        return as_text(column, name), np.zeros(len(column), bool)
    except DataError:
        return pa.nulls(len(column), pa.string()), np.asarray(column.is_valid())


def need_numbers(name: str, kind: pa.DataType) -> None:
    """DataError for a column whose type has no numbers at all: train must not be without all of it."""
    if is_text(kind) or _is_bytes(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return
    try:
        pc.cast(pa.nulls(0, kind), pa.float64(), safe=False)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(f"the column {name!r} holds {kind}, not numbers") from error


def is_plain_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def as_numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [n] with NaN for missing, bool [n] True where there is something that is no number).

    Text is parsed, for a caller may hand over what a form field held; dates are days since 1970; infinity is missing.
    """
    unreadable = np.zeros(len(column), bool)
    if _is_bytes(column.type):  # some writers say nothing of text; a cell that is none must not cost the others
        column = pa.array([None if one is None else one.decode(errors="replace") for one in column.to_pylist()], pa.string())
    if is_text(column.type):
        column, unreadable = _parse(column)
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
        column = pc.divide(pc.cast(micros, pa.float64()), 86_400e6)
    try:
        column = pc.cast(column, pa.float64(), safe=False)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, records, bytes: no cell of them is a number
        return np.full(len(column), np.nan), unreadable | np.asarray(column.is_valid())
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


def fit_number(name: str, values: np.ndarray) -> NumberColumn:
    known = values[np.isfinite(values)]
    if not len(known):
        return NumberColumn(name, 0.0, 0.0, 0.0)
    unit = float(np.abs(known).max()) or 1.0  # so that squares of huge values do not overflow
    mean, deviation = float((known / unit).mean()), float((known / unit).std())
    if deviation <= 1e-9 * abs(mean):
        deviation = 0.0
    return NumberColumn(name, float(np.median(known)), mean * unit, deviation * unit)


def fit_category(name: str, texts: pa.Array, min_count: int) -> CategoryColumn:
    counts = pc.value_counts(pc.drop_null(texts))
    frequent = counts.filter(pc.greater_equal(counts.field("counts"), min_count))
    pairs = sorted(
        zip(frequent.field("values").to_pylist(), frequent.field("counts").to_pylist(), strict=True), key=lambda pair: (-pair[1], pair[0])
    )
    return CategoryColumn(name, tuple(level for level, _ in pairs[: MAX_LEVELS - 2]))

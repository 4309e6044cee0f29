"""Texts of a column in; its type learned, then numbers, instants or texts out.

A column is a number when every value is one, a date when every value is one, and text otherwise.  Values are looked at
without outer blanks.  Each batch is reduced to its distinct texts first: most columns of an archive have few.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.ingest import dates

NUMBER = {
    ".": r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE](?:\+?\d{1,2}|-\d{1,3}))?$",
    ",": r"^[+-]?(?:\d+,?\d*|,\d+)(?:[eE](?:\+?\d{1,2}|-\d{1,3}))?$",
}
PLAIN = r"^[+-]?(?:0|[1-9]\d*)(?:\.\d*)?$"
CODE_LIKE = r"^[+-]?(?:0\d|\d{16})"  # a leading zero, or more digits than a float64 keeps
THOUSANDS = r"^[+-]?[1-9]\d{0,2}(?:,\d{3})+$"
MOSTLY = 0.9

Kind = Literal["number", "date", "text"]


@dataclass(frozen=True)
class ColumnType:
    """What a column becomes; `order` and `zoned` are for dates."""

    kind: Kind
    order: dates.Order = "ymd"
    zoned: bool = False

    @property
    def arrow(self) -> pa.DataType:
        if self.kind == "date":
            return pa.timestamp("us", tz="UTC" if self.zoned else None)
        return pa.float64() if self.kind == "number" else pa.string()


@dataclass(frozen=True)
class Words:
    """A column of a batch: row i holds `texts[codes[i]]`.  `texts` are null where missing; `bad` bool marks undecodable ones."""

    codes: pa.Array
    texts: pa.Array
    bad: np.ndarray

    def counts(self) -> np.ndarray:
        """How many rows hold each text, int64."""
        codes = self.codes.drop_null().to_numpy(zero_copy_only=False)
        return np.bincount(codes, minlength=len(self.texts))


class MissingCodes:
    """The texts that mean missing in one column.  An empty one always does; a code such as -1 also as -1.0, but 0 not as 00."""

    def __init__(self, codes: Iterable[str]) -> None:
        texts = sorted({code.strip() for code in codes} | {""})
        self.texts = pa.array(texts, pa.string())
        self.numbers = pa.array([float(text) for text in texts if re.match(PLAIN, text)], pa.float64())

    def found_in(self, texts: pa.Array) -> pa.Array:
        """bool, false for null."""
        found = pc.fill_null(pc.is_in(texts, value_set=self.texts), False)
        if len(self.numbers):
            plain = pc.fill_null(pc.match_substring_regex(texts, PLAIN), False)
            values = pc.if_else(plain, texts, None).cast(pa.string())
            equal = pc.is_in(pc.utf8_ltrim(values, "+").cast(pa.float64()), value_set=self.numbers, skip_nulls=True)
            found = pc.or_(found, pc.fill_null(equal, False))
        return found

    def found_in_numbers(self, values: pa.Array) -> pa.Array:
        return pc.fill_null(pc.is_in(values, value_set=self.numbers, skip_nulls=True), False)


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether `name` is one of the names or matches one of the patterns; case counts."""
    return name in patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def words_of(column: pa.Array, missing: MissingCodes) -> Words:
    """A binary or string column as its distinct texts, trimmed and with missing codes as null."""
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    texts, bad = _decoded(encoded.dictionary)
    texts = pc.utf8_trim_whitespace(texts)
    return Words(encoded.indices, pc.if_else(missing.found_in(texts), pa.scalar(None, pa.string()), texts), bad)


def _decoded(cells: pa.Array) -> tuple[pa.Array, np.ndarray]:
    try:
        return cells.cast(pa.string()), np.zeros(len(cells), bool)
    except pa.ArrowInvalid:  # at least one cell is not UTF-8: find which
        texts = [_text_or_none(cell) for cell in cells.to_pylist()]
        return pa.array(texts, pa.string()), np.array([text is None for text in texts], bool)


def _text_or_none(cell: bytes) -> str | None:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return None


@dataclass
class Learner:
    """Counts over all values of one column, batch after batch: what they could be."""

    values: int = 0
    numbers: dict[str, int] = field(default_factory=lambda: {".": 0, ",": 0})
    dot_marks: int = 0
    comma_marks: int = 0
    thousands: int = 0
    code_like: int = 0
    iso: int = 0
    zoned: int = 0
    day_month: int = 0
    first_over_12: bool = False
    second_over_12: bool = False

    def see(self, words: Words) -> None:
        """Add one batch of the column."""
        counts = words.counts() * words.texts.is_valid().to_numpy(zero_copy_only=False)
        self.values += int(counts.sum())
        like = pc.fill_null(pc.match_substring_regex(words.texts, r"^[+-]?[.,]?\d"), False)
        texts, counts = words.texts.filter(like), counts[like.to_numpy(zero_copy_only=False)]
        if len(texts):
            is_number = self._see_numbers(texts, counts)
            self._see_dates(texts.filter(pa.array(~is_number)), counts[~is_number])

    def _see_numbers(self, texts: pa.Array, counts: np.ndarray) -> np.ndarray:
        """bool of the texts that are numbers with a dot, or whole.  Most files hold no comma, which saves most of the work."""
        is_number = _matched(texts, NUMBER["."])
        has_dot = pc.match_substring(texts, ".").to_numpy(zero_copy_only=False)
        self.numbers["."] += int(counts[is_number].sum())
        self.dot_marks += int(counts[is_number & has_dot].sum())
        self.code_like += int(counts[_matched(texts, CODE_LIKE)].sum())
        has_comma = pc.match_substring(texts, ",").to_numpy(zero_copy_only=False)
        with_comma, its_counts = texts.filter(pa.array(has_comma)), counts[has_comma]
        is_comma_number = _matched(with_comma, NUMBER[","])
        self.numbers[","] += int(counts[is_number & ~has_dot].sum() + its_counts[is_comma_number].sum())
        self.comma_marks += int(its_counts[is_comma_number].sum())
        self.thousands += int(its_counts[_matched(with_comma, THOUSANDS)].sum())
        return is_number

    def _see_dates(self, texts: pa.Array, counts: np.ndarray) -> None:
        shaped = _matched(texts, f"^{dates.ISO}$")
        if shaped.any():
            parsed = [dates.parse(text, "ymd") for text in texts.filter(pa.array(shaped)).to_pylist()]
            valid = np.array([one is not None for one in parsed], bool)
            self.iso += int(counts[shaped][valid].sum())
            self.zoned += int(counts[shaped][np.array([one is not None and one.tzinfo is not None for one in parsed], bool)].sum())
        shaped = _matched(texts, f"^{dates.DAY_FIRST_OR_MONTH_FIRST}$")
        if shaped.any():
            self._see_day_month(texts.filter(pa.array(shaped)).to_pylist(), counts[shaped])

    def _see_day_month(self, texts: list[str], counts: np.ndarray) -> None:
        pairs = [dates.first_two(text) for text in texts]
        self.first_over_12 |= any(first > 12 for first, _ in pairs)
        self.second_over_12 |= any(second > 12 for _, second in pairs)
        parsed = [dates.parse(text, "dmy") or dates.parse(text, "mdy") for text in texts]
        self.day_month += int(counts[[one is not None for one in parsed]].sum())
        self.zoned += int(counts[[one is not None and one.tzinfo is not None for one in parsed]].sum())


def _matched(texts: pa.Array, pattern: str) -> np.ndarray:
    flags: np.ndarray = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return flags


def convert(words: Words, to: ColumnType, decimal: str) -> tuple[pa.Array, np.ndarray | None]:
    """(the typed column [n], bool [n] of rows whose value is not of the type or None).  Bad values come out as null."""
    if to.kind == "text":
        values = words.texts
    elif to.kind == "date":
        values = dates.to_instants(words.texts.to_pylist(), to.order, to.zoned)
    else:
        values = _to_numbers(words.texts, decimal)
    lost = pc.and_(values.is_null(), words.texts.is_valid()).to_numpy(zero_copy_only=False)
    return values.take(words.codes), _by_row(words, lost)


def undecodable(words: Words) -> np.ndarray | None:
    """bool [n] of rows whose bytes are not of the encoding, or None."""
    return _by_row(words, words.bad)


def _by_row(words: Words, flags: np.ndarray | None) -> np.ndarray | None:
    if flags is None or not flags.any():
        return None
    codes: np.ndarray = words.codes.fill_null(len(flags)).to_numpy(zero_copy_only=False)
    by_row: np.ndarray = np.append(flags, False)[codes]  # the last one stands for a missing cell
    return by_row


def _to_numbers(texts: pa.Array, decimal: str) -> pa.Array:
    plain = pc.utf8_ltrim(texts, "+")
    if decimal == ".":
        try:  # nearly always all are numbers; what Arrow reads beyond our grammar (nan, inf) is looked at one by one below
            values = plain.cast(pa.float64())
            if pc.all(pc.is_finite(values)).as_py() is not False:
                return values
        except pa.ArrowInvalid:
            pass
    readable = pc.fill_null(pc.match_substring_regex(texts, NUMBER[decimal]), False)
    plain = pc.if_else(readable, plain, pa.scalar(None, pa.string()))
    return pc.replace_substring(plain, ",", ".").cast(pa.float64())

"""A sample of a source as text in, guesses about its columns out: missing codes, ids, patients, codes, suspected leaks.

Guesses are only good enough for a draft that a person reads; nothing else may use them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from meddx.dataset.options import TargetOptions
from meddx.dataset.screen import WARN, Screened, screen
from meddx.dataset.target import TargetCoder
from meddx.ingest.dates import first_two

SURELY_MISSING = ("?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A")
MISSING_AMONG_NUMBERS = (".", "-")
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,2})?")
CODE_LIKE = re.compile(r"[+-]?(0\d|\d{16})")
DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}([T ].*)?")
PATIENT = re.compile(
    r"^(mrn|pid|pidnum|patient|subject|person|participant)$"
    r"|(patient|subject|person|participant|pat)[_. ]?(id|no|nr|nbr|num|number|key|uid)$",
    re.I,
)
CASE = re.compile(
    r"(^|[_. ])(id|no|nr|nbr|sno|number|key|uid|serial|case|encounter|visit|stay|hadm|exam|accession|record)([_. ]|$)|id$", re.I
)
CODE = re.compile(r"(_(id|code|cd|type|class)$)|^(icd|diag|dx|zip|code)", re.I)
LATE = re.compile(
    r"death|dead|died|deceas|surviv|mortal|expire|autops|outcome|discharge|charge|cost|cst$|slos|length_?of_?stay|(^|[_.])los([_.]|$)|follow"
    r"|relapse|recur|readmi|dnr|hospice|d\.time|(time|days)_to|cens",
    re.I,
)
FREE_TEXT = 40  # characters on average


@dataclass(frozen=True)
class Column:
    """One column of the sample: `cells` [n] with None where missing, and what they look like."""

    name: str
    cells: tuple[str | None, ...]

    @property
    def values(self) -> list[str]:
        return [cell for cell in self.cells if cell is not None]

    @property
    def distinct(self) -> int:
        return len(set(self.values))

    @property
    def is_code_like(self) -> bool:
        return any(CODE_LIKE.match(value) for value in self.values)

    @property
    def is_number(self) -> bool:
        values = self.values
        return bool(values) and all(NUMBER.fullmatch(value) for value in values) and not self.is_code_like

    @property
    def is_whole(self) -> bool:
        return self.is_number and all(number(value).is_integer() for value in self.values)

    @property
    def is_date(self) -> bool:
        values = self.values
        return bool(values) and all(DATE.fullmatch(value) for value in values)

    @property
    def is_open_date(self) -> bool:
        """Dates of which no value tells the day from the month."""
        pairs = [first_two(value) for value in set(self.values)]
        return bool(pairs) and all(pair != (0, 0) for pair in pairs) and not any(max(pair) > 12 for pair in pairs)

    @property
    def is_unique(self) -> bool:
        """Every row has a value of its own, and it is no measurement."""
        return len(self.values) == len(self.cells) == self.distinct and (self.is_whole or not self.is_number) and not self.is_date


def number(value: str) -> float:
    return float(value.replace(",", "."))


def missing_codes(table: pa.Table) -> tuple[list[str], dict[str, list[str]]]:
    """(texts that mean missing in every column, {number column: further ones})."""
    everywhere: set[str] = set()
    only: dict[str, list[str]] = {}
    for name in _texts(table):
        seen = {str(value).strip() for value in table.column(name).unique().to_pylist() if value is not None} - {""}
        everywhere |= seen & set(SURELY_MISSING)
        rest = seen - set(SURELY_MISSING) - set(MISSING_AMONG_NUMBERS)
        found = sorted(seen & set(MISSING_AMONG_NUMBERS))
        if found and rest and all(NUMBER.fullmatch(value) for value in rest):
            only[name] = found
    return sorted(everywhere), only


def read_columns(table: pa.Table, everywhere: Sequence[str], only: dict[str, list[str]]) -> dict[str, Column]:
    """The text columns of the sample, without blanks around and with missing codes as None."""
    found = {}
    for name in _texts(table):
        gone = {"", *everywhere, *only.get(name, ())}
        cells = (None if value is None else value.strip() for value in table.column(name).to_pylist())
        found[name] = Column(name, tuple(None if cell in gone else cell for cell in cells))
    return found


def _texts(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if not pa.types.is_binary(field.type)]


def patient_column(columns: Iterable[Column]) -> str | None:
    """The first column whose name says patient and that is not a sex or an age."""
    return next((one.name for one in columns if PATIENT.search(one.name)), None)


def id_column(columns: Sequence[Column], patient: str | None) -> str | None:
    """A column with a value of its own a row: one whose name says case, else the patient, else the first column."""
    unique = [one.name for one in columns if one.is_unique]
    named = [name for name in unique if CASE.search(name) and name != patient]
    if named:
        return named[0]
    if patient in unique:
        return patient
    return columns[0].name if columns and columns[0].name in unique and len(columns[0].cells) >= 20 else None


def useless(one: Column) -> str | None:
    """Why a column is dropped from the input: it names a row, or is free text, or an open date; None for one that may stay."""
    values = one.values
    if one.is_open_date:
        return "dates that can be read in two ways"
    if len(values) < 20 or one.is_date:
        return None
    if one.is_number:
        rising = one.is_unique and bool(np.all(np.diff([number(value) for value in values]) > 0))
        return "row number or id" if rising or (one.is_unique and CASE.search(one.name)) else None
    if sum(map(len, values)) > FREE_TEXT * len(values):
        return "free text"
    return "id" if one.distinct > 0.9 * len(values) else None


def coded(columns: Iterable[Column]) -> tuple[list[str], list[str]]:
    """(patterns of number-like codes by their names, columns of few whole numbers that may be codes)."""
    numbers = [one for one in columns if one.is_whole or one.is_code_like]
    named = [one.name for one in numbers if CODE.search(one.name)]
    suffixes = Counter(name[name.rfind("_") :] for name in named if "_" in name)
    patterns: list[str] = []
    for name in named:
        suffix = name[name.rfind("_") :] if "_" in name else ""
        patterns.append(f"*{suffix}" if suffixes[suffix] > 1 and CODE.search(f"x{suffix}") else name)
    maybe = [one.name for one in numbers if one.name not in named and 3 <= one.distinct <= 8 and len(one.values) >= 50]
    return list(dict.fromkeys(patterns)), maybe


def suspects(columns: Sequence[Column], target: TargetOptions, answers: Sequence[Column], patient: Column | None) -> list[Screened]:
    """Columns that alone reach AUROC WARN on the sample, best first; see `dataset.screen`."""
    n = len(answers[0].cells)
    labels = TargetCoder(target).encode(pa.table({one.name: pa.array(one.cells, pa.string()) for one in answers}))
    groups = np.unique([str(cell) for cell in patient.cells], return_inverse=True)[1].reshape(-1) if patient else np.arange(n)
    found = screen(((one.name, _typed(one)) for one in columns), labels, target.kind, (groups % 5).astype(np.int64))
    return [one for one in found if max(one.auroc, one.missing_auroc) > WARN]


def _typed(one: Column) -> pa.ChunkedArray:
    if one.is_number:
        return pa.chunked_array([pa.array([None if cell is None else number(cell) for cell in one.cells], pa.float64())])
    return pa.chunked_array([pa.array(one.cells, pa.string())])


def is_wide(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern such as `g*` stands for the column."""
    return any(re.fullmatch(re.escape(pattern[:-1]) + r"\d+", name) for pattern in patterns)


def wide_prefixes(names: Iterable[str]) -> list[str]:
    """Patterns such as `g*` for 50 or more columns called g and a number."""
    counts = Counter(match[1] for name in names if (match := re.fullmatch(r"([A-Za-z_]+)\d+", name)))
    return [f"{prefix}*" for prefix, count in counts.items() if count >= 50]

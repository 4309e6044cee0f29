"""A sheet of an .xlsx file in, batches of text cells out, so that it is typed by the same rules as a csv."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError, RecipeError
from meddx.ingest.block import Damaged, Empty
from meddx.ingest.options import SourceOptions
from meddx.ingest.tables import TextBatch
from meddx.ingest.text import TextForm, clean_names
from meddx.storage import FileInfo

ROWS = 5000


def cell_text(value: Any, number_format: str = "General") -> str:
    """A cell as one would read it: 12 for 12.0, 0012 where the cell shows leading zeros, ISO for dates, nothing for an empty one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and value >= 0 and set(number_format) == {"0"}:
        return str(value).zfill(len(number_format))
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    return str(value)


def _rows(file: FileInfo, source: SourceOptions) -> Iterator[list[str]]:
    """All rows that hold anything, after `skip_rows`; trailing empty cells are cut."""
    import openpyxl

    try:
        with warnings.catch_warnings():  # openpyxl tells of styles and validations that it leaves out; cells are all we read
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(file.path.open(), read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError, EOFError) as error:
        raise Damaged("not readable as an .xlsx file", str(file.path), "save it again from the spreadsheet program") from error
    sheet = book[_sheet_name(book.sheetnames, source, file)]
    sheet.reset_dimensions()
    for row in sheet.iter_rows(min_row=1 + source.skip_rows):
        texts = [cell_text(cell.value, getattr(cell, "number_format", None) or "General") for cell in row]
        while texts and not texts[-1]:
            texts.pop()
        if texts:
            yield texts


def _sheet_name(names: list[str], source: SourceOptions, file: FileInfo) -> str:
    if source.sheet is None and len(names) > 1:
        raise RecipeError(f"{file.path.name} has {len(names)} sheets", "source.sheet", f"name one: {', '.join(names)}")
    if source.sheet is not None and source.sheet not in names:
        raise RecipeError(f"{file.path.name} has no sheet {source.sheet!r}", "source.sheet", f"its sheets: {', '.join(names)}")
    return source.sheet or names[0]


def detect(file: FileInfo, source: SourceOptions) -> TextForm:
    """The column names of the sheet.  Raises Empty for a sheet without a row, RecipeError for a sheet that is not there."""
    rows = _rows(file, source)
    first = next(rows, None)
    if first is None or (source.header and next(rows, None) is None):
        raise Empty("the sheet holds no row", str(file.path), "check the keys `sheet` and `skip_rows`")
    if source.header:
        return TextForm("xlsx", "", clean_names(first, str(file.path)))
    if not source.columns:
        raise RecipeError("a sheet without a header needs `columns`", "source.columns", f"name its {len(first)} columns, in order")
    if len(first) > len(source.columns):
        raise DataError(
            f"`columns` names {len(source.columns)} columns, the sheet has {len(first)}", str(file.path), "name each once, in order"
        )
    return TextForm("xlsx", "", source.columns)


def sample(file: FileInfo, form: TextForm, source: SourceOptions, rows: int) -> list[list[str]]:
    """The first `rows` rows after the header, filled up to the width of the table."""
    found: list[list[str]] = []
    for number, row in enumerate(_rows(file, source)):
        if len(found) == rows:
            break
        if number or not source.header:
            found.append(row + [""] * (len(form.names) - len(row)))
    return found


def batches(file: FileInfo, form: TextForm, source: SourceOptions) -> Iterator[TextBatch]:
    """The rows of the sheet; one with more cells than the header has names is of the wrong width."""
    rows = _rows(file, source)
    if source.header:
        next(rows, None)
    width, kept, numbers, bad = len(form.names), [], [], []
    for number, row in chain(enumerate(rows, 1), [(0, None)]):
        if row is not None and len(row) > width:
            bad.append(number)
        elif row is not None:
            kept.append(row + [""] * (width - len(row)))
            numbers.append(number)
        if row is None or len(kept) == ROWS:
            cells = [pa.array([one[i] for one in kept], pa.string()) for i in range(width)]
            yield TextBatch(pa.table(cells, names=list(form.names)), np.array(numbers, np.int64), bad)
            kept, numbers, bad = [], [], []

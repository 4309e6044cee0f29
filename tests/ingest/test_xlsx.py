"""A spreadsheet is read by the same rules as a text file."""

from __future__ import annotations

from datetime import datetime

import openpyxl
import pytest

from meddx.errors import DataError, RecipeError
from meddx.ingest.xlsx import cell_text


def write_book(path, sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


ROWS = [
    ["id", "x", "seen", "word", "ok"],
    ["0012", 1.5, datetime(2020, 1, 2), "None", True],
    ["12", 2, datetime(2020, 1, 3, 4, 5), "?", False],
    [13, None, None, "more", True],
    [None, None, None, None, None],
    ["14", 1, None, None, None, "beyond"],
]


def test_a_sheet(tmp_path, make):
    made = make({"path": write_book(tmp_path / "a.xlsx", {"cases": ROWS}), "missing_in": {"word": "?"}})
    assert made.column("case_id") == ["0012", "12", "13"]
    assert made.column("x") == [1.5, 2.0, None]
    assert made.column("seen") == [datetime(2020, 1, 2), datetime(2020, 1, 3, 4, 5), None]
    assert made.column("word") == ["None", None, "more"]
    assert made.column("ok") == ["true", "false", "true"]
    assert made.reasons == ["row_width"]


def test_the_sheet_is_named_where_there_are_several(tmp_path, make):
    path = write_book(tmp_path / "a.xlsx", {"notes": [["hello"]], "cases": [["lead"], ["id", "x"], ["a", 1]]})
    with pytest.raises(RecipeError, match="has 2 sheets"):
        make({"path": path})
    with pytest.raises(RecipeError, match="no sheet 'case'"):
        make({"path": path, "sheet": "case"})
    assert make({"path": path, "sheet": "cases", "skip_rows": 1}).column("case_id") == ["a"]
    headerless = make({"path": path, "sheet": "cases", "skip_rows": 2, "header": False, "columns": ["id", "x"]}, out="b")
    assert headerless.column("x") == [1.0]
    with pytest.raises(DataError, match="no row"):
        make({"path": path, "sheet": "notes"}, out="c")
    with pytest.raises(RecipeError, match="needs `columns`"):
        make({"path": path, "sheet": "cases", "header": False}, out="d")


def test_what_is_no_spreadsheet(tmp_path, make):
    (tmp_path / "a.xlsx").write_text("id,x\n1,2\n")
    with pytest.raises(DataError, match=r"not readable as an \.xlsx"):
        make({"path": tmp_path / "a.xlsx"})


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [(12.0, "General", "12"), (12, "0000", "0012"), (1.25, "General", "1.25"), (None, "General", ""), ("007", "@", "007"), (-1, "0", "-1")],
)
def test_cell_text(value, number_format, text):
    assert cell_text(value, number_format) == text

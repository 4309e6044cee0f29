"""The books compare two independent counts, and say what to do when they differ."""

from __future__ import annotations

import json

import pytest

from meddx.errors import BooksError, IncompleteError
from meddx.score.books import Books, keep_books
from meddx.score.ledger import Counts, Part
from meddx.score.plan import Generation, Owner, Plan
from meddx.score.units import Piece, Unit


def plan(broken: int = 0) -> Plan:
    files = {f"f{n}": ("v", 10, 100) for n in range(3)}
    units = tuple(Unit(f"u{n}", (Piece(f"f{n}", "v", 0, 100),), 10) for n in range(3))
    bad = {f"b{n}": ("v", "not_parquet") for n in range(broken)}
    return Plan((Generation(0, "", Owner("b", {}, {}), "data", 1, files, bad, units),), ("digest",))


def part(unit: str, rows: int = 100, quarantined: int = 0, outside: int = 0, counted: int | None = None) -> Part:
    counts = Counts(rows if counted is None else counted, rows - quarantined - outside, quarantined, outside, {"why": quarantined})
    return Part(unit, rows, counts, "t")


def keep(*parts: Part, broken: int = 0, max_rejected: float = 0.01, **failures: str) -> Books:
    return keep_books("runs/x", plan(broken), {one.unit: one for one in parts}, max_rejected=max_rejected, failures=failures)


def test_books_that_balance() -> None:
    books = keep(part("u0", quarantined=1), part("u1", outside=5), part("u2"))
    assert books.line == "scored 294 = read 300 - quarantined 1 - outside cohort 5; units 3 of 3; runs/x"
    assert books.exit_code == 0
    books.raise_for_problems()


@pytest.mark.parametrize("wrong", [part("u2", rows=99), part("u2", rows=101), part("u2", counted=99)])
def test_a_part_with_other_rows_than_planned(wrong: Part) -> None:
    books = keep(part("u0"), part("u1"), wrong)
    assert books.unbalanced == ("u2",) and books.exit_code == 4
    with pytest.raises(BooksError, match="do not balance in 1 units: u2"):
        books.raise_for_problems()


def test_a_surplus_in_one_unit_does_not_hide_a_gap_in_another() -> None:
    assert keep(part("u0", rows=90), part("u1", rows=110), part("u2")).unbalanced == ("u0", "u1")


def test_too_much_quarantined() -> None:
    parts = (part("u0", quarantined=4), part("u1"), part("u2"))
    with pytest.raises(BooksError, match="1.33% was rejected, more than scoring.max_rejected 1.00%: why 4"):
        keep(*parts).raise_for_problems()
    keep(*parts, max_rejected=0.02).raise_for_problems()


def test_files_that_would_not_open_stand_in_the_line_and_count() -> None:
    books = keep(part("u0"), part("u1"), part("u2"), broken=1)
    assert books.line.endswith("units 3 of 3; files not opened 1 of 4; runs/x")
    assert books.exit_code == 4
    with pytest.raises(BooksError, match="files not opened: 1 of 4"):
        books.raise_for_problems()
    assert keep(part("u0"), part("u1"), part("u2"), broken=1, max_rejected=0.25).exit_code == 0


def test_undone_units_are_named_with_the_reason() -> None:
    books = keep(part("u0"), u1="source_changed", u0="storage")  # u0 failed here, and another job published it
    assert books.undone == {"u1": "source_changed", "u2": "not tried"}
    assert books.exit_code == 5 and "units 1 of 3" in books.line and books.read == 100
    with pytest.raises(IncompleteError, match=r"2 of 3 units are not done: u1 \(source_changed\), u2 \(not tried\)"):
        books.raise_for_problems()


def test_they_come_back_from_a_record() -> None:
    books = keep(part("u0", quarantined=2), part("u1"), broken=1)
    assert Books.from_dict(json.loads(json.dumps(books.as_dict())), "runs/x") == books

"""An output folder in; its state, a proof of its books, or its rows out.  Needs no bundle, no sources and no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meddx import record
from meddx.errors import BooksError, DataError, IncompleteError, StorageError
from meddx.score import ledger
from meddx.score.books import Books, keep_books
from meddx.score.ledger import Part
from meddx.score.plan import FOLDER, Plan
from meddx.score.units import Piece, Unit
from meddx.storage import StoragePath

COLUMNS = {"case_id", "status", "error", "bundle", "unit", "row"}


def is_finished(out: StoragePath, plan: Plan, published: set[str]) -> bool:
    """Whether a record covers every generation of the plan, and every unit is there."""
    made = record.read(out / FOLDER)
    return made is not None and made["plans"] == list(plan.digests) and plan.units.keys() <= published


def status(out: StoragePath) -> list[str]:
    """The state in a few lines, from any machine that sees the folder."""
    published = set(ledger.list_parts(out))
    plan = _plan(out)
    rows = sum(unit.rows for unit in plan.units.values() if unit.id in published)
    done = len(plan.units.keys() & published)
    lines = [
        f"bundle {plan.owner.bundle}; plans {len(plan.generations)}; files {len(plan.files):,}; rows {plan.rows:,}; data {plan.first.data}",
        f"units done {done:,} of {len(plan.units):,}; rows done {rows:,} of {plan.rows:,}",
    ]
    if plan.broken:
        lines.append(f"files not opened {len(plan.broken):,}: {_reasons(plan)}")
    if plan.retired or plan.state.files_vanished:
        state, standing = plan.state, len(plan.retired & published)
        lines.append(
            f"updates: files changed {state.files_changed:,}, vanished {state.files_vanished:,} with {state.rows_vanished:,} rows; "
            f"units retired {len(plan.retired):,}" + (f", {standing:,} of their parts still stand" if standing else "")
        )
    made = record.read(out / FOLDER)
    if made is not None and is_finished(out, plan, published):
        finished = f"finished; last job started {made['started']}, {made['seconds']:.1f} s"
        return [*lines, finished, Books.from_dict(made["books"], str(out)).line]
    return [*lines, "not finished: run the same command again"]


def read_predictions(out: StoragePath) -> pa.Table:
    """All rows of a finished output, in the order of the units' ids.  IncompleteError for an unfinished one."""
    published = set(ledger.list_parts(out))
    plan = _plan(out)
    if not is_finished(out, plan, published):
        done = len(plan.units.keys() & published)
        raise IncompleteError(f"these predictions are not finished: units {done} of {len(plan.units)}", str(out), "run `meddx score` again")
    tables = [_read(out, unit) for unit in sorted(plan.units)]
    if not tables:
        raise DataError("these predictions have no rows", str(out), "check the data that was scored")
    return pa.concat_tables(table.replace_schema_metadata(None) for table in tables)


def verify(out: StoragePath) -> list[str]:
    """Read every part back and prove that each (source file, row) stands there exactly once, and nothing else does.

    The lines end with the balance line.  BooksError names what does not hold, OutputError a part of another run,
    IncompleteError the units undone, or the parts that an update has still to take away.
    """
    names = [info.path.relative_to(out) for info in out.list()]  # before the plan: then it knows every part
    plan = _plan(out)
    there = set(names)
    unit_ids = [unit_id for unit_id in plan.units if ledger.part_name(unit_id) in there]
    parts = ledger.read_parts(out, plan, unit_ids)
    books = keep_books(out, plan, parts, max_rejected=float(plan.owner.scoring.get("max_rejected", 1)), failures={})
    strays = _strays(names, plan)
    found = _Findings(problems=[*strays, *_tiling(plan), *_record_differs(out, plan, books)])
    for unit_id in sorted(parts):
        _check_part(_read(out, unit_id), plan.units[unit_id], parts[unit_id], plan, found)
    if found.problems:
        more = f" and {len(found.problems) - 5} more" if len(found.problems) > 5 else ""
        only = found.problems == strays
        mend = "move what is not a part away, and verify again" if only else "do not use these predictions; score into another folder"
        raise BooksError("; ".join(found.problems[:5]) + more, str(out), mend)
    if late := sum(ledger.part_name(unit_id) in there for unit_id in plan.retired):
        what = f"{late} parts of units that left the plan still stand, and readers of the folder would count them"
        raise IncompleteError(what, str(out), "run the same command again")
    books.raise_for_problems()
    repeated = found.repeated_ids()
    return [
        f"parts read back {len(parts):,}: each of {plan.rows:,} rows in {len(plan.files):,} files stands there exactly once",
        f"case_id: {repeated:,} ids stand in more than one row" if repeated else "case_id: none repeats",
        books.line,
    ]


@dataclass
class _Findings:
    """Problems, and a 64-bit hash of every case_id seen (8 bytes a row, for millions of rows)."""

    problems: list[str]
    ids: list[np.ndarray] = field(default_factory=list)
    schema: pa.Schema | None = None

    def add_ids(self, ids: pa.ChunkedArray) -> None:
        from pandas.util import hash_array

        text = ids.drop_null().to_numpy().astype(object)
        self.ids.append(hash_array(text, categorize=False) if len(text) else np.empty(0, np.uint64))

    def repeated_ids(self) -> int:
        _, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *self.ids]), return_counts=True)
        return int((counts > 1).sum())


def _plan(out: StoragePath) -> Plan:
    plan = Plan.load(out)
    if plan is None:
        raise DataError("there are no predictions here: no plan was written", str(out), "check the path, or run `meddx score`")
    return plan


def _reasons(plan: Plan) -> str:
    reasons = [why for _, why in plan.broken.values()]
    return ", ".join(f"{reason} {reasons.count(reason)}" for reason in sorted(set(reasons)))


def _read(out: StoragePath, unit_id: str) -> pa.Table:
    path = ledger.part_path(out, unit_id)
    try:
        return path.parsed(lambda stream: pq.ParquetFile(stream, page_checksum_verification=True).read(), (OSError, pa.ArrowException))
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"a published part is damaged ({type(error).__name__})", str(path), "delete this part and run the same command again"
        ) from error


def _strays(names: Iterable[str], plan: Plan) -> list[str]:
    """What readers of the folder would take for parts, and no generation of the plan knows."""
    known = {ledger.part_name(unit_id) for unit_id in (*plan.units, *plan.retired)}
    strays = [name for name in names if name not in known and not any(step.startswith(("_", ".")) for step in name.split("/"))]
    more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
    return [f"files that are no parts of this plan: {', '.join(strays[:3])}{more}"] if strays else []


def _record_differs(out: StoragePath, plan: Plan, books: Books) -> Iterator[str]:
    """The record is written last and on its own: what it says of plans and counts must be what stands there."""
    made = record.read(out / FOLDER)
    if made is None:
        return
    plans = tuple(made["plans"])
    if plans != plan.digests[: len(plans)]:
        yield "the record names other plans than stand here: a plan was changed or taken away"
    elif plans == plan.digests and not books.undone and Books.from_dict(made["books"], str(out)).counts != books.counts:
        yield "the record's counts are not those of the parts"


def _tiling(plan: Plan) -> Iterator[str]:
    """Problems of the plan itself: the pieces of each file must cover its rows once, without gap or overlap."""
    pieces: dict[str, list[Piece]] = {path: [] for path in plan.files}
    for unit in plan.units.values():
        for piece in unit.pieces:
            pieces[piece.path].append(piece)
    for number, (path, (_, _, rows)) in enumerate(sorted(plan.files.items())):
        at = 0
        for piece in sorted(pieces[path], key=lambda one: one.start):
            if piece.start != at:
                yield f"file {number} of the plan: rows {min(at, piece.start)}-{max(at, piece.start)} are planned twice or never"
            at = piece.stop
        if at != rows:
            yield f"file {number} of the plan: {at} of {rows} rows are planned"


def _check_part(table: pa.Table, unit: Unit, part: Part, plan: Plan, found: _Findings) -> None:
    found.schema = found.schema or table.schema.remove_metadata()
    columns = ledger.columns_of(table.schema)
    if (
        part.columns not in ((), columns)
        or not table.schema.remove_metadata().equals(found.schema)
        or not set(table.column_names) >= COLUMNS
    ):
        found.problems.append(f"unit {unit.id}: columns are not as published")
        return
    expected = np.concatenate([np.arange(piece.start, piece.stop) for piece in unit.pieces])
    checks = {
        "rows": table.num_rows == unit.rows and np.array_equal(table["row"].to_numpy(), expected),
        "unit": pc.all(pc.equal(table["unit"], unit.id), skip_nulls=False).as_py() is True,
        "bundle": pc.all(pc.equal(table["bundle"], plan.owner.bundle), skip_nulls=False).as_py() is True,
        "counts": ledger.count(table) == part.counts,
    }
    found.problems += [f"unit {unit.id}: {name} are not as planned" for name, holds in checks.items() if not holds]
    found.add_ids(table["case_id"])

"""An output folder in; its state, a proof of its books, or its rows out.  Needs no bundle, no sources and no Ray."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Read every part back and prove that each (source file, row) stands there exactly once.

    The lines end with the balance line.  BooksError names what does not hold, IncompleteError the units undone.
    """
    published = ledger.list_parts(out)
    plan = _plan(out)
    parts = ledger.read_parts(out, plan, published)
    books = keep_books(out, plan, parts, max_rejected=float(plan.owner.scoring.get("max_rejected", 1)), failures={})
    found = _Findings(problems=list(_tiling(plan)))
    for unit_id in sorted(parts):
        _check_part(_read(out, unit_id), plan.units[unit_id], parts[unit_id], plan, found)
    if found.problems:
        more = f" and {len(found.problems) - 5} more" if len(found.problems) > 5 else ""
        raise BooksError("; ".join(found.problems[:5]) + more, str(out), "do not use these predictions; score into another folder")
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
        with path.open() as stream:
            return pq.ParquetFile(stream, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"a published part is damaged ({type(error).__name__})", str(path), "delete this part and run the same command again"
        ) from error


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
    expected = np.concatenate([np.arange(piece.start, piece.stop) for piece in unit.pieces])
    checks = {
        "rows": table.num_rows == unit.rows and np.array_equal(table["row"].to_numpy(), expected),
        "unit": pc.all(pc.equal(table["unit"], unit.id)).as_py() is not False,
        "bundle": pc.all(pc.equal(table["bundle"], plan.owner.bundle)).as_py() is not False,
        "counts": ledger.count(table) == part.counts,
    }
    found.problems += [f"unit {unit.id}: {name} are not as planned" for name, holds in checks.items() if not holds]
    found.add_ids(table["case_id"])

"""Rows under the source's names in; rows with case_id, patient_id and predict_at out, each id once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError
from meddx.ingest import dates
from meddx.ingest.block import Block, Reject
from meddx.ingest.options import CaseOptions, PatientUnknown
from meddx.yamlconf import nearest

RESERVED = ("case_id", "patient_id", "predict_at")


class SeenIds:
    """Which ids came before, in 16 bytes an id.  A set of Python objects would take 100, which a large archive feels.

    Digests lie in 64 buckets by their first bits; a bucket is a few sorted runs, each more than twice as long as the
    next.  Merging touches one bucket at a time, so it needs no second copy of everything.
    """

    def __init__(self) -> None:
        self._starts = np.array([bytes([4 * i]) for i in range(64)], "S16")
        self._buckets: list[list[np.ndarray]] = [[] for _ in self._starts]

    def are_new(self, ids: Sequence[str]) -> np.ndarray:
        """bool [n]: true for the first appearance of an id, false for each repeat, here or in an earlier call."""
        first = np.zeros(len(ids), bool)
        if not ids:
            return first
        digests = b"".join(hashlib.blake2b(case_id.encode(), digest_size=16).digest() for case_id in ids)
        distinct, places = np.unique(np.frombuffer(digests, "S16"), return_index=True)
        edges = [*np.searchsorted(distinct, self._starts), len(distinct)]
        new = [_add(runs, distinct[a:b]) for runs, a, b in zip(self._buckets, edges, edges[1:], strict=False)]
        first[places[np.concatenate(new)]] = True
        return first


def _add(runs: list[np.ndarray], sorted_digests: np.ndarray) -> np.ndarray:
    """bool [n]: which of the digests are in none of the sorted runs; those are added to them."""
    new = np.ones(len(sorted_digests), bool)
    for run in runs:
        new &= run[np.minimum(np.searchsorted(run, sorted_digests), len(run) - 1)] != sorted_digests
    added = sorted_digests[new]
    while len(added) and runs and len(runs[-1]) <= 2 * len(added):
        added = np.concatenate([runs.pop(), added])
        added.sort()
    if len(added):
        runs.append(added)
    return new


class CaseMaker:
    """Names the case's columns; the first row of an id stays, repeats are rejected."""

    def __init__(self, case: CaseOptions, schema: pa.Schema, where: str) -> None:
        self.case, self.where = case, where
        self.by_row = case.id == "@row"
        self.patient = None if isinstance(case.patient, PatientUnknown) else case.patient
        used = {"case_id": None if self.by_row else case.id, "patient_id": self.patient, "predict_at": case.predict_column}
        for column in (*used.values(), case.site):
            if column is not None and column != "@case":
                must_exist(column, schema, where)
        _no_collision(used, schema, where)
        self.others = [name for name in schema.names if name not in used.values()]
        self.schema = self._schema(schema)
        self._seen = SeenIds()
        self._twice = self._never = 0

    def _schema(self, schema: pa.Schema) -> pa.Schema:
        first = [pa.field("case_id", pa.string(), nullable=False), pa.field("patient_id", pa.string())]
        if self.case.predict_column:
            first.append(pa.field("predict_at", pa.timestamp("us", tz="UTC")))
        return pa.schema([*first, *(schema.field(name) for name in self.others)])

    def take(self, block: Block, offset: int) -> tuple[pa.Table, list[Reject]]:
        """(the cases, the rows that are none: without an id, with an id seen before, or with a number that is not finite)."""
        ids = self._ids(block, offset)
        reasons = not_finite(block.table)
        reasons.update({i: "id_missing" for i, case_id in enumerate(ids) if not case_id and i not in reasons})
        candidates = [] if self.by_row else [i for i in range(len(ids)) if i not in reasons]  # row numbers cannot repeat
        new = self._seen.are_new([ids[i] or "" for i in candidates])
        reasons.update({i: "id_duplicate" for i, is_new in zip(candidates, new, strict=True) if not is_new})
        table = self._named(block.table, pa.array(ids, pa.string()))
        if not reasons:
            return table.cast(self.schema), []
        mask = np.ones(len(ids), bool)
        mask[list(reasons)] = False
        return table.filter(pa.array(mask)).cast(self.schema), [block.reject(i, reason) for i, reason in sorted(reasons.items())]

    def _instants(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        instants = dates.to_utc(column, self.case.zone, name)
        if self.case.zone and pa.types.is_timestamp(column.type) and column.type.tz is None:
            twice, never = dates.doubtful(column, self.case.zone)
            self._twice, self._never = self._twice + twice, self._never + never
        return instants

    def notes(self) -> list[str]:
        """Once all cases were taken: how many predict_at were doubtful."""
        zone = self.case.zone
        return [
            f"predict_at: {count:,} stamps lie in an hour that clocks in {zone} {what}"
            for count, what in ((self._twice, "show twice: the first is taken"), (self._never, "leave out: the end of the gap is taken"))
            if count
        ]

    def _ids(self, block: Block, offset: int) -> list[str | None]:
        if self.by_row:
            return [f"row-{offset + int(row):09d}" for row in block.rows]
        ids: list[str | None] = block.table.column(self.case.id).to_pylist()
        return ids

    def _named(self, table: pa.Table, ids: pa.Array) -> pa.Table:
        columns: dict[str, pa.ChunkedArray | pa.Array] = {"case_id": ids}
        if self.patient is None:
            columns["patient_id"] = pa.nulls(len(ids), pa.string())
        else:
            columns["patient_id"] = ids if self.patient == "@case" else table.column(self.patient)
        if self.case.predict_column:
            columns["predict_at"] = self._instants(table.column(self.case.predict_column), self.case.predict_column)
        columns.update({name: table.column(name) for name in self.others})
        return pa.table(columns)


def not_finite(table: pa.Table) -> dict[int, str]:
    """{row: reason} for each row with an infinite number."""
    found: dict[int, str] = {}
    for column in table.columns:
        if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
            bad = pc.fill_null(pc.is_inf(column), False).to_numpy()
            found.update(dict.fromkeys(np.flatnonzero(bad).tolist(), "number_unreadable"))
    return found


def must_exist(column: str, schema: pa.Schema, where: str) -> None:
    """Raises DataError naming the nearest column when `column` is not in the schema."""
    if column not in schema.names:
        guess = nearest(column, schema.names)
        listed = ", ".join(schema.names[:12]) + (", ..." if len(schema.names) > 12 else "")
        raise DataError(
            f"the source has no column {column!r}", where, (f"did you mean {guess!r}? " if guess else "") + f"its columns: {listed}"
        )


def _no_collision(used: dict[str, str | None], schema: pa.Schema, where: str) -> None:
    for name in RESERVED:
        if name in schema.names and name not in used.values():
            key = {"case_id": "id", "patient_id": "patient", "predict_at": "predict_at"}[name]
            what = f"the source has a column {name!r} that is not the case's {key}"
            raise DataError(what, where, f"declare `{key}: {name}`, or rename the column in the source")

"""One unit in, its rows of predictions out.  No Ray, no publishing.

A bad row is data: it comes out with a status and a reason.  What the storage does wrong leaves the unit undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError
from meddx.score import failpoints
from meddx.score.bundles import Predictor
from meddx.score.options import ScoringOptions
from meddx.score.rows import Chunk, RowReader
from meddx.score.sources import locate
from meddx.score.units import Piece, Unit
from meddx.storage import StoragePath

ID, PATIENT = "case_id", "patient_id"
BATCH_BYTES = 16 << 20
MIN_BATCH, MAX_BATCH = 64, 1 << 16


class UnitFailed(Exception):
    """The unit stays undone; `kind` is a short code, the same for the same cause."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def batch_rows(unit: Unit) -> int:
    """A power of two of rows that is about 16 MB before compression; from the plan alone, so the same in every attempt."""
    fitting = BATCH_BYTES * unit.rows // max(unit.weight, 1)
    return int(min(max(1 << max(fitting.bit_length() - 1, 0), MIN_BATCH), MAX_BATCH))


@dataclass
class UnitScorer:
    """Scores units of one root with one bundle; keeps the last file open, so that a stream of ranges is read once."""

    bundle: Predictor
    root: StoragePath
    required: tuple[str, ...] = ()
    score_outside: bool = False
    without: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._open: tuple[tuple[str, str, int], RowReader] | None = None

    def score(self, unit: Unit) -> pa.Table:
        """One row for each row of the unit, in its order: the bundle's columns, `unit`, and `row` (the number in the source file).

        UnitFailed, StorageError or MemoryError leave the unit undone.
        """
        tables = []
        for piece in unit.pieces:
            self._check_version(piece)
            tables += list(self._score_piece(piece, batch_rows(unit)))
            self._check_version(piece)
        table = pa.concat_tables(tables)
        if table.num_rows != unit.rows:
            raise UnitFailed("rows_differ", f"{table.num_rows} rows read, {unit.rows} planned")
        rows = np.concatenate([np.arange(piece.start, piece.stop, dtype=np.int64) for piece in unit.pieces])
        names = pa.array(np.zeros(unit.rows, np.int32))
        unit_column = pa.DictionaryArray.from_arrays(names, pa.array([unit.id])).cast(pa.string())
        return table.append_column("unit", unit_column).append_column("row", pa.array(rows)).combine_chunks()

    def close(self) -> None:
        if self._open:
            self._open[1].close()
        self._open = None

    def _score_piece(self, piece: Piece, batch: int) -> Iterator[pa.Table]:
        reader = self._reader(piece, batch)
        failpoints.reach("opened")
        missing = [name for name in (ID, *self.required) if name not in reader.names]
        for chunk in reader.rows(piece.start, piece.rows):
            if chunk.error or missing:
                yield self._quarantine(chunk.rows, chunk.table, chunk.error or "column_missing")
            else:
                yield self._predict(chunk)
            failpoints.reach("half_unit")

    def _reader(self, piece: Piece, batch: int) -> RowReader:
        key = (piece.path, piece.version, batch)
        if self._open is None or self._open[0] != key:
            self.close()
            wanted = list(dict.fromkeys([ID, PATIENT, *self.bundle.columns]))
            try:
                self._open = key, RowReader(locate(self.root, piece.path), wanted, (ID, PATIENT), batch)
            except (OSError, pa.ArrowException) as error:  # the planner could read this footer: the file is not to blame
                raise UnitFailed("storage", f"a footer could not be read: {type(error).__name__}") from error
        return self._open[1]

    def _check_version(self, piece: Piece) -> None:
        if locate(self.root, piece.path).info().version != piece.version:
            raise UnitFailed("source_changed", "a file changed since it was planned")

    def _predict(self, chunk: Chunk) -> pa.Table:
        try:
            table = _with_text_ids(chunk.table)
        except pa.ArrowException:  # an id that cannot be text, such as a list
            return self._quarantine(chunk.rows, None, "id_unreadable")
        known = pc.is_valid(table[ID])
        if pc.all(known).as_py():
            return self._predict_known(table)
        bad, good = table.filter(pc.invert(known)), table.filter(known)
        parts = [self._predict_known(good)] if good.num_rows else []
        order = np.argsort(np.argsort(~known.to_numpy(zero_copy_only=False), kind="stable"), kind="stable")
        return pa.concat_tables([*parts, self._quarantine(bad.num_rows, bad, "id_missing")]).take(pa.array(order))

    def _predict_known(self, table: pa.Table) -> pa.Table:
        try:
            result = self.bundle.predict(table, score_outside=self.score_outside, without=self.without, outputs=self.outputs)
        except DataError:  # the bundle refuses these rows as a whole: a type that it cannot read, for instance
            return self._quarantine(table.num_rows, table, "input_refused")
        schema = self.bundle.schema(self.outputs)
        result = result.select(schema.names).cast(schema)
        if not result[ID].equals(table[ID]):
            raise UnitFailed("order_lost", "the bundle did not return the rows it was given")
        return result

    def _quarantine(self, rows: int, ids: pa.Table | None, reason: str) -> pa.Table:
        """Rows without an answer: the reason, and their ids as far as they are known."""
        known = {} if ids is None else {name: _with_text_ids(ids)[name] for name in (ID, PATIENT) if name in ids.column_names}
        fixed = {"status": "quarantined", "error": reason, "bundle": self.bundle.digest}
        schema = self.bundle.schema(self.outputs)
        columns = [
            known[field.name] if field.name in known
            else pa.repeat(pa.scalar(fixed[field.name], field.type), rows) if field.name in fixed
            else pa.nulls(rows, field.type)
            for field in schema
        ]  # fmt: skip
        return pa.table(columns, schema=schema)


def scorer_of(bundle: Predictor, root: StoragePath, required: tuple[str, ...], options: ScoringOptions) -> UnitScorer:
    """The bundle under these rules."""
    return UnitScorer(bundle, root, required, options.outside_cohort == "score", options.without, options.outputs)


def _with_text_ids(table: pa.Table) -> pa.Table:
    """Ids are text, whatever a foreign writer chose; a file without patients has null ones."""
    for name in (ID, PATIENT):
        if name in table.column_names:
            column = table[name].cast(pa.string()) if table.schema.field(name).type != pa.string() else table[name]
            table = table.set_column(table.column_names.index(name), name, column.combine_chunks())
        elif name == PATIENT:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table

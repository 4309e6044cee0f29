"""One unit in, its rows of predictions out.  No Ray, no publishing.

A bad row is data: it comes out with a status and a reason.  What the storage does wrong leaves the unit undone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from meddx import failpoints
from meddx.errors import DataError, RecipeError
from meddx.predict.options import ContractOptions
from meddx.score.bundles import Predictor
from meddx.score.ids import ID, PATIENT, with_text_ids
from meddx.score.options import ScoringOptions
from meddx.score.pictures import PictureReader, columns_of, unread
from meddx.score.rows import Chunk, RowReader
from meddx.score.sources import PARQUET, locate, partitions
from meddx.score.units import Piece, Unit
from meddx.score.units import UnitFailed as UnitFailed
from meddx.score.whole import joined, read_ahead
from meddx.storage import StoragePath

BATCH_BYTES = 16 << 20
MIN_BATCH, MAX_BATCH = 64, 1 << 16


def batch_rows(unit: Unit) -> int:
    """A power of two of rows that is about 16 MB before compression; from the plan alone, so the same in every attempt."""
    fitting = BATCH_BYTES * unit.rows // max(unit.weight, 1)
    return int(min(max(1 << max(fitting.bit_length() - 1, 0), MIN_BATCH), MAX_BATCH))


@dataclass(frozen=True)
class Place:
    """Where the work on a unit is: rows [start, stop) of the file of its piece number `piece`.

    `read`: the bundle has them now; else the file is being read, and if that goes wrong all rows up to `stop` are lost.
    """

    unit: str
    piece: int
    start: int
    stop: int
    read: bool


Watch = Callable[[Place | None], None]  # called before each step; None: not in rows that could be named


def _nobody(place: Place | None) -> None:
    """Nobody watches."""


@dataclass
class UnitScorer:
    """Scores units of one root with one bundle; keeps the last file open, so that a stream of ranges is read once."""

    bundle: Predictor
    root: StoragePath
    required: tuple[str, ...] = ()
    score_outside: bool = False
    without: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    watch: Watch = _nobody
    contract: ContractOptions | None = None

    def __post_init__(self) -> None:
        self._open: tuple[tuple[str, str, int], RowReader] | None = None

    def score(self, unit: Unit) -> pa.Table:
        """One row for each row of the unit, in its order: the bundle's columns, `unit`, and `row` (the number in the source file).

        UnitFailed, StorageError or MemoryError leave the unit undone.
        """
        return assemble(unit, list(self.steps(unit)))

    def steps(self, unit: Unit) -> Generator[pa.Table]:
        """The same, batch by batch, without `unit` and `row`."""
        if unit.family != PARQUET or len(unit.pieces) > 1:
            yield from self._score_files(unit)
            return
        for number, piece in enumerate(unit.pieces):
            self.check_version(piece)
            for chunk in self.chunks(unit, number, piece.start):
                yield self.answer(unit, number, chunk)
                failpoints.reach("half_unit")
            self.check_version(piece)

    def chunks(self, unit: Unit, number: int, start: int) -> Iterator[Chunk]:
        """The chunks of a piece from row `start` of its file on, cut as they always are; of a picture only its id is known here."""
        piece = unit.pieces[number]
        if unit.family != PARQUET:
            yield unread(piece)
            return
        reader = self._reader(piece, batch_rows(unit))
        failpoints.reach("opened")
        place = Place(unit.id, number, start, piece.stop, read=False)
        chunks = reader.rows(start, piece.stop - start, lambda: self.watch(place))
        while start < piece.stop:
            place = replace(place, start=start, stop=min(reader.group_stop(start), piece.stop))
            self.watch(place)
            chunk = next(chunks, None)
            if chunk is None:
                return
            yield self._complete(chunk, reader.names)
            start = chunk.stop

    def answer(self, unit: Unit, number: int, chunk: Chunk) -> pa.Table:
        """One row of predictions for each row of a chunk, or of a part of one."""
        self.watch(Place(unit.id, number, chunk.start, chunk.stop, read=True))
        if unit.family != PARQUET:
            (chunk,) = self.pictures(unit, unit.pieces[number : number + 1])
        return self._answer(chunk)

    def _score_files(self, unit: Unit) -> Iterator[pa.Table]:
        """Whole files, read by a few threads and answered together."""
        self.watch(None)
        if unit.family != PARQUET:
            chunks = self.pictures(unit, unit.pieces)
        else:
            chunks = read_ahead(len(unit.pieces), lambda number: self._read_file(unit, number))
        for chunk in joined(self._watched(chunks), batch_rows(unit)):
            failpoints.reach("opened")
            yield self._answer(chunk)
            failpoints.reach("half_unit")

    def _watched(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self.watch(None)
            yield chunk

    def pictures(self, unit: Unit, pieces: Sequence[Piece]) -> Iterator[Chunk]:
        reader = PictureReader(self.root, unit.family, self.bundle.columns)
        return (self._complete(chunk, columns_of(unit.family)) for chunk in reader.chunks(pieces))

    def _read_file(self, unit: Unit, number: int) -> list[Chunk]:
        """In a thread: all chunks of a file."""
        piece = unit.pieces[number]
        try:
            reader = self._open_reader(piece, batch_rows(unit))
            try:
                return [self._complete(chunk, reader.names) for chunk in reader.rows(piece.start, piece.rows)]
            finally:
                reader.close()
        finally:
            self.check_version(piece)  # whatever went wrong before: a file that changed meanwhile explains it

    def _complete(self, chunk: Chunk, names: Collection[str]) -> Chunk:
        """The chunk with what is wrong with its file, if it lacks a column."""
        missing = any(name not in names for name in (ID, *self.required))
        return replace(chunk, error=chunk.error or "column_missing") if missing else chunk

    def _answer(self, chunk: Chunk) -> pa.Table:
        return self.quarantine(chunk.rows, chunk.table, chunk.error) if chunk.error else self._predict(chunk)

    def close(self) -> None:
        if self._open:
            self._open[1].close()
        self._open = None

    def _reader(self, piece: Piece, batch: int) -> RowReader:
        key = (piece.path, piece.version, batch)
        if self._open is None or self._open[0] != key:
            self.close()
            self._open = key, self._open_reader(piece, batch)
        return self._open[1]

    def _open_reader(self, piece: Piece, batch: int) -> RowReader:
        wanted = list(dict.fromkeys([ID, PATIENT, *self.bundle.columns]))
        try:
            return RowReader(locate(self.root, piece.path), wanted, (ID, PATIENT), batch, partitions(piece.path))
        except (OSError, ValueError, pa.ArrowException) as error:  # the planner could read this footer: the file is not to blame
            raise UnitFailed("storage", f"a footer could not be read: {type(error).__name__}") from error

    def check_version(self, piece: Piece) -> None:
        """UnitFailed where its file is not the one that was planned."""
        if locate(self.root, piece.path).info().version != piece.version:
            raise UnitFailed("source_changed", "a file changed since it was planned")

    def _predict(self, chunk: Chunk) -> pa.Table:
        table, reasons = with_text_ids(chunk.table)
        if reasons is None:
            return self._predict_known(table)
        good = np.flatnonzero([reason is None for reason in reasons])
        order, parts = [good], [self._predict_known(table.take(good))] if len(good) else []
        for reason in sorted(set(reasons) - {None}):
            order.append(np.flatnonzero(reasons == reason))
            parts.append(self.quarantine(len(order[-1]), table.take(order[-1]), reason))
        return pa.concat_tables(parts).take(np.argsort(np.concatenate(order)))

    def _predict_known(self, table: pa.Table) -> pa.Table:
        try:
            result = self.bundle.predict(
                table, score_outside=self.score_outside, without=self.without, outputs=self.outputs, contract=self.contract
            )
        except (DataError, RecipeError):  # the bundle refuses these rows as a whole: a column stands twice, for instance
            return self.quarantine(table.num_rows, table, "input_refused")
        schema = self.bundle.schema(self.outputs)
        result = result.select(schema.names).cast(schema)
        if not result[ID].equals(table[ID]):
            raise UnitFailed("order_lost", "the bundle did not return the rows it was given")
        return result

    def quarantine(self, rows: int, ids: pa.Table | None, reason: str) -> pa.Table:
        """Rows without an answer: the reason, and their ids as far as they are known."""
        texts = None if ids is None else with_text_ids(ids)[0]
        known = {} if texts is None else {name: texts[name] for name in (ID, PATIENT) if name in texts.column_names}
        fixed = {"status": "quarantined", "error": reason, "bundle": self.bundle.digest}
        schema = self.bundle.schema(self.outputs)
        columns = [
            known[field.name] if field.name in known
            else pa.repeat(pa.scalar(fixed[field.name], field.type), rows) if field.name in fixed
            else pa.nulls(rows, field.type)
            for field in schema
        ]  # fmt: skip
        return pa.table(columns, schema=schema)


def assemble(unit: Unit, tables: Sequence[pa.Table]) -> pa.Table:
    """The tables of all steps of a unit, in its order, as one; with the columns `unit` and `row`."""
    table = pa.concat_tables(tables)
    if table.num_rows != unit.rows:
        raise UnitFailed("rows_differ", f"{table.num_rows} rows read, {unit.rows} planned")
    rows = np.concatenate([np.arange(piece.start, piece.stop, dtype=np.int64) for piece in unit.pieces])
    return table.append_column("unit", pa.repeat(pa.scalar(unit.id, pa.string()), unit.rows)).append_column("row", pa.array(rows))


def scorer_of(
    bundle: Predictor, root: StoragePath, required: tuple[str, ...], options: ScoringOptions, watch: Watch = _nobody
) -> UnitScorer:
    """The bundle under these rules."""
    outside = options.outside_cohort == "score"
    return UnitScorer(bundle, root, required, outside, options.without, options.outputs, watch, options.contract)

"""A row range of a Parquet file in, batches out; a page that cannot be decoded comes out as rows without a table.

Batches begin at the start of each row group, whatever range is asked for, so a resumed unit sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from meddx.errors import StorageError
from meddx.storage import StoragePath

BUFFER_BYTES = 8 << 20  # column chunks are read in pieces of this size, so that a huge row group streams
HELD_BYTES = 64 << 20  # of a row group
ATTEMPTS = 2


def _open_file(stream: pa.NativeFile) -> pq.ParquetFile:
    """Small row groups are fetched in a few large reads; one that is too large to hold is read piece by piece.

    That must be said: pyarrow fetches whole row groups by default.
    """
    footer = pq.read_metadata(stream)
    largest = max((footer.row_group(i).total_byte_size for i in range(footer.num_row_groups)), default=0)
    return pq.ParquetFile(
        stream, metadata=footer, page_checksum_verification=True, buffer_size=BUFFER_BYTES, pre_buffer=largest <= HELD_BYTES
    )


@dataclass(frozen=True)
class Chunk:
    """`rows` rows from `start` on.  `error` empty: `table` holds them; else `table` has what could still be read, or None."""

    start: int
    rows: int
    table: pa.Table | None
    error: str = ""

    @property
    def stop(self) -> int:
        return self.start + self.rows

    def cut(self, start: int, stop: int) -> Chunk:
        start, stop = max(start, self.start), min(stop, self.stop)
        table = None if self.table is None else self.table.slice(start - self.start, stop - start)
        return replace(self, start=start, rows=stop - start, table=table)


class RowReader:
    """Reads rows of one file in order; going on where the last range ended costs nothing.

    `wanted` columns are read where the file has them; `rescue` columns are tried alone when others cannot be decoded.
    `partitions`: texts that the file's folders say (`site=north`), a column each where the file has none of that name.
    StorageError when the storage fails; pa.ArrowException or OSError from the constructor when the footer is unreadable.
    """

    def __init__(
        self,
        path: StoragePath,
        wanted: Sequence[str],
        rescue: Sequence[str],
        batch_rows: int,
        partitions: Mapping[str, str | None] | None = None,
    ) -> None:
        self._path, self._batch_rows = path, batch_rows
        self._stream = path.open()
        self._file = _open_file(self._stream)
        inside = tuple(self._file.schema_arrow.names)
        self._partitions = {name: text for name, text in (partitions or {}).items() if name in wanted and name not in inside}
        self.names: tuple[str, ...] = (*inside, *self._partitions)
        self._wanted = [name for name in wanted if name in inside]
        self._rescue = [name for name in rescue if name in inside]
        self._chunks: Iterator[Chunk] = iter(())
        self._held: Chunk | None = None

    def close(self) -> None:
        self._chunks, self._held = iter(()), None  # that generator holds this reader: its batches would stay until Python looks for cycles
        self._file.close()
        self._stream.close()

    def rows(self, start: int, count: int, alive: Callable[[], None] | None = None) -> Iterator[Chunk]:
        """Chunks that cover [start, start + count), as far as the file has them.

        `alive` is called for each batch that was read, also for one that is skipped: the way to a row far down in a huge row
        group is long, and whoever watches should not take that for a hang.
        """
        stop = start + count
        if not self._goes_on(start):
            self._chunks, self._held = self._read_from(start), None
        while start < stop:
            if self._held is None or self._held.stop <= start:
                self._held = next(self._chunks, None)
                if self._held is None:
                    return
                if alive is not None:
                    alive()
                continue
            piece = self._held.cut(start, stop)
            start = piece.stop
            yield piece

    def group_stop(self, row: int) -> int:
        """Where the row group of this row ends: as far as rows are lost when its pages cannot be decoded."""
        ends = accumulate(self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups))
        return next((end for end in ends if row < end), row + 1)

    def _goes_on(self, start: int) -> bool:
        """Whether reading on is cheaper than beginning anew: the row is next, or later in the row group that is being read."""
        held = self._held
        return held is not None and held.start <= start and (start == held.stop or self._group_of(start) == self._group_of(held.start))

    def _group_of(self, row: int) -> int:
        first = 0
        for group in range(self._file.num_row_groups):
            first += self._file.metadata.row_group(group).num_rows
            if row < first:
                return group
        return int(self._file.num_row_groups)

    def _read_from(self, start: int) -> Iterator[Chunk]:
        """All chunks from the row group on that holds row `start`."""
        first = 0
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if first + rows > start:
                yield from self._read_group(group, first, rows)
            first += rows

    def _read_group(self, group: int, first: int, rows: int) -> Iterator[Chunk]:
        """Twice where the first time fails: a byte may have been lost on the way, and a row is quarantined for ever."""
        if not self._wanted:
            yield Chunk(first, rows, self._with_partitions(None, rows))
            return
        at, stop = first, first + rows
        for _ in range(ATTEMPTS):
            try:
                for chunk in self._read_on(group, first, at, stop):
                    yield chunk
                    at = chunk.stop
                if at == stop:
                    return
            except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: text that is none, in a damaged page
                self._blame_storage(error)
        table = self._rescued(group, at - first, stop - at)
        yield Chunk(at, stop - at, self._with_partitions(table, stop - at), "page_unreadable")

    def _read_on(self, group: int, first: int, at: int, stop: int) -> Iterator[Chunk]:
        """The group's batches from row `at` on; never more rows than its footer says, though damaged pages may hold more."""
        for batch in self._batches(group, self._wanted):
            chunk = Chunk(first, batch.num_rows, batch)
            first = chunk.stop
            if first > at:
                piece = chunk.cut(at, stop)
                yield replace(piece, table=self._with_partitions(piece.table, piece.rows))
            if first >= stop:
                return

    def _with_partitions(self, table: pa.Table | None, rows: int) -> pa.Table | None:
        for name, text in self._partitions.items():
            column = pa.repeat(pa.scalar(text, pa.string()), rows)
            table = pa.table({name: column}) if table is None else table.append_column(name, column)
        return table

    def _batches(self, group: int, columns: list[str]) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(self._batch_rows, row_groups=[group], columns=columns):
            yield pa.Table.from_batches([batch])

    def _rescued(self, group: int, skip: int, rows: int) -> pa.Table | None:
        """The ids of rows whose other columns are lost, if those pages are whole."""
        try:
            found = self._file.read_row_group(group, columns=self._rescue).slice(skip) if self._rescue else None
        except (OSError, ValueError, pa.ArrowException):
            return None
        return found if found is not None and found.num_rows == rows else None

    def _blame_storage(self, error: Exception) -> None:
        """Bytes that cannot be read are the storage's fault and are tried again; bytes that can, and make no sense, are the file's.

        The whole file is read, for its own word on where its columns lie is not to be trusted: pyarrow aborts the process
        when it is asked for a column that is encrypted, or whose statistics are damaged.
        """
        if isinstance(error, MemoryError):
            raise error
        try:
            at = 0
            while got := len(self._stream.read_at(BUFFER_BYTES, at)):
                at += got
        except OSError:
            what = "a file could not be read"
            raise StorageError(what, str(self._path), "check the storage and run the same command again") from error

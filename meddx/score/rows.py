"""A row range of a Parquet file in, batches out; a page that cannot be decoded comes out as rows without a table.

Batches begin at the start of each row group, whatever range is asked for, so a resumed unit sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from meddx.errors import StorageError
from meddx.storage import StoragePath

BUFFER_BYTES = 8 << 20  # column chunks are read in pieces of this size, so that a huge row group streams


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
    StorageError when the storage fails; pa.ArrowException or OSError from the constructor when the footer is unreadable.
    """

    def __init__(self, path: StoragePath, wanted: Sequence[str], rescue: Sequence[str], batch_rows: int) -> None:
        self._path, self._batch_rows = path, batch_rows
        self._stream = path.open()
        self._file = pq.ParquetFile(self._stream, page_checksum_verification=True, buffer_size=BUFFER_BYTES)
        self.names: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self._wanted = [name for name in wanted if name in self.names]
        self._rescue = [name for name in rescue if name in self.names]
        self._chunks: Iterator[Chunk] = iter(())
        self._held: Chunk | None = None

    def close(self) -> None:
        self._file.close()
        self._stream.close()

    def rows(self, start: int, count: int) -> Iterator[Chunk]:
        """Chunks that cover [start, start + count), as far as the file has them."""
        stop = start + count
        if not self._goes_on(start):
            self._chunks, self._held = self._read_from(start), None
        while start < stop:
            if self._held is None or self._held.stop <= start:
                self._held = next(self._chunks, None)
                if self._held is None:
                    return
                continue
            piece = self._held.cut(start, stop)
            start = piece.stop
            yield piece

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
        if not self._wanted:
            yield Chunk(first, rows, None)
            return
        at, stop = first, first + rows
        try:
            for batch in self._batches(group, self._wanted):
                yield Chunk(at, batch.num_rows, batch)
                at += batch.num_rows
            return
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, MemoryError):
                raise
            self._blame_storage(group, error)
        yield Chunk(at, stop - at, self._rescued(group, at - first), "page_unreadable")

    def _batches(self, group: int, columns: list[str]) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(self._batch_rows, row_groups=[group], columns=columns):
            yield pa.Table.from_batches([batch])

    def _rescued(self, group: int, skip: int) -> pa.Table | None:
        """The ids of rows whose other columns are lost, if those pages are whole."""
        try:
            return self._file.read_row_group(group, columns=self._rescue).slice(skip) if self._rescue else None
        except (OSError, pa.ArrowException):
            return None

    def _blame_storage(self, group: int, error: Exception) -> None:
        """Bytes that cannot be read are the storage's fault and are tried again; bytes that can, and make no sense, are the file's."""
        about = self._file.metadata.row_group(group)
        try:
            for i in range(about.num_columns):
                column = about.column(i)
                at = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
                stop = at + column.total_compressed_size
                while at < stop and (got := len(self._stream.read_at(min(BUFFER_BYTES, stop - at), at))):
                    at += got
        except OSError:
            raise StorageError("a file could not be read", str(self._path), "check the storage and run the same command again") from error

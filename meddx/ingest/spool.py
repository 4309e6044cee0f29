"""Rows of a joined source in, the same rows by number out: a temporary local Arrow file, mapped and not loaded."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

BATCH_ROWS = 1 << 18
BATCH_BYTES = 32 << 20


class Spool:
    """Take rows with `add`, then `close`, then `take` them by number in any order.  The file goes when the object does."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = self.bytes = 0
        self._folder = tempfile.mkdtemp(prefix="meddx-join-")
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._path = os.path.join(self._folder, "rows.arrow")
        self._writer: ipc.RecordBatchFileWriter | None = ipc.new_file(self._path, schema)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._starts = np.zeros(1, np.int64)

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        self._waiting_bytes += table.nbytes
        if self._waiting_rows >= BATCH_ROWS or self._waiting_bytes >= BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """No more rows come; the file is mapped."""
        self._flush()
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        file = ipc.open_file(pa.memory_map(self._path))
        self._batches = [file.get_batch(i) for i in range(file.num_record_batches)]
        self._starts = np.cumsum([0, *(one.num_rows for one in self._batches)]).astype(np.int64)

    def _flush(self) -> None:
        assert self._writer is not None
        if self._waiting_rows:
            table = pa.concat_tables(self._waiting).combine_chunks()
            self.rows += table.num_rows
            self.bytes += table.nbytes
            self._writer.write_table(table)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0

    @property
    def batches(self) -> list[pa.RecordBatch]:
        """The rows in their order, mapped."""
        return self._batches

    def take(self, rows: np.ndarray) -> pa.Table:
        """The rows with these numbers (int64 [n], from 0), in this order.  Only the batches that hold them are touched."""
        if not len(rows):
            return self.schema.empty_table()
        homes = np.searchsorted(self._starts, rows, side="right") - 1
        by_home = np.argsort(homes, kind="stable")
        edges = np.flatnonzero(np.diff(homes[by_home], prepend=-1))
        pieces = []
        for start, end in zip(edges, [*edges[1:], len(rows)], strict=True):
            places = by_home[start:end]
            home = int(homes[places[0]])
            pieces.append(pa.Table.from_batches([self._batches[home].take(pa.array(rows[places] - self._starts[home]))]))
        table = pa.concat_tables(pieces).combine_chunks()
        if len(pieces) == 1:  # a stable sort by one home changed nothing
            return table
        back = np.empty(len(rows), np.int64)
        back[by_home] = np.arange(len(rows))
        return table.take(pa.array(back))

"""Tables and rejects in, `data/` and `quarantine/` parts with their digests out, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meddx.ingest.block import Reject
from meddx.storage import StoragePath

ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 32 << 20
PART_BYTES = 256 << 20
QUARANTINE = pa.schema(
    [("source", pa.string()), ("row", pa.int64()), ("path_digest", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)


class _HashingFile:
    """A binary file that is hashed as it is written, and synced when closed."""

    def __init__(self, path: StoragePath) -> None:
        self._stream: Any = path.filesystem.open_output_stream(path.key) if path.on_s3 else Path(path.uri).open("xb")  # noqa: SIM115
        self._sync = not path.on_s3
        self._sha = hashlib.sha256()
        self._position = 0
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._sha.update(view)
        self._stream.write(view)
        self._position += len(view)
        return len(view)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._stream.flush()
            if self._sync:
                os.fsync(self._stream.fileno())
            self._stream.close()

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def facts(self) -> dict[str, Any]:
        return {"sha256": self._sha.hexdigest(), "bytes": self._position}


class PartsWriter:
    """Row groups of at most 10,000 rows and about 32 MB, parts of about 256 MB: `part-00000.parquet` and on."""

    def __init__(self, folder: StoragePath, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self.files: dict[str, dict[str, Any]] = {}
        self.rows = 0
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._file: _HashingFile | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._part_rows = 0

    @property
    def taken(self) -> int:
        """Rows on disk and rows that wait for their row group to fill."""
        return self.rows + self._waiting_rows

    def write(self, table: pa.Table) -> None:
        """Take rows; they reach the disk when a row group is full."""
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            piece = table.slice(start, ROW_GROUP_ROWS)
            self._waiting.append(piece)
            self._waiting_rows += piece.num_rows
            self._waiting_bytes += piece.nbytes
            if self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
                self._flush(keep_rest=True)

    def close(self) -> None:
        """Write what waits and finish the last part.  A dataset without rows still has one part, with its columns."""
        self._flush(keep_rest=False)
        if not self.files and self._parquet is None:
            self._start_part()
        self._end_part()

    def _flush(self, keep_rest: bool) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        per_group = max(1, min(ROW_GROUP_ROWS, int(ROW_GROUP_BYTES * table.num_rows / max(table.nbytes, 1))))
        end = table.num_rows - table.num_rows % per_group if keep_rest else table.num_rows
        for start in range(0, end, per_group):
            self._write_group(table.slice(start, min(per_group, end - start)))
        rest = table.slice(end)
        self._waiting = [rest] if rest.num_rows else []
        self._waiting_rows, self._waiting_bytes = rest.num_rows, rest.nbytes

    def _write_group(self, group: pa.Table) -> None:
        if self._parquet is None:
            self._start_part()
        assert self._parquet is not None and self._file is not None
        self._parquet.write_table(group, row_group_size=group.num_rows)
        self._part_rows += group.num_rows
        self.rows += group.num_rows
        if self._file.tell() >= PART_BYTES:
            self._end_part()

    def _start_part(self) -> None:
        self.folder.make_dir()
        self._file = _HashingFile(self.folder / f"part-{len(self.files):05d}.parquet")
        texts, plain = _leaves(self.schema)
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._file, mode="w"), self.schema, compression="zstd",
            use_dictionary=texts, write_statistics=plain, write_page_checksum=True,
        )  # fmt: skip
        self._part_rows = 0

    def _end_part(self) -> None:
        if self._parquet is None or self._file is None:
            return
        self._parquet.close()
        self._file.close()
        self.files[f"part-{len(self.files):05d}.parquet"] = {**self._file.facts, "rows": self._part_rows}
        self._parquet = self._file = None


def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """(Parquet's paths of the text columns, of all columns but pictures), those inside of joined sources too."""
    leaves = [(one.name, one.type) for one in schema if not pa.types.is_list(one.type)]
    for one in schema:
        if pa.types.is_list(one.type) and pa.types.is_struct(one.type.value_type):
            leaves += [(f"{one.name}.list.element.{inner.name}", inner.type) for inner in one.type.value_type]
    return [name for name, kind in leaves if pa.types.is_string(kind)], [name for name, kind in leaves if not pa.types.is_binary(kind)]


class QuarantineWriter:
    """Counts every reject by reason and writes them; makes no file while there is none."""

    def __init__(self, folder: StoragePath) -> None:
        self.reasons: Counter[str] = Counter()
        self._parts = PartsWriter(folder, QUARANTINE)
        self._waiting: list[Reject] = []
        self._beside = 0

    @property
    def total(self) -> int:
        """Rejects of the case source."""
        return self.reasons.total()

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        return self._parts.files

    def add(self, rejects: Sequence[Reject]) -> None:
        self.reasons.update(one.reason for one in rejects)
        self._take(rejects)

    def add_beside(self, rejects: Sequence[Reject]) -> None:
        """Write rejects of a joined source: they are in its own books, not in those of the cases."""
        self._beside += len(rejects)
        self._take(rejects)

    def _take(self, rejects: Sequence[Reject]) -> None:
        self._waiting += rejects
        if len(self._waiting) >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self.total or self._beside:
            self._parts.close()

    def _flush(self) -> None:
        if self._waiting:
            columns = {name: [getattr(one, name) for one in self._waiting] for name in QUARANTINE.names}
            self._parts.write(pa.table(columns, schema=QUARANTINE))
        self._waiting = []


def dataset_digest(files: dict[str, dict[str, Any]]) -> str:
    """SHA-256 over the sorted (name, SHA-256) of the data files."""
    lines = "\n".join(f"{name}\t{facts['sha256']}" for name, facts in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()

"""A dataset directory in, tables out: opens what ingest wrote, and refuses what is unfinished or damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meddx import record as records
from meddx.errors import DataError
from meddx.storage import StoragePath
from meddx.yamlconf import nearest

AGAIN = "run the ingest again"


@dataclass(frozen=True)
class Dataset:
    """One row a case, in the order of the files.  `Dataset.open(path)` makes one; nothing is read but footers.

    `digest` is the record's digest of the data files; `schema` the Arrow schema that every file has.
    """

    path: StoragePath
    record: dict[str, Any]
    schema: Any
    files: tuple[StoragePath, ...]
    n_rows: int

    @classmethod
    def open(cls, path: StoragePath | Path | str) -> Dataset:
        """Raises DataError for a directory without record.json, and for files that do not hold the rows that it counts."""
        root = StoragePath.of(path)
        record = records.read(root)
        if record is None:
            raise DataError("this is not a finished dataset: it has no record.json", str(root), AGAIN)
        files = tuple(info.path for info in (root / "data").list(suffix=".parquet", recursive=False) if not info.path.name.startswith("."))
        schema, n_rows = None, 0
        for file in files:
            footer = _footer(file)
            n_rows += footer.metadata.num_rows
            if schema is not None and not schema.equals(footer.schema_arrow):
                raise DataError("the files of the dataset have different columns or types", str(file), AGAIN)
            schema = footer.schema_arrow
        written = record.get("counts", {}).get("written")
        if schema is None or n_rows != written:
            raise DataError(f"the record counts {written} cases, the files hold {n_rows}: files are missing or damaged", str(root), AGAIN)
        if not {"case_id", "patient_id"} <= set(schema.names) or not record.get("digest"):
            raise DataError("the dataset lacks case_id, patient_id or its digest: it was not written by meddx ingest", str(root), AGAIN)
        return cls(root, record, schema.remove_metadata(), files, n_rows)

    @property
    def digest(self) -> str:
        return str(self.record["digest"])

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of the columns (default: all), in file order.  DataError names a column that is not there."""
        names = self._known(columns)
        return pa.concat_tables([_read(file, names) for file in self.files])

    def batches(self, columns: Sequence[str] | None = None, rows: int = 10_000) -> Iterator[pa.Table]:
        """The same in tables of at most `rows` rows; memory stays near one row group."""
        names = self._known(columns)
        for file in self.files:
            try:
                for batch in _footer(file).iter_batches(batch_size=rows, columns=names, use_threads=False):
                    yield pa.Table.from_batches([batch])
            except (pa.ArrowException, OSError) as error:
                raise _damaged(file, error) from error

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        if columns is None:
            return list(self.schema.names)
        known = set(self.schema.names)
        for name in columns:
            if name not in known:
                guess = nearest(name, self.schema.names)
                step = f"did you mean {guess!r}?" if guess else "see `columns` in its record.json"
                raise DataError(f"the dataset has no column {name!r}", str(self.path), step)
        return list(columns)


def _footer(file: StoragePath) -> Any:
    try:
        return pq.ParquetFile(file.open(), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _read(file: StoragePath, names: list[str]) -> pa.Table:
    try:
        return _footer(file).read(columns=names, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: StoragePath, error: Exception) -> DataError:
    return DataError(f"a file of the dataset is damaged: {type(error).__name__}", str(file), AGAIN)

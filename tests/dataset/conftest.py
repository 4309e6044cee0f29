"""A dataset on disk as ingest writes it, made from a pandas frame or an Arrow table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddx.dataset.open import Dataset
from meddx.record import Recorder
from meddx.storage import StoragePath


def write_dataset(folder: Path, table: pa.Table | pd.DataFrame, files: int = 2) -> Dataset:
    table = pa.Table.from_pandas(table, preserve_index=False) if isinstance(table, pd.DataFrame) else table
    for name in ("case_id", "patient_id"):
        position = table.schema.get_field_index(name)
        table = table.set_column(position, name, table.column(name).cast(pa.string()))
    table = table.replace_schema_metadata(None)
    (folder / "data").mkdir(parents=True)
    sha, step = hashlib.sha256(), max(1, -(-table.num_rows // files))
    for number, start in enumerate(range(0, max(table.num_rows, 1), step)):
        path = folder / "data" / f"part-{number:05d}.parquet"
        pq.write_table(table.slice(start, step), path, row_group_size=10_000, compression="zstd", write_page_checksum=True)
        sha.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    recorder = Recorder("ingest", "0" * 16)
    recorder.counts = {"read": table.num_rows, "written": table.num_rows, "quarantined": 0}
    recorder.more = {"digest": sha.hexdigest(), "columns": {field.name: str(field.type) for field in table.schema}}
    recorder.write(StoragePath.of(folder))
    return Dataset.open(folder)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """make_dataset(table_or_frame, files=2) -> an opened Dataset in a fresh folder."""
    made: list[Any] = []

    def make(table: pa.Table | pd.DataFrame, files: int = 2) -> Dataset:
        made.append(None)
        return write_dataset(tmp_path / f"dataset-{len(made)}", table, files)

    return make

"""A finished dataset opens; an unfinished, short or damaged one is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddx.dataset.open import Dataset
from meddx.errors import DataError

FRAME = pd.DataFrame({"case_id": [f"{i:04d}" for i in range(50)], "patient_id": ["a"] * 50, "x": range(50), "y": ["u"] * 50})


def test_reads_in_file_order(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME, files=3)
    assert dataset.n_rows == 50 and len(dataset.files) == 3 and dataset.digest == dataset.record["digest"]
    assert dataset.schema.names == ["case_id", "patient_id", "x", "y"]
    assert dataset.table(["x", "case_id"]).to_pydict() == {"x": list(range(50)), "case_id": list(FRAME.case_id)}
    batches = list(dataset.batches(["x"], rows=7))
    assert max(batch.num_rows for batch in batches) == 7
    assert pa.concat_tables(batches).column("x").to_pylist() == list(range(50))
    assert dataset.table().num_columns == 4


def test_missing_column_names_the_nearest(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME)
    with pytest.raises(DataError, match="did you mean 'case_id'"):
        dataset.table(["case_idd"])
    with pytest.raises(DataError, match="record.json"):
        next(dataset.batches(["qqqqqqq"]))


def test_unfinished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record.json"):
        Dataset.open(tmp_path)


def test_a_file_gone(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME, files=3)
    Path(dataset.files[1].uri).unlink()
    with pytest.raises(DataError, match="counts 50 cases, the files hold 33"):
        Dataset.open(dataset.path)


@pytest.mark.parametrize("where", ["footer", "page"])
def test_a_file_damaged(make_dataset: Callable[..., Dataset], where: str) -> None:
    dataset = make_dataset(FRAME)
    path = Path(dataset.files[0].uri)
    raw = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(2).data_page_offset
    if where == "footer":
        raw = raw[: len(raw) // 2]
    else:
        end = start + pq.ParquetFile(path).metadata.row_group(0).column(2).total_compressed_size
        raw[end - 8] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="damaged"):
        Dataset.open(dataset.path).table()


def test_columns_that_differ_between_files(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME)
    path = Path(dataset.files[1].uri)
    pq.write_table(pq.read_table(path).rename_columns(["case_id", "patient_id", "x", "z"]), path)
    with pytest.raises(DataError, match="different columns"):
        Dataset.open(dataset.path)

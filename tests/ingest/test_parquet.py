"""Numbers stay numbers, codes stay codes, and a damaged page costs only its rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddx.errors import DataError


def test_cifar(shared_data, make):
    made = make({"path": shared_data / "cifar10/test-00.parquet"}, {"id": "case_id", "patient": "@case"}, text=("label",))
    assert made.table.num_rows == 10_000
    assert made.record["columns"] == {
        "case_id": "string", "patient_id": "string", "label": "string", "label_name": "string", "image": "binary",
    }  # fmt: skip
    assert made.column("image")[0][:3] == b"\xff\xd8\xff"
    assert set(made.column("label")) == {str(i) for i in range(10)}


def test_seven_thousand_genes(shared_data, make):
    made = make({"path": shared_data / "genomics/golub.parquet"}, {"id": "patient_id", "patient": "@case"})
    assert (made.table.num_rows, made.table.num_columns) == (72, 7132)


def test_every_kind_of_column(tmp_path, make):
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int64()),
            "whole": pa.array([1, None, -1], pa.int8()),
            "real": pa.array([1.5, float("nan"), 2.0], pa.float32()),
            "price": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
            "flag": pa.array([True, False, None]),
            "day": pa.array([date(2020, 1, 2), None, date(2021, 1, 2)]),
            "at": pa.array([datetime(2020, 1, 2, 3, tzinfo=UTC)] * 3, pa.timestamp("ns", tz="Europe/Berlin")),
            "kind": pa.array(["a", "?", "007"]).dictionary_encode(),
            "said": pa.array([" 31/12/2020", None, "01/02/2021"], pa.large_string()),
            "code": pa.array([12.0, 7.5, None]),
            "nothing": pa.nulls(3),
            "image": pa.array([b"\x00\xff", b"", None], pa.large_binary()),
            "list": pa.array([[1], [2], []]),
            "__index_level_0__": pa.array([0, 1, 2]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    made = make({"path": tmp_path / "a.parquet", "missing": ["?", "-1"], "dates": {"said": "dmy"}}, text=("code",))
    assert made.column("case_id") == ["1", "2", "3"]
    assert made.column("whole") == [1.0, None, None]
    assert made.column("real") == [1.5, None, 2.0]
    assert made.column("price") == [1.5, None, 2.25]
    assert made.column("flag") == ["true", "false", None]
    assert made.column("day") == [datetime(2020, 1, 2), None, datetime(2021, 1, 2)]
    assert made.column("at")[0] == datetime(2020, 1, 2, 3, tzinfo=UTC)
    assert made.column("kind") == ["a", None, "007"]
    assert made.column("said") == [datetime(2020, 12, 31), None, datetime(2021, 2, 1)]
    assert made.column("code") == ["12", "7.5", None]
    assert made.column("nothing") == [None, None, None]
    assert made.column("image") == [b"\x00\xff", b"", None]
    assert "list" not in made.table.column_names
    assert any("'list' is left out" in note for note in made.record["notes"])
    assert any("'__index_level_0__' is left out: an index" in note for note in made.record["notes"])


def test_whole_numbers_beyond_a_float_are_refused_until_they_are_text(tmp_path, make):
    pq.write_table(pa.table({"id": ["a"], "big": [2**60 + 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="'big'"):
        make({"path": tmp_path / "a.parquet"})
    assert make({"path": tmp_path / "a.parquet", "text": ["big"]}, out="b").column("big") == [str(2**60 + 1)]


def test_an_infinite_number_is_rejected(tmp_path, make):
    pq.write_table(pa.table({"id": ["a", "b"], "x": [1.0, float("inf")]}), tmp_path / "a.parquet")
    made = make({"path": tmp_path / "a.parquet"})
    assert (made.column("case_id"), made.reasons) == (["a"], ["number_unreadable"])


def test_a_damaged_page_loses_its_rows_and_no_others(tmp_path, make):
    rng = np.random.default_rng(0)
    table = pa.table({"id": [str(i) for i in range(3000)], "x": rng.normal(size=3000)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=1000, write_page_checksum=True, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    made = make({"path": path})
    assert made.table.num_rows == 2000
    assert made.record["reasons"] == {"page_unreadable": 1000}
    assert [one["row"] for one in made.quarantine] == list(range(1001, 2001))


def test_a_damaged_file_is_refused_alone_and_quarantined_among_others(tmp_path, make):
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not readable as Parquet"):
        make({"path": tmp_path / "b.parquet"})
    pq.write_table(pa.table({"id": ["a"], "x": [1.0]}), tmp_path / "a.parquet")
    (tmp_path / "c.parquet").write_bytes(b"")
    made = make({"path": tmp_path / "*.parquet"}, out="two")
    assert sorted(made.reasons) == ["file_empty", "file_unreadable"]
    pq.write_table(pa.table({"id": ["a"], "x": ["text"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="differ in their columns"):
        make({"path": tmp_path / "*.parquet"}, out="three")


def test_no_rows(tmp_path, make):
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no row"):
        make({"path": tmp_path / "a.parquet"})

"""Row groups and parts stay within their bounds, and the digest is that of the bytes on disk."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meddx.ingest import writer
from meddx.ingest.block import Reject
from meddx.ingest.writer import PartsWriter, QuarantineWriter, dataset_digest
from meddx.storage import StoragePath


def written(tmp_path, table, pieces):
    parts = PartsWriter(StoragePath.of(tmp_path / "data"), table.schema)
    for piece in pieces:
        parts.write(piece)
    parts.close()
    return parts


def groups(path):
    metadata = pq.ParquetFile(path).metadata
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def test_rows_come_back_in_order_whatever_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 100)
    table = pa.table({"x": np.arange(1234.0), "t": [str(i) for i in range(1234)]})
    cuts = [0, 1, 5, 99, 100, 350, 351, 900, 1234]
    parts = written(tmp_path, table, [table.slice(a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)])
    assert pq.read_table(tmp_path / "data").equals(table)
    assert max(groups(tmp_path / "data/part-00000.parquet")) == 100
    assert parts.rows == parts.taken == 1234


def test_large_rows_make_small_groups_and_several_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(writer, "PART_BYTES", 4 << 20)
    rng = np.random.default_rng(0)
    table = pa.table({"image": [rng.bytes(64 << 10) for _ in range(160)]})
    parts = written(tmp_path, table, [table])
    assert sorted(parts.files) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert max(groups(tmp_path / "data/part-00000.parquet")) <= 16
    assert sum(one["rows"] for one in parts.files.values()) == 160
    for name, facts in parts.files.items():
        path = StoragePath.of(tmp_path / "data" / name)
        assert (facts["sha256"], facts["bytes"]) == (path.digest(), path.info().size)
    assert pq.read_table(tmp_path / "data").equals(table)


def test_no_rows_still_have_columns(tmp_path):
    table = pa.table({"x": [1.0]})
    written(tmp_path, table, [])
    assert pq.read_table(tmp_path / "data").equals(table.slice(0, 0))


def test_quarantine_is_written_only_when_there_is_something(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 3)
    empty = QuarantineWriter(StoragePath.of(tmp_path / "none"))
    empty.close()
    assert not (tmp_path / "none").exists()
    some = QuarantineWriter(StoragePath.of(tmp_path / "some"))
    for i in range(8):
        some.add([Reject("a.csv", "row_width", "", i)])
    some.close()
    assert pq.read_table(tmp_path / "some").column("row").to_pylist() == list(range(8))
    assert (some.total, dict(some.reasons)) == (8, {"row_width": 8})


def test_the_dataset_digest_does_not_depend_on_the_order_of_listing():
    files = {"b": {"sha256": "2"}, "a": {"sha256": "1"}}
    assert dataset_digest(files) == dataset_digest(dict(reversed(files.items())))
    assert dataset_digest(files) != dataset_digest({"a": {"sha256": "2"}, "b": {"sha256": "1"}})

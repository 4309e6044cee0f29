"""Ranges of a file come back whole; pages that lie are told from storage that fails."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import StorageError
from meddx.score.rows import RowReader
from meddx.storage import StoragePath


def make(tmp_path: Path, rows: int = 1000, group: int = 300) -> StoragePath:
    helper.write_file(tmp_path / "a.parquet", np.random.default_rng(0), "a", rows, payload=200, group=group)
    return StoragePath.of(tmp_path / "a.parquet")


def reader(path: StoragePath, wanted: tuple[str, ...] = ("case_id", "x", "note", "absent"), batch: int = 64) -> RowReader:
    return RowReader(path, wanted, ("case_id",), batch)


def spoil(path: StoragePath, column: str, group: int) -> None:
    """Flip one byte in the middle of a column chunk."""
    about = pq.read_metadata(path.uri)
    chunk = about.row_group(group).column(about.schema.names.index(column))
    data = bytearray(path.read_bytes())
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    data[begin + chunk.total_compressed_size // 2] ^= 0xFF
    Path(path.uri).write_bytes(data)


def test_a_closed_reader_holds_nothing_until_python_looks_for_cycles(tmp_path: Path) -> None:
    """A night of 300,000 pictures grew by 700 MB: a batch of every file stayed, for the reader and its generator held each other."""
    one = reader(make(tmp_path))
    next(one.rows(0, 100))
    there, gone = weakref.ref(one), gc.isenabled()
    gc.disable()
    try:
        one.close()
        del one
        assert there() is None
    finally:
        if gone:
            gc.enable()


@pytest.mark.parametrize(("start", "count"), [(0, 1000), (0, 1), (299, 2), (450, 100), (600, 400), (999, 1)])
def test_a_range_is_what_the_file_has_there(tmp_path: Path, start: int, count: int) -> None:
    path = make(tmp_path)
    chunks = list(reader(path).rows(start, count))
    assert [chunk.start for chunk in chunks] == [start, *[chunk.stop for chunk in chunks[:-1]]]
    found = pa.concat_tables([chunk.table for chunk in chunks])
    assert found.equals(pq.read_table(path.uri, columns=["case_id", "x", "note"]).slice(start, count))


def test_reading_on_and_jumping_give_the_same_rows(tmp_path: Path) -> None:
    path = make(tmp_path)
    whole = pq.read_table(path.uri, columns=["x"])["x"].to_numpy()
    one = reader(path, ("x",))
    for start, count in [(0, 100), (100, 100), (250, 20), (280, 100), (900, 50), (10, 10), (995, 50), (0, 1000)]:
        found = [chunk.table["x"].to_numpy() for chunk in one.rows(start, count)]
        assert np.array_equal(np.concatenate(found), whole[start : start + count])


def test_a_stream_of_ranges_reads_the_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, group=1000)
    one, begun = reader(path), []
    real = one._batches
    monkeypatch.setattr(one, "_batches", lambda *args: (begun.append(1), real(*args))[1])
    for start in (0, 150, 300, 700):
        assert sum(chunk.rows for chunk in one.rows(start, 150)) == 150
    assert len(begun) == 1


def test_batches_begin_where_the_row_group_begins_whatever_is_asked(tmp_path: Path) -> None:
    path = make(tmp_path, group=1000)
    resumed = [(chunk.start, chunk.rows) for chunk in reader(path, batch=64).rows(100, 200)]
    one = reader(path, batch=64)
    list(one.rows(0, 100))
    assert [(chunk.start, chunk.rows) for chunk in one.rows(100, 200)] == resumed == [(100, 28), (128, 64), (192, 64), (256, 44)]


def test_a_corrupt_page_costs_the_rest_of_its_row_group_and_keeps_the_ids(tmp_path: Path) -> None:
    path = make(tmp_path)
    whole = pq.read_table(path.uri)
    spoil(path, "note", 1)
    chunks = list(reader(path).rows(0, 1000))
    bad = [chunk for chunk in chunks if chunk.error]
    assert sum(chunk.rows for chunk in chunks) == 1000
    assert [(chunk.start, chunk.stop, chunk.error) for chunk in bad] == [(300, 600, "page_unreadable")]
    assert bad[0].table["case_id"].equals(whole["case_id"].slice(300, 300))
    cut = list(reader(path).rows(350, 10))
    assert cut[0].table["case_id"].to_pylist() == [f"a-{row:05d}" for row in range(350, 360)]


def test_corrupt_ids_are_not_known(tmp_path: Path) -> None:
    path = make(tmp_path)
    spoil(path, "case_id", 1)
    bad = [chunk for chunk in reader(path).rows(0, 1000) if chunk.error]
    assert bad[0].table is None and bad[0].rows == 300


def test_without_page_checksums_a_flipped_byte_goes_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: the protection off, the bad thing seen."""
    table = pa.table({"case_id": ["a"] * 100, "x": np.arange(100.0)})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False, write_page_checksum=True)
    path = StoragePath.of(tmp_path / "a.parquet")
    spoil(path, "x", 0)
    assert [chunk.error for chunk in reader(path, ("x",)).rows(0, 100)] == ["page_unreadable"]
    real = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda *args, **more: real(*args, **{**more, "page_checksum_verification": False}))
    chunks = list(reader(path, ("x",), batch=100).rows(0, 100))
    assert [chunk.error for chunk in chunks] == [""] and not chunks[0].table["x"].equals(table["x"])


def test_storage_that_fails_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path)
    one = reader(path)

    def fail(*_: Any) -> Any:
        raise OSError("AWS Error NETWORK_CONNECTION")

    class Dead:
        read_at = staticmethod(fail)

    monkeypatch.setattr(one, "_batches", fail)
    monkeypatch.setattr(one, "_stream", Dead())
    with pytest.raises(StorageError, match="could not be read"):
        list(one.rows(0, 10))


def test_a_file_with_none_of_the_columns_has_rows_all_the_same(tmp_path: Path) -> None:
    chunks = list(RowReader(make(tmp_path), ("a", "b"), ("a",), 64).rows(250, 100))
    assert [(chunk.start, chunk.rows, chunk.table) for chunk in chunks] == [(250, 50, None), (300, 50, None)]


def test_reading_past_the_end_stops(tmp_path: Path) -> None:
    assert sum(chunk.rows for chunk in reader(make(tmp_path)).rows(990, 100)) == 10

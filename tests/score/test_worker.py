"""A unit's rows come out once each, in order; what is wrong with a row is said in the row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import DataError, StorageError
from meddx.score.sources import list_files, read_footers
from meddx.score.units import MB, Unit, make_units
from meddx.score.worker import UnitFailed, UnitScorer, batch_rows
from meddx.storage import StoragePath


def units_of(folder: Path, unit_mb: int = 1) -> list[Unit]:
    root = StoragePath.of(folder)
    files, _ = read_footers(root, list_files(root))
    return make_units(files, unit_bytes=unit_mb * MB, buckets=1)


def score(folder: Path, bundle: Any = None, **more: Any) -> pa.Table:
    (unit,) = units_of(folder)
    return UnitScorer(bundle or helper.PlainBundle(), StoragePath.of(folder), ("x",), **more).score(unit)


def write(folder: Path, **columns: Any) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=100, write_page_checksum=True)
    return folder


def test_rows_come_out_in_the_plans_order_with_their_number(tmp_path: Path) -> None:
    folder = helper.archive(tmp_path / "d", files=2, rows=150, group=40)
    table = score(folder)
    source = pa.concat_tables([pq.read_table(folder / f"f0-{n}.parquet") for n in range(2)])
    assert table.column_names == [*helper.SCHEMA.names, "unit", "row"]
    assert table["case_id"].equals(source["case_id"]) and table["patient_id"].equals(source["patient_id"])
    assert table["row"].to_pylist() == [*range(150), *range(150)]
    assert np.allclose(table["probability"].drop_null(), 1 / (1 + np.exp(-source["x"].to_numpy()[source["x"].to_numpy() >= -3])))
    assert set(table["unit"].to_pylist()) == {units_of(folder)[0].id}


def test_statuses_and_outside_rows_that_are_scored_all_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", case_id=["a", "b", "c"], x=[0.0, None, -4.0])
    table = score(folder)
    assert table["status"].to_pylist() == ["scored", "quarantined", "outside_cohort"]
    assert table["error"].to_pylist() == [None, "number_missing", None]
    assert table["probability"].null_count == 2 and table["patient_id"].null_count == 3
    assert score(folder, score_outside=True)["probability"].null_count == 1


def test_a_row_without_an_id_is_quarantined_in_its_place(tmp_path: Path) -> None:
    table = score(write(tmp_path / "d", case_id=["a", None, "c", None, "e"], x=[0.0, 1.0, 2.0, 3.0, 4.0]))
    assert table["case_id"].to_pylist() == ["a", None, "c", None, "e"]
    assert table["error"].to_pylist() == [None, "id_missing", None, "id_missing", None]
    assert np.allclose(table["probability"].to_numpy()[[0, 2, 4]], 1 / (1 + np.exp([0.0, -2.0, -4.0])))
    assert table["row"].to_pylist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ids", [pa.array([1, 2]), pa.array(["1", "2"], pa.large_string()), pa.array(["1", "2"]).dictionary_encode()])
def test_ids_are_text_whatever_the_writer_chose(tmp_path: Path, ids: pa.Array) -> None:
    table = score(write(tmp_path / "d", case_id=ids, patient_id=ids, x=[0.0, 1.0]))
    assert table["case_id"].to_pylist() == table["patient_id"].to_pylist() == ["1", "2"]
    assert table.schema.field("case_id").type == pa.string()


def test_ids_that_cannot_be_text(tmp_path: Path) -> None:
    table = score(write(tmp_path / "d", case_id=pa.array([{"a": 1}, {"a": 2}]), x=[0.0, 1.0]))
    assert table["error"].to_pylist() == ["id_unreadable"] * 2 and table["case_id"].null_count == 2


def test_a_file_without_a_needed_column_keeps_its_ids(tmp_path: Path) -> None:
    table = score(write(tmp_path / "d", case_id=["a", "b"], other=[0.0, 1.0]))
    assert table["error"].to_pylist() == ["column_missing"] * 2 and table["case_id"].to_pylist() == ["a", "b"]
    table = score(write(tmp_path / "e", x=[0.0, 1.0]))
    assert table["error"].to_pylist() == ["column_missing"] * 2 and table["case_id"].null_count == 2


def test_a_corrupt_page_is_one_quarantined_row_for_each_planned_row(tmp_path: Path) -> None:
    folder = helper.archive(tmp_path / "d", files=1, rows=300, group=100, payload=100)
    path = folder / "f0-0.parquet"
    chunk = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.dictionary_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(data)
    table = score(folder)
    assert table.num_rows == 300
    bad = table.slice(100, 100)
    assert set(bad["error"].to_pylist()) == {"page_unreadable"} and bad["case_id"].null_count == 100
    assert table["error"].null_count == 200 and table["row"].to_pylist() == list(range(300))


def test_rows_that_the_bundle_refuses_as_a_whole(tmp_path: Path) -> None:
    class Refusing(helper.PlainBundle):
        def predict(self, rows: pa.Table, **_: Any) -> pa.Table:
            raise DataError("the type of x is not known")

    table = score(write(tmp_path / "d", case_id=["a", "b"], x=["one", "two"]), Refusing())
    assert table["error"].to_pylist() == ["input_refused"] * 2 and table["case_id"].to_pylist() == ["a", "b"]


def test_a_bundle_that_loses_the_order_is_caught(tmp_path: Path) -> None:
    class Shuffling(helper.PlainBundle):
        def predict(self, rows: pa.Table, **_: Any) -> pa.Table:
            return super().predict(rows).take([1, 0])

    with pytest.raises(UnitFailed) as caught:
        score(write(tmp_path / "d", case_id=["a", "b"], x=[0.0, 1.0]), Shuffling())
    assert caught.value.kind == "order_lost"


class Meddling(helper.PlainBundle):
    """Touches the source while it is being read."""

    path: Path

    def predict(self, rows: pa.Table, **_: Any) -> pa.Table:
        os.utime(self.path, ns=(1, 1))
        return super().predict(rows)


def test_a_source_that_changes_before_or_while_it_is_read_fails_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = helper.archive(tmp_path / "d", files=1)
    (unit,) = units_of(folder)
    bundle = Meddling()
    bundle.path = folder / "f0-0.parquet"
    for _ in range(2):  # changed while read; then changed before
        with pytest.raises(UnitFailed) as caught:
            UnitScorer(bundle, StoragePath.of(folder), ("x",)).score(unit)
        assert caught.value.kind == "source_changed"
    monkeypatch.setattr(UnitScorer, "check_version", lambda *_: None)  # the twin: unnoticed
    assert UnitScorer(bundle, StoragePath.of(folder), ("x",)).score(unit).num_rows == 100


def test_a_source_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    folder = helper.archive(tmp_path / "d", files=1)
    (unit,) = units_of(folder)
    (folder / "f0-0.parquet").unlink()
    with pytest.raises(StorageError, match="no such file"):
        UnitScorer(helper.PlainBundle(), StoragePath.of(folder), ("x",)).score(unit)


def test_fewer_rows_than_planned_fail_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = helper.archive(tmp_path / "d", files=1)
    (unit,) = units_of(folder)
    helper.archive(tmp_path / "d", files=1, rows=90)
    monkeypatch.setattr(UnitScorer, "check_version", lambda *_: None)
    with pytest.raises(UnitFailed) as caught:
        UnitScorer(helper.PlainBundle(), StoragePath.of(folder), ("x",)).score(unit)
    assert caught.value.kind == "rows_differ"


def test_units_of_one_stream_read_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meddx.score.units.STREAM_BYTES", MB)
    folder = helper.archive(tmp_path / "d", files=1, rows=500, payload=10_000)
    made = sorted(units_of(folder), key=lambda unit: unit.pieces[0].start)
    assert len(made) == 5 and len({unit.stream for unit in made}) == 1
    scorer = UnitScorer(helper.PlainBundle(), StoragePath.of(folder), ("x",))
    together = [scorer.score(unit) for unit in made]
    alone = [UnitScorer(helper.PlainBundle(), StoragePath.of(folder), ("x",)).score(unit) for unit in made]
    assert all(one.equals(other) for one, other in zip(together, alone, strict=True))
    assert pa.concat_tables(together)["row"].to_pylist() == list(range(500))


def test_the_batch_is_a_power_of_two_that_follows_the_plan() -> None:
    assert batch_rows(Unit("a", units_piece(1000), 64_000)) == 1 << 16
    assert batch_rows(Unit("a", units_piece(1000), 64_000_000)) == 256
    assert batch_rows(Unit("a", units_piece(1000), 10**11)) == 64


def units_piece(rows: int) -> Any:
    from meddx.score.units import Piece

    return (Piece("a", "v", 0, rows),)

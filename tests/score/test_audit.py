"""What is said of an output from its folder alone, and that tampering is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import BooksError, DataError, IncompleteError, StorageError
from meddx.score import audit
from meddx.score.audit import read_predictions, status, verify
from meddx.score.plan import Generation, Owner, Plan
from meddx.score.run import score
from meddx.score.units import Piece, Unit
from meddx.storage import StoragePath


@pytest.fixture
def out(tmp_path: Path) -> Path:
    data = helper.archive(tmp_path / "d", files=2, rows=300, payload=8000, group=50)
    score(helper.BUNDLE, StoragePath.of(data), StoragePath.of(tmp_path / "o"), options=helper.options(), bundles=helper.PlainBundles())
    return tmp_path / "o"


def test_the_folder_reads_as_one_table_everywhere(out: Path) -> None:
    (out / ".tmp-left-by-a-crash").write_bytes(b"half")
    expected = helper.rows_of(out)
    assert expected.num_rows == 600
    for table in (
        read_predictions(StoragePath.of(out)),
        ds.dataset(out).to_table(),
        pq.read_table(out),
        pa.Table.from_pandas(pd.read_parquet(out), schema=expected.schema),
    ):
        assert table.replace_schema_metadata(None).sort_by([("unit", "ascending"), ("row", "ascending")]).equals(expected)


def test_a_json_file_among_the_parts_would_stop_the_usual_readers(out: Path) -> None:
    """The twin: why the record lies in `_meddx/` and not among the parts."""
    (out / "record.json").write_text("{}")
    with pytest.raises(pa.ArrowInvalid):
        pd.read_parquet(out)


def test_verify_proves_and_status_tells(out: Path) -> None:
    lines = verify(StoragePath.of(out))
    assert lines[0] == "parts read back 6: each of 600 rows in 2 files stands there exactly once"
    assert lines[1] == "case_id: none repeats" and lines[2].startswith("scored ")
    told = "\n".join(status(StoragePath.of(out)))
    assert "units done 6 of 6; rows done 600 of 600" in told and "finished" in told and lines[2] in told
    next(out.glob("part-*")).unlink()
    told = "\n".join(status(StoragePath.of(out)))
    assert "units done 5 of 6; rows done 500 of 600" in told and "not finished: run the same command again" in told
    for reading in (verify, read_predictions):
        with pytest.raises(IncompleteError):
            reading(StoragePath.of(out))


def test_nothing_here(tmp_path: Path) -> None:
    for reading in (verify, status, read_predictions):
        with pytest.raises(DataError, match="no plan"):
            reading(StoragePath.of(tmp_path))


def rewrite(out: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = sorted(out.glob("part-*"))[0]
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 99), table.slice(0, 1)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.slice(1), "rows are not as planned"),
        (doubled, "rows are not as planned"),
        (lambda t: t.set_column(t.column_names.index("unit"), "unit", pa.array(["other"] * 100)), "unit are not as planned"),
        (lambda t: t.set_column(t.column_names.index("bundle"), "bundle", pa.array(["other"] * 100)), "bundle are not as planned"),
        (lambda t: t.set_column(t.column_names.index("status"), "status", pa.array(["quarantined"] * 100)), "counts are not as planned"),
    ],
)
def test_tampering_is_seen(out: Path, change: Callable[[pa.Table], pa.Table], said: str) -> None:
    rewrite(out, change)
    with pytest.raises(BooksError, match=said) as caught:
        verify(StoragePath.of(out))
    assert caught.value.exit_code == 4


def test_a_flipped_byte_in_a_part_is_seen(out: Path) -> None:
    path = sorted(out.glob("part-*"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        verify(StoragePath.of(out))


def test_a_plan_that_leaves_rows_out_or_takes_them_twice_is_seen(out: Path) -> None:
    place = out / "_meddx" / "plan-0.json"
    page = json.loads(place.read_text())
    page["units"][0]["pieces"][0][1] += 1
    place.write_text(json.dumps(page))
    with pytest.raises((BooksError, StorageError, DataError)):
        verify(StoragePath.of(out))


@pytest.mark.parametrize(("start", "rows", "said"), [(0, 99, "99 of 100 rows"), (1, 99, "rows 0-1"), (0, 101, "101 of 100 rows")])
def test_a_plan_whose_pieces_do_not_tile_a_file(start: int, rows: int, said: str) -> None:
    unit = Unit("u", (Piece("f", "v", start, rows),), 1)
    plan = Plan((Generation(0, "", Owner("b", {}, {}), "data", 1, {"f": ("v", 1, 100)}, {}, (unit,)),), ("digest",))
    assert said in next(audit._tiling(plan))


def test_repeated_ids_are_counted_and_not_named(tmp_path: Path) -> None:
    data = helper.archive(tmp_path / "d", files=2)
    (data / "copy.parquet").write_bytes((data / "f0-0.parquet").read_bytes())
    out = StoragePath.of(tmp_path / "o")
    books = score(helper.BUNDLE, StoragePath.of(data), out, options=helper.options(), bundles=helper.PlainBundles())
    assert books.read == 300 and books.exit_code == 0  # exactly once is about (file, row), never about ids
    assert verify(out)[1] == "case_id: 100 ids stand in more than one row"

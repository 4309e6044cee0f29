"""Predictions as others read them: plain Arrow types, checksums on the pages, and the same rows in every reader."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.score.audit import read_predictions
from meddx.score.run import score
from meddx.storage import StoragePath

COLUMNS = [*helper.SCHEMA.names, "unit", "row"]
ORDER = [("unit", "ascending"), ("case_id", "ascending")]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight parts with every status, from ids that were dictionaries."""
    root = tmp_path_factory.mktemp("readers")
    folder = helper.archive(root / "d", files=8, rows=150, payload=5000)
    table = pa.table({"case_id": pa.array(["é", "b"]).dictionary_encode(), "patient_id": ["p", None], "x": [None, -4.0]})
    pq.write_table(table, folder / "more.parquet")
    score(helper.BUNDLE, StoragePath.of(folder), StoragePath.of(root / "o"), options=helper.options(), bundles=helper.PlainBundles())
    return root / "o"


@pytest.fixture(scope="module")
def expected(out: Path) -> pa.Table:
    return read_predictions(StoragePath.of(out)).sort_by(ORDER)


def same(found: pd.DataFrame, expected: pa.Table) -> bool:
    return bool(pa.Table.from_pandas(found, schema=expected.schema, preserve_index=False).sort_by(ORDER).equals(expected))


def test_plain_types(out: Path) -> None:
    for path in out.glob("part-*.parquet"):
        types = {str(field.type) for field in pq.read_schema(path)}
        assert types <= {"string", "double", "int64"} and pq.ParquetFile(path).schema.to_arrow_schema().names == COLUMNS


def test_every_page_has_a_checksum(out: Path) -> None:
    """A byte flipped in any column's page is noticed by who asks for it."""
    path = max(out.glob("part-*.parquet"), key=lambda one: one.stat().st_size)
    group = pq.read_metadata(path).row_group(0)
    for number in range(group.num_columns):
        about = group.column(number)
        data = bytearray(path.read_bytes())
        begin = min(at for at in (about.dictionary_page_offset, about.data_page_offset) if at)
        data[begin + about.total_compressed_size - 1] ^= 1  # the last byte of the column's last page
        with pytest.raises(OSError, match="(?i)crc|checksum"):
            pq.ParquetFile(pa.BufferReader(bytes(data)), page_checksum_verification=True).read(columns=[about.path_in_schema])


def test_pandas_and_arrow_read_the_folder(out: Path, expected: pa.Table) -> None:
    assert same(pd.read_parquet(out), expected)
    assert same(ds.dataset(out).to_table().to_pandas(), expected)  # `_meddx` begins with an underscore


def test_duckdb(out: Path, expected: pa.Table) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        assert same(connection.execute(f"select * from read_parquet('{out}/*.parquet')").df(), expected)
        query = f"select status, count(*) from read_parquet('{out}/part-*.parquet') group by status order by status"
        assert connection.execute(query).fetchall() == sorted(
            (one["values"], one["counts"]) for one in expected["status"].value_counts().to_pylist()
        )


@pytest.mark.ray
@pytest.mark.slow
def test_ray(out: Path, expected: pa.Table, ray_cluster: None) -> None:
    import ray.data

    assert same(ray.data.read_parquet(str(out)).to_pandas(), expected)

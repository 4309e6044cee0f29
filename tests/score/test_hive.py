"""Folders that say something: `site=north/year=2024/f.parquet` has the columns site and year."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import DataError
from meddx.score.audit import read_predictions, verify
from meddx.score.run import score
from meddx.score.sources import list_files, partitions, read_footers
from meddx.storage import StoragePath

N = 300


@pytest.fixture(scope="module")
def cases() -> pa.Table:
    rng = np.random.default_rng(0)
    ids = [f"c{row:04d}" for row in range(N)]
    sites = rng.choice(["north", "söuth / west", "x=1"], N).tolist()
    return pa.table({"case_id": ids, "patient_id": ids, "size": rng.normal(size=N), "site": sites, "age": rng.choice([10.0, 50.0], N)})


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("site=north/year=2024/f.parquet", {"site": "north", "year": "2024"}),
        ("f.parquet", {}),
        ("a=b.parquet", {}),
        ("plain/site=a%2Fb%20c%3D/f.parquet", {"site": "a/b c="}),
        ("site=__HIVE_DEFAULT_PARTITION__/f.parquet", {"site": None}),
        ("site=/=x/f.parquet", {"site": ""}),
        ("site=a/site=b/f.parquet", {"site": "b"}),
    ],
)
def test_what_folders_say(path: str, found: dict[str, str | None]) -> None:
    assert partitions(path) == found


def test_partitioned_rows_are_scored_as_plain_ones(tmp_path: Path, cases: pa.Table) -> None:
    """Written by pyarrow with its own quoting; the category and the cohort's number stand in the folders' names only."""
    from meddx.predict.bundle import Bundle

    bundle = helper.logistic_bundle(StoragePath.of(tmp_path / "b"), cases)
    pq.write_to_dataset(cases, tmp_path / "d", partition_cols=["site", "age"])
    assert not {"site", "age"} & set(pq.ParquetFile(next((tmp_path / "d").rglob("*.parquet"))).schema_arrow.names)
    out = StoragePath.of(tmp_path / "o")
    books = score(bundle, StoragePath.of(tmp_path / "d"), out, options=helper.options(), log=lambda _: None)
    verify(out)
    expected = Bundle.load(bundle).predict(cases).replace_schema_metadata(None)
    assert books.counts.scored == pa.compute.sum(pa.compute.equal(cases["age"], 50.0)).as_py()
    assert read_predictions(out).sort_by("case_id").select(expected.column_names).equals(expected)


def test_what_the_file_says_itself_counts_more(tmp_path: Path) -> None:
    place = tmp_path / "x=5" / "patient_id=p7"
    place.mkdir(parents=True)
    pq.write_table(pa.table({"case_id": ["a", "b"], "x": [0.0, 1.0]}), place / "f.parquet")
    root = StoragePath.of(tmp_path)
    assert read_footers(root, list_files(root))[0][0].columns == ("case_id", "x", "x", "patient_id")
    books = score(helper.BUNDLE, root, StoragePath.of(tmp_path.parent / "oh"), options=helper.options(), bundles=helper.PlainBundles())
    found = read_predictions(StoragePath.of(tmp_path.parent / "oh"))
    assert books.counts.scored == 2 and found["patient_id"].to_pylist() == ["p7", "p7"]
    assert np.allclose(found["probability"].to_numpy(), 1 / (1 + np.exp([0.0, -1.0])))


def test_a_column_that_neither_file_nor_folder_has(tmp_path: Path) -> None:
    (tmp_path / "d" / "y=5").mkdir(parents=True)
    pq.write_table(pa.table({"case_id": ["a"]}), tmp_path / "d" / "y=5" / "f.parquet")
    with pytest.raises(DataError, match="no file has the columns that the bundle needs: x"):
        score(
            helper.BUNDLE, StoragePath.of(tmp_path / "d"), StoragePath.of(tmp_path / "o"), options=helper.options(),
            bundles=helper.PlainBundles(),
        )  # fmt: skip

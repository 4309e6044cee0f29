"""scoring.without and scoring.outputs reach the bundle, belong to the output's rules, and leave older outputs alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import OutputError, RecipeError
from meddx.score.audit import read_predictions, verify
from meddx.score.bundles import Facts
from meddx.score.options import ScoringOptions
from meddx.score.plan import Owner
from meddx.score.planning import owner_of
from meddx.score.rows import RowReader
from meddx.score.run import check, score
from meddx.storage import StoragePath

FACTS = Facts("b" * 16, {}, ("x",), {"batch_rows": 256})
WITH_LIST = pa.schema([*list(helper.SCHEMA)[:-1], ("embedding", pa.list_(pa.float32())), ("bundle", pa.string())])


class Wishing(helper.PlainBundle):
    """Says what it was asked: hidden inputs halve x, an embedding is x itself."""

    def schema(self, outputs: tuple[str, ...] = ()) -> pa.Schema:
        return WITH_LIST if outputs else helper.SCHEMA

    def predict(self, rows: pa.Table, *, without: tuple[str, ...] = (), outputs: tuple[str, ...] = (), **more: Any) -> pa.Table:
        found = super().predict(rows, **more)
        if without:
            half = pa.array(found["probability"].to_numpy(zero_copy_only=False) / 2)
            found = found.set_column(found.column_names.index("probability"), "probability", half)
        if outputs:
            vectors = pa.array([[one] for one in rows["x"].to_pylist()], pa.list_(pa.float32()))
            found = found.append_column("embedding", vectors).select(WITH_LIST.names)
        return found


class WishingBundles(helper.PlainBundles):
    def facts(self, path: StoragePath) -> Facts:
        return Facts(path.name, {}, ("x",), {"batch_rows": 256}, "network", {"table": False, "labs": True})

    def load(self, path: StoragePath, engine: Any = None) -> Wishing:
        return Wishing(digest=path.name)


def test_rules_that_ask_for_nothing_are_those_of_before() -> None:
    before = {"max_rejected": 0.01, "outside_cohort": "mark", "unit_mb": 48}
    assert owner_of(FACTS, ScoringOptions()).rules == Owner("b" * 16, before, {}, {"batch_rows": 256}).rules
    wished = owner_of(FACTS, ScoringOptions(without=("b", "a"), outputs=("embedding",)))
    assert wished.scoring == {**before, "outputs": ["embedding"], "without": ["a", "b"]}
    assert wished.rules == owner_of(FACTS, ScoringOptions(without=("a", "b"), outputs=("embedding",))).rules
    assert wished.rules != owner_of(FACTS, ScoringOptions(without=("a", "b"))).rules


def test_they_reach_the_bundle_and_the_output_belongs_to_them(tmp_path: Path) -> None:
    data, out = StoragePath.of(helper.archive(tmp_path / "d", files=2, rows=50)), StoragePath.of(tmp_path / "o")
    given: dict[str, Any] = {"without": ("labs",), "outputs": ("embedding",)}
    bundles = WishingBundles()
    lines = check(helper.BUNDLE, data, out, helper.options(**given), bundles=bundles)
    assert any("sample of 50 rows" in line for line in lines) and not (tmp_path / "o").exists()
    score(helper.BUNDLE, data, out, options=helper.options(**given), bundles=bundles)
    found = read_predictions(out)
    verify(out)
    assert [one is None for one in found["embedding"].to_pylist()] == [False] * 100
    score(helper.BUNDLE, data, StoragePath.of(tmp_path / "plain"), options=helper.options(), bundles=bundles)
    plain = read_predictions(StoragePath.of(tmp_path / "plain")).sort_by("case_id")
    np.testing.assert_allclose(found.sort_by("case_id")["probability"].drop_null(), plain["probability"].drop_null().to_numpy() / 2)
    for other in ({}, {"without": ("labs",)}):
        with pytest.raises(OutputError, match=r"scoring\.outputs differs"):
            score(helper.BUNDLE, data, out, options=helper.options(**other), bundles=bundles)
    with pytest.raises(OutputError, match=r"scoring\.without differs"):
        score(helper.BUNDLE, data, StoragePath.of(tmp_path / "plain"), options=helper.options(without=("labs",)), bundles=bundles)


@pytest.mark.parametrize("given", [{"without": ("table",)}, {"without": ("lab",)}])
def test_what_the_bundle_cannot_do_is_said_before_anything_is_written(tmp_path: Path, given: dict[str, Any]) -> None:
    data, out = StoragePath.of(helper.archive(tmp_path / "d", files=1)), StoragePath.of(tmp_path / "o")
    for run in (score, check):
        with pytest.raises(RecipeError, match="without"):
            run(helper.BUNDLE, data, out, options=helper.options(**given), bundles=WishingBundles())
    assert not (tmp_path / "o").exists()


def test_a_column_that_is_quarantined_whole_has_a_null_embedding(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    pq.write_table(pa.table({"case_id": ["a", None], "x": [0.5, 1.0]}), folder / "a.parquet")
    out = StoragePath.of(tmp_path / "o")
    options = helper.options(outputs=("embedding",), max_rejected=1.0)
    score(helper.BUNDLE, StoragePath.of(folder), out, options=options, bundles=WishingBundles())
    assert read_predictions(out)["embedding"].to_pylist() == [[0.5], None]


def test_lists_of_records_are_read_range_by_range_as_they_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labs = [[{"@time": -float(k), "item": "K"} for k in range(int(rng.integers(0, 4)))] for _ in range(500)]
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("item", pa.string())]))
    table = pa.table({"case_id": [f"c{row}" for row in range(500)], "labs": pa.array(labs, kind), "other": np.arange(500)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=120, write_page_checksum=True)
    reader = RowReader(StoragePath.of(tmp_path / "a.parquet"), ("case_id", "labs"), ("case_id",), 64)
    found = [chunk.table for chunk in reader.rows(100, 333)]
    assert pa.concat_tables(found)["labs"].to_pylist() == labs[100:433]
    assert found[0].column_names == ["case_id", "labs"]


def test_a_corrupt_page_inside_the_records_costs_its_row_group_and_keeps_the_ids(tmp_path: Path) -> None:
    labs = [[{"@time": -float(row), "value": float(row)}] for row in range(300)]
    table = pa.table({"case_id": [f"c{row}" for row in range(300)], "labs": labs})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=100, write_page_checksum=True, use_dictionary=False)
    about = pq.read_metadata(path).row_group(1).column(2)
    data = bytearray(path.read_bytes())
    data[about.data_page_offset + about.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(data)
    chunks = list(RowReader(StoragePath.of(path), ("case_id", "labs"), ("case_id",), 64).rows(0, 300))
    bad = [chunk for chunk in chunks if chunk.error]
    assert [(chunk.start, chunk.stop, chunk.error) for chunk in bad] == [(100, 200, "page_unreadable")]
    assert bad[0].table is not None and bad[0].table["case_id"].to_pylist() == [f"c{row}" for row in range(100, 200)]

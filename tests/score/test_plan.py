"""The plan is written once, grows by generations, and refuses what it was not made for."""

from __future__ import annotations

from pathlib import Path

import pytest
import scoring_helper as helper

from meddx.errors import OutputError, StorageError
from meddx.score.plan import Owner, Plan, draw_up
from meddx.score.sources import list_files, read_footers
from meddx.score.units import MB
from meddx.storage import StoragePath

OWNER = Owner("b" * 16, {"unit_mb": 1, "max_rejected": 0.01}, {"keep": {"adult": "age >= 18"}}, {"batch_rows": 256})


def grow(data: Path, out: StoragePath, plan: Plan | None = None) -> Plan:
    root = StoragePath.of(data)
    listing = list_files(root)
    files, broken = read_footers(root, plan.new_files(listing) if plan else listing)
    assert draw_up(plan, OWNER, root, files, broken, MB).publish(out)
    loaded = Plan.load(out)
    assert loaded is not None
    return loaded


@pytest.fixture
def out(tmp_path: Path) -> StoragePath:
    return StoragePath.of(tmp_path / "out")


def test_it_comes_back_as_it_was_written(tmp_path: Path, out: StoragePath) -> None:
    data = helper.archive(tmp_path / "d", payload=8000, rows=200, group=50)
    (data / "bad.parquet").write_text("no")
    assert Plan.load(out) is None
    plan = grow(data, out)
    assert plan.owner == OWNER and plan.rows == 600 and len(plan.files) == 3 and list(plan.broken) == ["bad.parquet"]
    again = draw_up(None, OWNER, StoragePath.of(data), *read_footers(StoragePath.of(data), list_files(StoragePath.of(data))), MB)
    assert again == plan.first and again.encode() == (out / "_meddx" / "plan-0.json").read_bytes()
    assert not again.publish(out)  # once


def test_a_changed_or_vanished_file_is_refused_by_name(tmp_path: Path, out: StoragePath) -> None:
    data = helper.archive(tmp_path / "d")
    plan = grow(data, out)
    root = StoragePath.of(data)
    (data / "f0-1.parquet").unlink()
    with pytest.raises(OutputError, match="1 of 3 files vanished since this output was planned: f0-1.parquet") as caught:
        plan.new_files(list_files(root))
    assert caught.value.exit_code == 3
    helper.archive(tmp_path / "d", seed=0)  # written again: the same names and bytes, other files
    with pytest.raises(OutputError, match="3 of 3 files changed"):
        plan.new_files(list_files(root))


def test_new_files_are_a_generation_that_adds(tmp_path: Path, out: StoragePath) -> None:
    data = helper.archive(tmp_path / "d")
    first = grow(data, out)
    helper.archive(data, seed=1, files=2)
    plan = grow(data, out, first)
    assert len(plan.generations) == 2 and plan.rows == 500
    assert plan.units.keys() > first.units.keys() and plan.first == first.first and plan.digests[0] == first.digests[0]
    assert plan.generations[1].buckets == first.first.buckets
    assert not plan.new_files(list_files(StoragePath.of(data)))


def test_a_broken_file_is_known_and_is_new_again_once_it_is_mended(tmp_path: Path, out: StoragePath) -> None:
    data = helper.archive(tmp_path / "d", files=1)
    (data / "late.parquet").write_text("no")
    plan = grow(data, out)
    assert not plan.new_files(list_files(StoragePath.of(data)))
    (data / "late.parquet").write_bytes((data / "f0-0.parquet").read_bytes())
    plan = grow(data, out, plan)
    assert not plan.broken and plan.rows == 200


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Owner("c" * 16, OWNER.scoring, OWNER.cohort, OWNER.engine), "bundle bbbbbbbbbbbbbbbb is not cccccccccccccccc"),
        (Owner(OWNER.bundle, {**OWNER.scoring, "max_rejected": 0.5}, OWNER.cohort, OWNER.engine), "scoring.max_rejected differs"),
        (Owner(OWNER.bundle, OWNER.scoring, {}, OWNER.engine), "cohort.keep differs"),
        (Owner(OWNER.bundle, OWNER.scoring, OWNER.cohort, None), "engine.batch_rows differs"),
    ],
)
def test_what_it_belongs_to_is_said(tmp_path: Path, out: StoragePath, other: Owner, said: str) -> None:
    plan = grow(helper.archive(tmp_path / "d", files=1), out)
    plan.check_owner(OWNER, out)
    with pytest.raises(OutputError, match=said):
        plan.check_owner(other, out)


def test_damage_to_the_plan_is_seen(tmp_path: Path, out: StoragePath) -> None:
    data = helper.archive(tmp_path / "d")
    first = grow(data, out)
    helper.archive(data, seed=1)
    grow(data, out, first)
    place = out / "_meddx" / "plan-0.json"
    text = place.read_text()
    place.replace(text.replace('"buckets":1', '"buckets":2').encode())
    with pytest.raises(StorageError, match="do not belong together"):
        Plan.load(out)
    place.replace(text[:100].encode())
    with pytest.raises(StorageError, match="damaged"):
        Plan.load(out)
    place.delete()
    with pytest.raises(StorageError, match="do not belong together"):
        Plan.load(out)

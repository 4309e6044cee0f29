"""A part is published once and is trusted only for what its footer says."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx import failpoints
from meddx.errors import OutputError, StorageError
from meddx.score import ledger
from meddx.score.ledger import Counts, Stamp
from meddx.score.plan import Leaving, Owner, Plan, draw_up
from meddx.score.sources import list_files, read_footers
from meddx.score.units import MB, Unit
from meddx.score.worker import UnitScorer
from meddx.storage import StoragePath

OWNER = Owner("a" * 16, {"unit_mb": 1}, {})


@pytest.fixture
def planned(tmp_path: Path) -> tuple[StoragePath, Plan, Unit, pa.Table]:
    """An output with a plan of one unit, and that unit's rows."""
    root, out = StoragePath.of(helper.archive(tmp_path / "d")), StoragePath.of(tmp_path / "o")
    draw_up(None, OWNER, root, *read_footers(root, list_files(root)), MB).publish(out)
    plan = Plan.load(out)
    assert plan is not None
    (unit,) = plan.units.values()
    return out, plan, unit, UnitScorer(helper.PlainBundle(), root).score(unit)


def stamp(plan: Plan, **more: str) -> Stamp:
    return Stamp(**{"plans": plan.digests, "bundle": OWNER.bundle, "rules": OWNER.rules, "token": "t", **more})  # type: ignore[arg-type]


def test_a_part_says_what_it_holds_and_where_it_is_from(planned: tuple[StoragePath, Plan, Unit, pa.Table]) -> None:
    out, plan, unit, table = planned
    data, counts = ledger.encode(table, unit, stamp(plan))
    assert counts == Counts(300, 299, 0, 1)
    assert ledger.publish(out, unit.id, data)
    assert ledger.list_parts(out) == [unit.id]
    (part,) = ledger.read_parts(out, plan, [unit.id]).values()
    assert (part.unit, part.rows, part.counts, part.token) == (unit.id, 300, counts, "t")
    footer = pq.read_metadata(ledger.part_path(out, unit.id).uri)
    about = json.loads(footer.metadata[b"meddx"])
    assert [version for version, _, _ in about["sources"]] == [piece.version for piece in unit.pieces]
    assert "f0-0" not in footer.metadata[b"meddx"].decode()  # a path may name a patient
    assert footer.row_group(0).column(0).compression == "ZSTD"


def test_of_many_attempts_one_wins_and_its_bytes_stand(planned: tuple[StoragePath, Plan, Unit, pa.Table]) -> None:
    out, plan, unit, table = planned
    attempts = [ledger.encode(table, unit, stamp(plan, token=f"job{n}"))[0] for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda data: ledger.publish(out, unit.id, data), attempts))
    assert sum(won) == 1
    assert ledger.part_path(out, unit.id).read_bytes() == attempts[won.index(True)]


def test_a_writer_on_the_final_name_leaves_a_short_valid_part(tmp_path: Path, planned: tuple[StoragePath, Plan, Unit, pa.Table]) -> None:
    """The twin: what publishing in one step protects from."""
    out, plan, unit, table = planned
    final = tmp_path / "o" / f"part-{unit.id}.parquet"
    with pytest.raises(RuntimeError), pq.ParquetWriter(final, table.schema) as writer:
        writer.write_table(table.slice(0, 100))
        raise RuntimeError("killed in the middle")
    assert pq.read_table(final).num_rows == 100  # it opens, and nobody would know
    with pytest.raises(StorageError, match="damaged"):
        ledger.read_parts(out, plan, [unit.id])


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_damaged_part_is_named(planned: tuple[StoragePath, Plan, Unit, pa.Table], keep: int) -> None:
    out, plan, unit, table = planned
    path = ledger.part_path(out, unit.id)
    path.replace(ledger.encode(table, unit, stamp(plan))[0][:keep])
    with pytest.raises(StorageError) as caught:
        ledger.read_parts(out, plan, [unit.id])
    assert caught.value.where == str(path) and "delete this part" in caught.value.next_step


@pytest.mark.parametrize("more", [{"bundle": "b" * 16}, {"rules": "other"}, {"plans": ("other",)}])
def test_a_part_of_another_origin_is_refused(planned: tuple[StoragePath, Plan, Unit, pa.Table], more: dict[str, str]) -> None:
    out, plan, unit, table = planned
    ledger.publish(out, unit.id, ledger.encode(table, unit, stamp(plan, **more))[0])
    with pytest.raises(OutputError, match="does not belong"):
        ledger.read_parts(out, plan, [unit.id])


def test_a_part_under_a_name_that_no_plan_knows_is_refused(planned: tuple[StoragePath, Plan, Unit, pa.Table]) -> None:
    out, plan, unit, table = planned
    ledger.publish(out, "f" * 16, ledger.encode(table, unit, stamp(plan))[0])
    with pytest.raises(OutputError):
        ledger.read_parts(out, plan, ledger.list_parts(out))


@pytest.mark.parametrize("looks", [True, False])
def test_a_unit_that_leaves_the_plan_while_it_is_published(
    tmp_path: Path, planned: tuple[StoragePath, Plan, Unit, pa.Table], monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """Paused between the look before and the final name; without the look after it (the twin) the part stands for ever."""
    out, plan, unit, table = planned
    data = ledger.encode(table, unit, stamp(plan))[0]
    monkeypatch.setenv(failpoints.VARIABLE, "temp_written:1:wait")
    monkeypatch.setenv(failpoints.GATE, str(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(ledger.publish, out, unit.id, data, ledger.Watch(out, 1) if looks else None)
        while not (tmp_path / "temp_written.reached").exists():
            time.sleep(0.01)
        assert draw_up(plan, OWNER, out, [], [], MB, Leaving((unit.id,), tuple(plan.files))).publish(out)
        (tmp_path / "temp_written.go").touch()
        assert job.result(timeout=10) is not looks
    assert ledger.list_parts(out) == ([] if looks else [unit.id])
    newer = Plan.load(out)
    assert newer is not None and newer.units == newer.files == {} and ledger.retire(out, newer, ledger.list_parts(out)) == set()
    assert ledger.list_parts(out) == []


def test_counts_add_up() -> None:
    one, other = Counts(3, 1, 2, 0, {"a": 2}), Counts(2, 0, 1, 1, {"a": 0, "b": 1})
    assert one + other == Counts(5, 1, 3, 1, {"a": 2, "b": 1})

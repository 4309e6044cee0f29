"""Whatever goes wrong in a unit is an outcome; the same failure again and again stops the job."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import scoring_helper as helper

from meddx.errors import IncompleteError, StorageError
from meddx.score import ledger, runner
from meddx.score.local import run_here
from meddx.score.runner import Breaker, Job, Outcome, Runner, decode_task, encode_task
from meddx.score.sources import list_files, read_footers
from meddx.score.units import MB, make_tasks, make_units
from meddx.storage import StoragePath


def make_job(tmp_path: Path, bundle: Any = None) -> tuple[Job, list[Any]]:
    root = StoragePath.of(helper.archive(tmp_path / "d", files=1, rows=200, payload=8000, group=50))

    class Given(helper.PlainBundles):
        def load(self, path: StoragePath, engine: Any = None) -> Any:
            return bundle or helper.PlainBundle(digest=path.name)

    stamp = ledger.Stamp(("plan",), "a" * 16, "rules", "token")
    files, _ = read_footers(root, list_files(root))
    tasks = make_tasks(make_units(files, unit_bytes=MB, buckets=1), (), "token")
    return Job(helper.BUNDLE, root, StoragePath.of(tmp_path / "o"), stamp, helper.options(), ("x",), Given()), tasks


class Failing(helper.PlainBundle):
    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    def predict(self, rows: pa.Table, **wishes: Any) -> pa.Table:
        if self.errors:
            raise self.errors.pop(0)
        return super().predict(rows)


def test_a_unit_is_published_once_and_lost_afterwards(tmp_path: Path) -> None:
    job, tasks = make_job(tmp_path)
    assert [one.state for one in run_here(job, tasks)] == ["published"] * 2
    assert [one.state for one in run_here(job, tasks)] == ["lost"] * 2


def test_the_attempt_that_comes_second_drops_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, tasks = make_job(tmp_path)
    list(run_here(job, tasks))
    before = {path: path.read_bytes() for path in (tmp_path / "o").glob("part-*")}
    monkeypatch.setattr(StoragePath, "is_file", lambda self: False)  # both began before either was done
    assert [one.state for one in run_here(job, tasks)] == ["lost"] * 2
    assert {path: path.read_bytes() for path in (tmp_path / "o").glob("part-*")} == before


def test_twin_without_create_once_the_second_attempt_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, tasks = make_job(tmp_path)
    list(run_here(job, tasks))
    before = {path: path.stat().st_ino for path in (tmp_path / "o").glob("part-*")}
    monkeypatch.setattr(StoragePath, "is_file", lambda self: False)
    monkeypatch.setattr(StoragePath, "create_once", lambda self, data, alone=False: self.replace(data) is None)
    assert [one.state for one in run_here(job, tasks)] == ["published"] * 2
    assert all(path.stat().st_ino != inode for path, inode in before.items())


@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("patient Smith"), "crashed"), (MemoryError(), "memory"), (KeyError("x"), "crashed")]
)
def test_an_error_is_an_outcome_and_tells_no_values(tmp_path: Path, error: Exception, kind: str) -> None:
    job, tasks = make_job(tmp_path, Failing(error))
    first, second = run_here(job, tasks)
    assert (first.state, first.kind, second.state) == ("failed", kind, "published")
    assert "Smith" not in repr(first)


def test_storage_errors_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_AFTER", (0.0, 0.0))
    failures = [StorageError("hiccup")] * 2
    job, tasks = make_job(tmp_path, Failing(*failures))
    assert [one.state for one in run_here(job, tasks)] == ["published"] * 2
    job, tasks = make_job(tmp_path / "more", Failing(*failures, StorageError("still")))
    assert [(one.state, one.kind, one.detail) for one in run_here(job, tasks)] == [("failed", "storage", "still"), ("published", "", "")]


def test_a_full_disk_fails_the_unit_and_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_AFTER", ())
    job, tasks = make_job(tmp_path)

    def full(self: StoragePath, data: bytes, *, alone: bool = False) -> bool:
        raise StorageError("storage failed: OSError: no space left on device", kind="full")

    monkeypatch.setattr(StoragePath, "create_once", full)
    assert [one.kind for one in run_here(job, tasks)] == ["full"] * 2
    assert not [path for path in (tmp_path / "o").rglob("*") if path.is_file()]


def test_a_bundle_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    job, _ = make_job(tmp_path, helper.PlainBundle(digest="b" * 16))
    with pytest.raises(StorageError, match="bundle changed"):
        Runner(job)


def test_the_breaker_counts_one_kind_in_a_row() -> None:
    def seen(*kinds: str) -> None:
        breaker = Breaker()
        for number, kind in enumerate(kinds):
            breaker.see(Outcome(str(number), "failed" if kind else "published", 1, kind=kind))

    seen(*["storage"] * 19, "", *["storage"] * 19)
    seen(*["storage", "crashed"] * 30)
    with pytest.raises(IncompleteError, match="20 units in a row failed with 'storage'"):
        seen("", *["storage"] * 20)


def test_tasks_and_errors_travel(tmp_path: Path) -> None:
    _, tasks = make_job(tmp_path)
    assert [decode_task(encode_task(task)) for task in tasks] == tasks
    error = pickle.loads(pickle.dumps(runner.UnitFailed("kind", "detail")))
    assert (error.kind, error.detail) == ("kind", "detail")

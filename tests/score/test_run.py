"""A run is begun, resumed, extended, found finished, or refused."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx import record
from meddx.errors import BooksError, DataError, IncompleteError, OutputError, StorageError
from meddx.score import runner
from meddx.score.audit import verify
from meddx.score.books import Books
from meddx.score.run import score
from meddx.storage import StoragePath


class Run:
    """An archive, an output and what was said."""

    def __init__(self, tmp_path: Path, **archive: Any) -> None:
        self.data = helper.archive(tmp_path / "d", **{"files": 2, "rows": 200, "payload": 8000, "group": 50, **archive})
        self.out = tmp_path / "o"
        self.lines: list[str] = []

    def __call__(self, bundle: StoragePath = helper.BUNDLE, bundles: Any = None, data: Path | None = None, **options: Any) -> Books:
        self.lines.clear()
        return score(
            bundle,
            StoragePath.of(data or self.data),
            StoragePath.of(self.out),
            options=helper.options(**options),
            log=self.lines.append,
            bundles=bundles or helper.PlainBundles(),
        )

    def files(self) -> dict[str, tuple[int, bytes]]:
        return {str(one): (one.stat().st_mtime_ns, one.read_bytes()) for one in self.out.rglob("*") if one.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_every_row_is_scored_and_the_record_says_so(run: Run) -> None:
    books = run()
    assert (books.read, books.units, books.exit_code) == (400, 4, 0)
    assert run.lines == ["units to do 4 of 4, rows 400 of 400; in this process", books.line]
    made = record.read(StoragePath.of(run.out) / "_meddx")
    assert made is not None
    assert made["counts"] == {"read": 400, "scored": books.counts.scored, "quarantined": 0, "outside": books.counts.outside}
    assert made["inputs"]["bundle"]["digest"] == "a" * 16 and made["exit_code"] == 0 and made["rows_a_second"] > 0
    assert sorted(path.name for path in run.out.iterdir() if not path.name.startswith("part-")) == ["_meddx"]


def test_a_finished_run_is_left_as_it_is(run: Run) -> None:
    books = run()
    before = run.files()
    assert run() == books
    assert run.files() == before
    assert run.lines == [f"nothing to do, this run is finished: {books.line}"]


def test_a_missing_part_is_made_again(run: Run) -> None:
    run()
    whole = helper.rows_of(run.out)
    next(run.out.glob("part-*")).unlink()
    run()
    assert run.lines[0] == "units to do 1 of 4, rows 100 of 400; in this process"
    assert helper.rows_of(run.out).equals(whole)


def test_new_files_are_new_work_in_the_same_run(run: Run) -> None:
    run()
    before = run.files()
    helper.archive(run.data, seed=1, files=1, rows=30)
    books = run()
    assert run.lines[:2] == [
        "new files since the plan: 1; they are added to this run",
        "units to do 1 of 5, rows 30 of 430; in this process",
    ]
    assert books.read == 430 and verify(StoragePath.of(run.out))[-1] == books.line
    after = run.files()
    assert all(after[name] == content for name, content in before.items() if name.rpartition("/")[2] not in ("record.json", "summary.html"))
    run()
    assert run.lines[0].startswith("nothing to do")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"bundle": StoragePath("/nowhere/bbbbbbbbbbbbbbbb")}, "bundle aaaaaaaaaaaaaaaa is not bbbbbbbbbbbbbbbb"),
        ({"outside_cohort": "score"}, "scoring.outside_cohort differs"),
        ({"bundles": helper.PlainBundles(cohort="age >= 18")}, "cohort.keep differs"),
    ],
)
def test_an_output_belongs_to_one_bundle_and_its_rules(run: Run, how: dict[str, Any], said: str) -> None:
    run()
    before = run.files()
    with pytest.raises(OutputError, match=said):
        run(**how)
    assert run.files() == before


def test_changed_and_vanished_files_are_refused_and_nothing_is_done(run: Run) -> None:
    run()
    before = run.files()
    os.utime(run.data / "f0-0.parquet", ns=(1, 1))
    helper.archive(run.data, seed=7, files=1)
    with pytest.raises(OutputError, match="1 of 2 files changed since this output was planned: f0-0.parquet") as caught:
        run()
    assert "--update" in caught.value.next_step
    (run.data / "f0-0.parquet").unlink()
    with pytest.raises(OutputError, match="vanished"):
        run()
    assert run.files() == before


def test_a_damaged_part_is_named_and_kept(run: Run) -> None:
    run()
    part = next(run.out.glob("part-*"))
    (run.out / "_meddx" / "record.json").unlink()
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(StorageError, match="damaged") as caught:
        run()
    assert part.name in caught.value.where
    part.unlink()
    assert run().exit_code == 0


def test_failed_units_stay_undone_and_the_next_run_does_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_AFTER", ())
    real, calls = StoragePath.create_once, []

    def flaky(self: StoragePath, data: bytes, *, alone: bool = False) -> bool:
        calls.append(self.name)
        if self.name.startswith("part-") and len(calls) % 2:
            raise StorageError("no space left")
        return real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(StoragePath, "create_once", flaky)
        with pytest.raises(IncompleteError, match="2 of 4 units are not done") as caught:
            run()
    assert caught.value.exit_code == 5 and sum("failed: storage no space left" in line for line in run.lines) == 2
    assert not (run.out / "_meddx" / "record.json").exists()
    assert run().exit_code == 0 and run.lines[0].startswith("units to do 2 of 4")


def test_too_much_quarantined_is_finished_and_says_so_again(run: Run) -> None:
    rng = np.random.default_rng(0)
    helper.write_file(run.data / "bad.parquet", rng, "bad", 100, x=[None if row < 50 else 0.0 for row in range(100)])
    before = None
    for _ in range(2):
        with pytest.raises(BooksError, match="10.00% was rejected.*number_missing 50"):
            run()
        assert before in (None, run.files())
        before = run.files()
    assert run.lines[0].startswith("nothing to do")
    with pytest.raises(BooksError, match="was rejected"):  # every row is there, and the share is what it is
        verify(StoragePath.of(run.out))


def test_a_file_that_will_not_open_has_its_own_line(run: Run) -> None:
    (run.data / "text.parquet").write_text("no")
    with pytest.raises(BooksError, match="files not opened: 1 of 3"):
        run()
    assert run.lines[-1].endswith(f"files not opened 1 of 3; {run.out}")
    run.out = run.out.with_name("o2")
    assert run(max_rejected=0.5).not_opened == 1


def test_a_file_without_the_column_is_rows_and_an_archive_without_it_is_refused(run: Run) -> None:
    path = run.data.with_name("e")
    path.mkdir()
    pq.write_table(pa.table({"case_id": list("abcde")}), path / "a.parquet")
    with pytest.raises(DataError, match="no file has the columns that the bundle needs: x"):
        run(data=path)
    (run.data / "a.parquet").write_bytes((path / "a.parquet").read_bytes())
    assert not run.out.exists()
    assert run(max_rejected=0.5).counts.reasons == {"column_missing": 5}


@pytest.mark.parametrize("content", [{}, {"a.txt": b"x"}, {"a.parquet": b"not parquet"}])
def test_nothing_to_score(tmp_path: Path, run: Run, content: dict[str, bytes]) -> None:
    (tmp_path / "e").mkdir()
    for name, data in content.items():
        (tmp_path / "e" / name).write_bytes(data)
    with pytest.raises(DataError, match="Parquet files"):
        run(data=tmp_path / "e")
    assert not run.out.exists()


def test_empty_files_are_read_and_have_no_rows(run: Run) -> None:
    helper.write_file(run.data / "empty.parquet", np.random.default_rng(0), "e", 0)
    books = run()
    assert books.read == 400 and books.files == 3
    run()
    assert run.lines[0].startswith("nothing to do")


def test_two_jobs_on_one_output_agree(tmp_path: Path, run: Run) -> None:
    results: list[Books] = []
    jobs = [threading.Thread(target=lambda: results.append(
        score(helper.BUNDLE, StoragePath.of(run.data), StoragePath.of(run.out), options=helper.options(), log=lambda _: None,
              bundles=helper.PlainBundles())
    )) for _ in range(3)]  # fmt: skip
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(results) == 3 and results[0] == results[1] == results[2] and results[0].read == 400
    verify(StoragePath.of(run.out))


def test_leftovers_of_killed_attempts_are_swept_at_the_end(run: Run) -> None:
    run.out.mkdir()
    (run.out / ".tmp-dead").write_bytes(b"half a part")
    run()
    assert not list(run.out.glob(".tmp-*"))


def test_the_record_keeps_no_paths_below_the_data(run: Run) -> None:
    run()
    assert "f0-0" not in json.dumps(record.read(StoragePath.of(run.out) / "_meddx"))

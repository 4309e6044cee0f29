"""The command line scores in a child: what ends the child does not end the job, and what ends the job ends the child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import poison_helper as poison
import pyarrow as pa
import pytest
import scoring_helper as helper

from meddx.errors import BundleError, DataError, IncompleteError
from meddx.score.guard import Guard
from meddx.score.run import score
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow
GUARDED = helper.SCRIPT.replace("workers=workers,", "workers=workers, guard=True,")


def run(data: Path, out: Path, bundles: Any = None, **more: Any) -> Any:
    bundles, given = bundles or helper.PlainBundles(), helper.options(max_rejected=0.5)
    place = StoragePath.of(out)
    return score(helper.BUNDLE, StoragePath.of(data), place, options=given, log=lambda _: None, bundles=bundles, guard=True, **more)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return helper.archive(tmp_path_factory.mktemp("archive") / "d", files=2, rows=200, payload=8000, group=50)


def children(pid: int) -> list[int]:
    """Processes that serve for this one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command, stat = (place / "cmdline").read_bytes(), (place / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if b"meddx.score.serve" in command and int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(place.name))
    return found


def test_the_same_rows_and_nobody_left_behind(tmp_path: Path, data: Path) -> None:
    books = run(data, tmp_path / "o")
    score(helper.BUNDLE, StoragePath.of(data), StoragePath.of(tmp_path / "here"), options=helper.options(max_rejected=0.5),
          log=lambda _: None, bundles=helper.PlainBundles())  # fmt: skip
    assert books.exit_code == 0 and not children(os.getpid())
    assert helper.rows_of(tmp_path / "o").equals(helper.rows_of(tmp_path / "here"))
    assert run(data, tmp_path / "o") == books


def test_one_row_costs_a_few_starts(tmp_path: Path) -> None:
    data = poison.archive(tmp_path / "d", {130: "segfault"}, files=1)
    starts: list[int] = []

    class Counting(Guard):
        def __exit__(self, *error: Any) -> None:
            starts.append(self.starts)
            super().__exit__(*error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meddx.score.run.Guard", Counting)
        assert run(data, tmp_path / "o", poison.PoisonBundles()).counts.quarantined == 1
    assert starts == [1 + 4]  # it dies in normal work, with six rows, with the row, with the row alone


def test_a_finished_run_starts_no_child(tmp_path: Path, data: Path) -> None:
    run(data, tmp_path / "o")
    with Guard(helper.BUNDLE, helper.PlainBundles(), StoragePath.of(tmp_path / "o")) as guard:
        assert guard.starts == 0


class Unusable(helper.PlainBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        raise BundleError("there is no finished bundle here")


class Deadly(helper.PlainBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        os._exit(6)


def test_what_keeps_it_from_starting_is_an_error_here(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BundleError, match="no finished bundle"):
        run(data, tmp_path / "o", Unusable())
    with pytest.raises(IncompleteError, match="ended 3 times while it loaded the bundle: exit code 6"):
        run(data, tmp_path / "o", Deadly())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        run(tmp_path / "empty", tmp_path / "o2")
    assert not children(os.getpid())


class EndsAtOpening(helper.PlainBundle):
    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        os._exit(4)

    @columns.setter
    def columns(self, value: tuple[str, ...]) -> None: ...


class Ends(helper.PlainBundles):
    def load(self, path: StoragePath, engine: Any = None) -> Any:
        return EndsAtOpening(digest=path.name)


def test_a_unit_whose_attempts_die_without_a_row_to_blame_stays_undone(tmp_path: Path) -> None:
    data = helper.archive(tmp_path / "d", files=1)
    with pytest.raises(IncompleteError, match="1 of 1 units are not done: .* \\(crashed\\)"):
        run(data, tmp_path / "o", Ends())
    assert not list((tmp_path / "o" / "_meddx").glob("open-*"))  # it ended in order: the next attempt is a normal one


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_job_ends_the_child(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, kill: signal.Signals) -> None:
    monkeypatch.setattr(helper, "SCRIPT", GUARDED)
    with helper.start_child(data, tmp_path / "o", sleep=0.5, given={"max_rejected": 0.5}) as job:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "o" / "_meddx").glob("open-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        (child,) = children(job.pid)
        job.send_signal(kill)
        job.communicate(timeout=30)
    assert job.returncode != 0
    while Path(f"/proc/{child}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert time.monotonic() < deadline
    assert run(data, tmp_path / "o").counts.quarantined == 0


LIGHT = """
import sys
from meddx.score.options import ScoringOptions
from meddx.score.run import score
from meddx.storage import StoragePath
bundle, data, out = map(StoragePath.of, sys.argv[1:])
score(bundle, data, out, options=ScoringOptions(), guard=True)
print([name for name in ("torch", "ray", "sklearn", "skops") if name in sys.modules])
"""


def test_who_waits_stays_light(tmp_path: Path) -> None:
    rows = 300
    ids = [f"c{row}" for row in range(rows)]
    size = [row / rows - 0.5 for row in range(rows)]
    cases = pa.table({"case_id": ids, "patient_id": ids, "size": size, "site": ["north", "south", "east"] * 100, "age": [50.0] * rows})
    bundle = helper.logistic_bundle(StoragePath.of(tmp_path / "bundle"), cases)
    (tmp_path / "d").mkdir()
    pa.parquet.write_table(cases, tmp_path / "d" / "a.parquet")
    command = [sys.executable, "-c", LIGHT, str(bundle), str(tmp_path / "d"), str(tmp_path / "o")]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert lines[0].startswith("units to do 1 of 1") and lines[-1] == "[]"


HELD = """
import ctypes, os, sys, threading
from meddx.score.limits import Watchdog
dog = Watchdog()
dog.arm(0.3) if sys.argv[1] == "dog" else threading.Timer(0.3, os._exit, [1]).start()
ctypes.PyDLL(None).sleep(int(sys.argv[2]))
"""


def seconds_until_ended_by(who: str, held: int) -> float:
    """Of a process whose GIL is held for so many seconds, and that should end after 0.3."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HELD, who, str(held)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    return time.monotonic() - start


def test_the_watchdog_ends_a_process_whose_gil_is_held() -> None:
    assert seconds_until_ended_by("dog", 30) < 30


def test_twin_a_thread_waits_for_the_gil_as_everybody_else() -> None:
    assert seconds_until_ended_by("thread", 2) > 2

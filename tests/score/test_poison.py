"""A row whose decoder raises, exits, hangs, takes all memory or crashes is quarantined, and it alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import picture_helper as pictures
import poison_helper as poison
import pyarrow as pa
import pytest
import scoring_helper as helper

from meddx.errors import BooksError
from meddx.score.audit import verify
from meddx.score.books import Books
from meddx.score.bundles import BundleFolders
from meddx.score.careful import CRASHED, Careful
from meddx.score.run import score
from meddx.score.serve import Step
from meddx.score.worker import assemble
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow
LENIENT = {"max_rejected": 0.5}
WITH_POISON = helper.SCRIPT.replace("helper.PlainBundles()", "poison_helper.PoisonBundles()").replace(
    "import json", "import poison_helper, json"
)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MEDDX_PATIENCE_S": "60", "MEDDX_ROW_PATIENCE_S": "30", "MEDDX_MEMORY_GB": "1"}.items():
        monkeypatch.setenv(name, value)


def run(data: Path, out: Path, bundles: Any = None, *, guard: bool = True, log: Callable[[str], None] = print, **options: Any) -> Books:
    place = StoragePath.of(out)
    given = helper.options(**{**LENIENT, **options})
    bundles = bundles or poison.PoisonBundles()
    return score(helper.BUNDLE, StoragePath.of(data), place, options=given, bundles=bundles, log=log, guard=guard)


def check(data: Path, out: Path, books: Books, expected: Mapping[str, str]) -> None:
    """Those rows are in quarantine, and all others are as in a run where nothing happens."""
    plain = out.with_name("undisturbed")
    run(data, plain, helper.PlainBundles(), guard=False)
    rows, undisturbed = helper.rows_of(out), helper.rows_of(plain)
    assert poison.poisoned(rows) == expected
    keep = pa.array([case not in expected for case in undisturbed["case_id"].to_pylist()])
    assert poison.healthy(rows).equals(undisturbed.filter(keep))
    assert rows.select(["case_id", "patient_id", "unit", "row"]).equals(undisturbed.select(["case_id", "patient_id", "unit", "row"]))
    assert books.counts.quarantined == len(expected) and verify(StoragePath.of(out))
    assert not list((out / "_meddx").glob("open-*"))


@pytest.mark.parametrize("act", poison.ACTS)
def test_that_row_is_quarantined_and_all_others_are_scored(tmp_path: Path, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if act == "hang":
        monkeypatch.setenv("MEDDX_PATIENCE_S", "2")
        monkeypatch.setenv("MEDDX_ROW_PATIENCE_S", "0.5")
    data = poison.archive(tmp_path / "d", {330: act})
    start = time.monotonic()
    books = run(data, tmp_path / "o")
    seconds = time.monotonic() - start
    check(data, tmp_path / "o", books, {poison.case(330): poison.REASONS[act]})
    assert seconds < 30  # four starts of a child, on a busy machine; the night's limits are 900 and 60 seconds


def test_several_in_one_unit_and_in_one_batch(tmp_path: Path) -> None:
    acts = {3: "segfault", 4: "raise", 5: "end", 150: "exit", 399: "segfault"}
    data = poison.archive(tmp_path / "d", acts, files=2)
    books = run(data, tmp_path / "o")
    check(data, tmp_path / "o", books, {poison.case(row): poison.REASONS[act] for row, act in acts.items()})


def test_in_a_unit_of_many_small_files(tmp_path: Path) -> None:
    data = poison.archive(tmp_path / "d", {3: "segfault", 30: "raise", 44: "memory"}, files=6, rows=10)
    books = run(data, tmp_path / "o")
    assert books.units == 1
    expected = {poison.case(3, 10): "decoder_crashed", poison.case(30, 10): "decoder_raised", poison.case(44, 10): "decoder_memory"}
    check(data, tmp_path / "o", books, expected)


def test_in_a_folder_of_pictures(tmp_path: Path) -> None:
    """A real bundle; a unit is many files, which normal work answers together."""
    bundle = pictures.pixel_bundle(tmp_path / "bundle")
    data = pictures.write(tmp_path / "d", {f"{number % 3}/{number:03d}.png": pictures.picture(number) for number in range(300)})
    (data / "1" / "100.png").write_bytes(b"no picture")
    place = StoragePath.of(data)
    for out, bundles in (("plain", BundleFolders()), ("o", poison.AngryBundles(("0/150.png",)))):
        given = helper.options(max_rejected=0.5)
        books = score(bundle, place, StoragePath.of(tmp_path / out), options=given, bundles=bundles, log=print, guard=out == "o")
    rows, undisturbed = helper.rows_of(tmp_path / "o"), helper.rows_of(tmp_path / "plain")
    assert poison.poisoned(rows)["0/150.png"] == "decoder_crashed" and books.counts.quarantined == 2
    healthy = poison.healthy(undisturbed)
    keep = pa.array([case != "0/150.png" for case in healthy["case_id"].to_pylist()])
    assert poison.healthy(rows).equals(healthy.filter(keep))


def test_too_many_of_them_are_exit_code_4(tmp_path: Path) -> None:
    data = poison.archive(tmp_path / "d", {7: "segfault"}, files=1)
    with pytest.raises(BooksError, match="decoder_crashed 1"):
        run(data, tmp_path / "o", max_rejected=0.001)


def test_without_a_guard_the_next_run_is_careful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook: the process dies with the row, and the marker tells the next one."""
    data = poison.archive(tmp_path / "d", {330: "segfault"})
    monkeypatch.setattr(helper, "SCRIPT", WITH_POISON)
    code, _ = helper.score_in_child(data, tmp_path / "o", given=LENIENT)
    assert code == -signal.SIGSEGV and len(list((tmp_path / "o" / "_meddx").glob("open-*"))) == 1
    books = run(data, tmp_path / "o", guard=False)
    check(data, tmp_path / "o", books, {poison.case(330): "decoder_crashed"})


NO_MARKERS = "from meddx.score import markers\nmarkers.begin = lambda *_: None\n"


def test_twin_without_the_marker_the_job_dies_at_that_unit_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = poison.archive(tmp_path / "d", {330: "segfault"})
    monkeypatch.setattr(helper, "SCRIPT", NO_MARKERS + WITH_POISON)
    for _ in range(3):
        assert helper.score_in_child(data, tmp_path / "o", given=LENIENT)[0] == -signal.SIGSEGV
    assert len(list((tmp_path / "o").glob("part-*"))) < 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The output of a job on a healthy archive that was killed twice in the middle of a unit."""
    data = helper.archive(tmp_path / "d", files=2, rows=200, payload=8000, group=50)
    for _ in range(2):
        with helper.start_child(data, tmp_path / "o", sleep=0.5, given=LENIENT) as child:
            deadline = time.monotonic() + 60
            while not list((tmp_path / "o" / "_meddx").glob("open-*")) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.3)
            os.kill(child.pid, signal.SIGKILL)
    assert list((tmp_path / "o" / "_meddx").glob("open-*"))
    return tmp_path / "o"


@pytest.mark.parametrize("guard", [True, False])
def test_healthy_rows_of_a_killed_job_are_never_called_poison(killed: Path, guard: bool) -> None:
    books = run(killed.with_name("d"), killed, helper.PlainBundles(), guard=guard)
    check(killed.with_name("d"), killed, books, {})


def test_twin_counting_attempts_calls_healthy_rows_poison(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that was begun twice and never ended is taken for poison: the kills did that."""

    def score_by_counting(self: Careful, unit: Any, died_at: object = None) -> pa.Table:
        self._unit = unit
        blind = [Step(number, piece.start, piece.stop, CRASHED, True) for number, piece in enumerate(unit.pieces)]
        return assemble(unit, [self._sentence(step).table for step in blind])

    monkeypatch.setattr(Careful, "score", score_by_counting)
    books = run(killed.with_name("d"), killed, helper.PlainBundles())
    assert books.counts.reasons == {"decoder_crashed": 100}

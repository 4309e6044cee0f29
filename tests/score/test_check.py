"""Before the night: what would be done, what is there, how long it takes, and what is left behind by asking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scoring_helper as helper

from meddx import record
from meddx.errors import BooksError, OutputError
from meddx.score import footers, measure, sources
from meddx.score.check import Wishes, check
from meddx.score.run import score
from meddx.storage import StoragePath


class Archive:
    """Two files of 200 rows, an output, and the two commands on them."""

    def __init__(self, tmp_path: Path, **archive: Any) -> None:
        self.data = helper.archive(tmp_path / "d", **{"files": 2, "rows": 200, "payload": 8000, "group": 50, **archive})
        self.out = tmp_path / "o"
        self.lines: list[str] = []

    def check(self, *wishes: Any, bundle: StoragePath = helper.BUNDLE, **more: Any) -> list[str]:
        places = bundle, StoragePath.of(self.data), StoragePath.of(self.out), helper.options()
        return check(*places, bundles=helper.PlainBundles(), wishes=Wishes(*wishes), log=self.lines.append, **more)

    def score(self, **more: Any) -> dict[str, Any]:
        places = helper.BUNDLE, StoragePath.of(self.data), StoragePath.of(self.out)
        score(*places, options=helper.options(), bundles=helper.PlainBundles(), log=self.lines.append, **more)
        return record.read(StoragePath.of(self.out) / "_meddx") or {}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Archive(tmp_path)


def test_what_would_be_done_and_nothing_is_left_behind(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meddx.score.check.SAMPLE_UNITS", 5)  # all
    helper.write_file(archive.data / "bad.parquet", np.random.default_rng(0), "bad", 100, x=[None] * 100)
    lines = archive.check()
    assert lines[:2] == ["data: files 3, rows 500", "units 5: done 0, to do 5 with 500 rows"]
    assert lines[2].startswith("asked: this process; there: ") and " CPUs, " in lines[2]
    assert lines[3].startswith("sample of 255 rows: scored ") and "quarantined 51 (number_missing 51)" in lines[3]
    assert lines[4:] == ["expected: unknown, nothing was measured yet; --probe measures it in a minute"]
    assert not archive.out.exists()
    with pytest.raises(BooksError):
        archive.score()
    after = archive.check()
    assert after[1] == "units 5: done 5, to do 0 with 0 rows" and after[-1] == "expected: nothing to do" and len(after) == 4


def test_another_owner_and_changed_files_are_told_as_the_run_would(archive: Archive) -> None:
    archive.score()
    helper.archive(archive.data, seed=3, files=1)
    assert archive.check()[1] == "units 5: done 4, to do 1 with 100 rows"
    with pytest.raises(OutputError, match="belongs to another bundle"):
        archive.check(bundle=StoragePath("/x/other"))


def test_the_hours_are_of_the_last_run_on_that_kind_of_device(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive.score()
    (rate,) = made["rates"]
    assert rate["rows"] == 400 and rate["seconds"] > 0 and rate["workers"] == 0 and rate["engine"] == "torch float32"
    helper.archive(archive.data, seed=3, files=3)
    (told,) = [line for line in archive.check() if line.startswith("expected: ")]
    assert "rows a second, as the last run on 20" in told and f"in this process ({rate['device']})" in told
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    (told,) = [line for line in archive.check() if line.startswith("expected: ")]
    assert told.startswith(f"expected: unknown, it was measured on {rate['device']}, and here is ") and "77 threads" in told


def test_the_next_output_of_a_bundle_knows_the_rate_of_the_last(archive: Archive, tmp_path: Path) -> None:
    archive.score()
    archive.out = tmp_path / "tomorrow"
    assert any(line.startswith("expected: ") and "as the last run" in line for line in archive.check())


def test_cost_where_a_price_is_given(archive: Archive) -> None:
    assert archive.check(0, 3.2)[-1] == "cost: unknown"
    made = archive.score(price=3600.0)
    assert made["predicted"] == {
        "rows": 400, "hours": None, "rows_a_second": None, "by": "nothing was measured yet; --probe measures it in a minute", "cost": None
    }  # fmt: skip
    assert made["actual"]["cost"] == pytest.approx(made["actual"]["hours"] * 3600, rel=0.01, abs=0.01)
    helper.archive(archive.data, seed=3, files=3)
    assert archive.check(0, 3.2)[-1].endswith("this machine at 3.20 an hour")
    again = archive.score(price=3600.0)
    assert again["predicted"]["rows"] == 300 and again["predicted"]["hours"] > 0 and "as the last run" in again["predicted"]["by"]
    assert any(line.startswith("expected: ") for line in archive.lines)


def test_a_probe_measures_and_publishes_nothing(archive: Archive) -> None:
    lines = archive.check(0, None, 30.0)
    (probe,) = [line for line in lines if line.startswith("probe: ")]
    assert probe.startswith("probe: 400 rows in ") and probe.endswith("by this process, nothing kept")
    assert "as a probe on 20" in lines[-1] and not archive.out.exists()
    assert archive.score()["predicted"]["hours"] > 0  # and the night knows


def test_a_probe_stops_in_the_middle_of_a_unit(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORING_HELPER_SLEEP", "0.15")
    archive.data = helper.archive(archive.data.with_name("e"), files=1, rows=140_000, group=140_000)
    (probe,) = [line for line in archive.check(0, None, 0.2) if line.startswith("probe: ")]
    rows = int(probe.split()[1].replace(",", ""))
    assert 0 < rows < 140_000


def test_a_probe_for_workers_has_one_thread_as_they_have(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meddx.score.device.cpus", lambda: 2)
    before = os.environ.get(measure.THREADS)
    lines = archive.check(3, 1.0, 30.0)
    assert lines[2].startswith("asked: 3 Ray workers of 1 CPU each; there: 2 CPUs, ")
    assert lines[3] == "3 workers would share 2 CPUs, which is no faster: ask for --workers 2"
    assert any(line.endswith("by one worker of 1 CPU, nothing kept") for line in lines)
    assert "with 1 worker" in lines[-2] and ", 1 thread)" in lines[-2] and lines[-1].endswith("3 workers at 1.00 an hour each")
    assert os.environ.get(measure.THREADS) == before


def test_a_cluster_that_is_not_there_is_said() -> None:
    """In a process of its own: one that is connected already uses that cluster."""
    ask = "from meddx.score.check import Wishes, _resources; print(_resources(Wishes(2), [])[0])"
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    asked = subprocess.run(
        [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()
    assert "there: no Ray cluster at 127.0.0.1:1" in asked and asked.endswith("the night would stop so, too")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all footers read."""
    found: list[str] = []
    real = sources._look_at_footer

    def look(path: str, info: Any) -> Any:
        found.append(path)
        return real(path, info)

    monkeypatch.setattr(sources, "_look_at_footer", look)
    return found


def test_the_listing_of_a_check_becomes_the_plan(archive: Archive, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "FROM_FILES", 2)
    assert archive.check()[-1].startswith("what 2 footers say is kept in ")
    assert len(reads) == 2 and [one.name for one in archive.out.rglob("*") if one.is_file()] == ["footers.json"]
    helper.archive(archive.data, seed=3, files=1)  # new, and one that changed
    (archive.data / "f0-0.parquet").write_bytes((archive.data / "f0-1.parquet").read_bytes())
    reads.clear()
    archive.score()
    assert sorted(reads) == ["f0-0.parquet", "f3-0.parquet"]
    assert not (archive.out / "_meddx" / "footers.json").exists()


def test_twin_without_it_all_footers_are_read_again(archive: Archive, reads: list[str]) -> None:
    archive.check()
    archive.score()
    assert sorted(reads) == sorted(["f0-0.parquet", "f0-1.parquet"] * 2)


@pytest.mark.parametrize("content", ["no", "{}", '{"format": 1, "columns": [], "files": {"f0-0.parquet": [1]}}'])
def test_kept_footers_that_make_no_sense_are_read_again(archive: Archive, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "FROM_FILES", 2)
    archive.check()
    (archive.out / "_meddx" / "footers.json").write_text(content)
    assert archive.score()["counts"]["read"] == 400


def test_what_takes_longer_than_ten_seconds_is_told(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meddx.score.progress.PATIENCE_S", 0.0)
    archive.check()
    assert archive.lines == ["reading footers, files: 1 of 2"]


def test_a_forecast_tells_nothing_from_a_page_of_another_version(archive: Archive, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "meddx" / "rates"
    place.mkdir(parents=True)
    for text in ("[", '[{"device": "x"}]', '{"a": 1}', "[1]"):
        (place / f"{helper.BUNDLE.name}.json").write_text(text)
        assert any("nothing was measured yet" in line for line in archive.check())

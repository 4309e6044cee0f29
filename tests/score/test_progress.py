"""During the night: a line a minute, whatever the units do."""

from __future__ import annotations

import time

import pytest

from meddx.score import progress
from meddx.score.progress import Progress
from meddx.score.runner import Outcome


def outcome(state: str = "published", **more: object) -> Outcome:
    page = {"unit": "u", "state": state, "rows": 100, "seconds": 2.0, "attempts": 1, "quarantined": 3, "device": "cpu", "memory_mb": 50}
    return Outcome(**{**page, **more})  # type: ignore[arg-type]


def test_a_line_says_rows_rate_left_and_quarantined() -> None:
    seen = Progress(lambda line: None, 1000, 0)
    assert "rows 0 of 1,000; no unit is done yet" in seen.line() and seen.line().endswith("quarantined 0")
    seen.see(outcome())
    seen.see(outcome("failed", kind="storage", quarantined=0))
    seen.see(outcome("lost", quarantined=0, attempts=0))
    line = seen.line()
    assert line.startswith("rows 200 of 1,000; ") and " a second; about " in line and line.endswith(" left; quarantined 3")
    assert (seen.done, seen.attempted, seen.lost, seen.quarantined) == (200, 2, 1, 3)


def test_lines_come_while_one_unit_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_A_LINE", 0.02)
    lines: list[str] = []
    with Progress(lines.append, 10, 0):
        time.sleep(0.2)
    count = len(lines)
    assert count >= 2 and all("no unit is done yet" in line for line in lines)
    time.sleep(0.1)
    assert len(lines) == count  # and none after the end


def test_rates_are_of_the_units_that_this_job_published() -> None:
    seen = Progress(lambda line: None, 1000, 2)
    for more in ({}, {"seconds": 4.0, "memory_mb": 70}, {"device": "other"}):
        seen.see(outcome(**more))
    seen.see(outcome("lost"))
    first, other = seen.rates("torch float32")
    assert (first.device, first.rows, first.seconds, first.memory_mb, first.workers) == ("cpu", 200, 6.0, 70, 2)
    assert first.a_worker == pytest.approx(200 / 6) and other.rows == 100
    assert seen.start_seconds == 0.0  # the first unit took longer than the job has lasted
    alone = Progress(lambda line: None, 1000, 0)
    for _ in range(3):
        alone.see(outcome())  # side by side: 6 s of work in less than one
    (rate,) = alone.rates("torch float32")
    assert rate.rows == 300 and rate.seconds < 1


def test_a_listing_is_told_of_once_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    quick = progress.Patience(lines.append)
    quick("reading footers, files", 500, 1000)
    assert lines == []
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    slow = progress.Patience(lines.append)
    slow("listing the data, files", 1000, 0)
    slow("listing the data, files", 2000, 0)
    assert lines == ["listing the data, files: 1,000 so far"]

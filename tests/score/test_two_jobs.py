"""Two jobs at once on one output share the work: little is done twice, and the result is that of one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nights
import pytest
from nights import Night

from meddx import record
from meddx.score.plan import Plan
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

UNITS = 32
MOST = 1.15  # times the units of one job


ONE_ORDER = """
import meddx.score.run as run
class Token:
    hex = "of both"
run.uuid4 = Token
"""


def together(night: Night, monkeypatch: pytest.MonkeyPatch) -> int:
    """Units scored by both; each waits with its plan in hand until the other has one, too."""
    night.put(*(f"{nights.LARGE}{number}" for number in range(UNITS // 2)))
    monkeypatch.setenv("SCORING_HELPER_SLEEP", "0.04")
    jobs = [night.pause("planned"), night.pause("planned")]
    for job in jobs:
        job.let_go()
    ended = [job.end() for job in jobs]
    assert [code for code, _ in ended] == [0, 0], ended
    monkeypatch.setenv("SCORING_HELPER_SLEEP", "0")
    plan, made = Plan.load(night.out), record.read(night.out / "_meddx")
    assert plan is not None and len(plan.units) == UNITS and made is not None
    found = [re.search(r"units attempted (\d+);", said) for _, said in ended]
    attempted = [int(one[1]) if one else UNITS for one in found]  # a job that lost nothing to the other does not say so
    assert made["attempted"] in attempted and min(attempted) > 0, ended
    assert ended[0][1].splitlines()[-1] == ended[1][1].splitlines()[-1]  # the balance line
    night.check()
    return sum(attempted)


def test_two_jobs_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert UNITS <= together(Night(StoragePath.of(tmp_path), tmp_path / "gates"), monkeypatch) <= MOST * UNITS


def test_two_jobs_on_s3(night_on_s3: Callable[[], Night], monkeypatch: pytest.MonkeyPatch) -> None:
    assert UNITS <= together(night_on_s3(), monkeypatch) <= MOST * UNITS


def test_twin_jobs_that_go_through_the_units_in_one_order_do_much_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "SCRIPT", nights.SCRIPT.replace("{twin}", ONE_ORDER))
    assert together(Night(StoragePath.of(tmp_path), tmp_path / "gates"), monkeypatch) > MOST * UNITS

"""Two jobs on one output, paused and released in the bad orders: no row is missing, none stands twice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import nights
import pytest
from nights import SMALL, Night

from meddx.errors import IncompleteError
from meddx.score.audit import read_predictions, status, verify
from meddx.score.ledger import part_name
from meddx.score.plan import Plan
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

PLAN = ("temp_written", "reply_lost")  # the first file that is published in one step is the plan, the second a part
PAUSES = ("planned", "built", "before_publish", "temp_written:2", "reply_lost:2", "published", "before_finish")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(StoragePath.of(tmp_path), tmp_path / "gates").put(*nights.FILES)


def plan_of(night: Night) -> Plan:
    plan = Plan.load(night.out)
    assert plan is not None
    return plan


def everything_changes(night: Night) -> None:
    """Every unit of the first plan has to go, whichever of them a paused job has in hand."""
    night.put("a", "b", "d", nights.LARGE, version=1).drop("c")


def right_after_a_last_run(night: Night) -> None:
    night.run()
    assert night.parts().keys() == {part_name(unit_id) for unit_id in plan_of(night).units}
    night.check()


@pytest.mark.parametrize("point", [*PLAN, *PAUSES])
def test_another_job_runs_to_its_end_meanwhile(night: Night, point: str) -> None:
    job = night.pause(point)
    books, _ = night.run()
    assert books.exit_code == 0 and night.ids() == night.expected()
    before = night.parts()
    code, said = job.release()
    assert code == 0 and said.endswith(f"{books.line}\n"), said
    assert night.parts() == before
    right_after_a_last_run(night)


def an_update_runs_to_its_end_meanwhile(night: Night, point: str) -> None:
    """Only right after the paused job are the books looked at: it cleans up for itself."""
    job = night.pause(point)
    first = plan_of(night)
    everything_changes(night)
    books, _ = night.run(update=True)
    assert books.exit_code == 0 and len(read_predictions(night.out)) == len(night.expected())
    assert night.ids() == night.expected()
    code, said = job.release()
    assert code == 0 and "this one goes on with them" in said and said.endswith(f"{books.line}\n"), said
    assert plan_of(night).retired == first.units.keys() and night.ids() == night.expected()
    right_after_a_last_run(night)


@pytest.mark.parametrize("point", PAUSES)
def test_an_update_runs_to_its_end_meanwhile(night: Night, point: str) -> None:
    an_update_runs_to_its_end_meanwhile(night, point)


@pytest.mark.parametrize("point", ["before_publish", "reply_lost:2", "before_finish"])
def test_an_update_runs_to_its_end_meanwhile_on_s3(night_on_s3: Callable[[], Night], point: str) -> None:
    an_update_runs_to_its_end_meanwhile(night_on_s3().put(*nights.FILES), point)


@pytest.mark.parametrize("again", [False, True])
def test_an_update_is_paused_while_it_retires(night: Night, again: bool) -> None:
    night.run()
    night.put(*SMALL, version=1)
    job = night.pause("half_retired", update=True)
    if again:
        night.put(*SMALL, version=2)
    books, _ = night.run(update=again)
    assert night.ids() == night.expected()
    code, said = job.release()
    assert code == 0 and said.endswith(f"{books.line}\n"), said
    assert night.ids() == night.expected() and len(plan_of(night).generations) == 2 + again
    right_after_a_last_run(night)


def test_an_update_that_is_overtaken_looks_again_at_the_archive(night: Night) -> None:
    """Its listing is older than the plan of the job that was first: what it shows as other versions is gone."""
    night.run()
    night.put("a", version=1)
    job = night.pause("temp_written", update=True)  # its plan is written, under another name
    night.put("a", "b", "c", version=2).drop("d")
    night.run(update=True)
    before = night.parts()
    code, said = job.release()
    assert code == 0 and "units attempted 0;" in said, said
    assert night.parts() == before and len(plan_of(night).generations) == 2
    right_after_a_last_run(night)


def test_a_slow_update_does_not_delete_what_was_put_back(night: Night) -> None:
    """Its list of retired parts is from before; the same files under the same names are in the plan again."""
    night.run()
    small = [Path((night.data / f"{name}.parquet").uri) for name in SMALL]  # two whole units: they would have their old ids
    for path in small:
        path.rename(path.with_suffix(".aside"))
    job = night.pause("half_retired", update=True)
    for path in small:
        path.with_suffix(".aside").rename(path)
    night.run(update=True)
    before = night.parts()
    assert night.ids() == night.expected()
    assert job.release()[0] == 0 and night.parts() == before
    right_after_a_last_run(night)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("points", [("built", "before_publish"), ("temp_written:2", "temp_written"), ("published", "before_finish"),
                                    ("planned", "before_finish")])  # fmt: skip
def test_two_paused_jobs_are_released_in_both_orders(night: Night, points: tuple[str, str], first: int) -> None:
    jobs = [night.pause(points[0]), night.pause(points[1])]
    ended = [jobs[first].release(), jobs[1 - first].release()]
    assert [code for code, _ in ended] == [0, 0], ended
    right_after_a_last_run(night)


@pytest.mark.parametrize("order", list(permutations((0, 1))))
@pytest.mark.parametrize("points", [("published", "half_retired"), ("before_publish", "planned"), ("before_finish", "before_finish")])
def test_a_job_and_an_update_are_released_in_both_orders(night: Night, points: tuple[str, str], order: tuple[int, int]) -> None:
    if points[1] == "half_retired":
        assert night.start("published:3").end()[0] == 70  # so that there is something to retire
    plain = night.pause(points[0])
    everything_changes(night)
    jobs = [plain, night.pause(points[1], update=True)]
    ended = [jobs[number].release() for number in order]
    assert [code for code, _ in ended] == [0, 0], ended
    right_after_a_last_run(night)


BLIND = """
from meddx.score import ledger
ledger.Watch.retired = lambda self, unit_id: False
ledger.retire = lambda out, plan, published: set(published) - plan.retired
"""


def test_twin_a_job_that_does_not_look_for_newer_plans_doubles_rows(night: Night) -> None:
    """With that look off, a part of the old version stands beside the new one; a plain run takes it away."""
    job = night.pause("before_publish", twin=BLIND)
    everything_changes(night)
    night.run(update=True)
    job.release()
    assert len(night.ids()) > len(night.expected())
    with pytest.raises(IncompleteError, match="parts of units that left the plan still stand"):
        verify(night.out)
    assert len(read_predictions(night.out)) == len(night.expected())  # our own reader goes by the plan
    right_after_a_last_run(night)


DIES_AT_THE_LOOK = """
import os
from meddx.score import ledger
def retired(self, unit_id, looks=[]):
    looks.append(unit_id)
    return len(looks) == 3 and os._exit(70)
ledger.Watch.retired = retired
"""


def test_a_job_that_dies_between_publishing_and_looking_leaves_it_to_the_next(night: Night) -> None:
    """A finished run is no no-op while a retired part stands."""
    job = night.pause("before_publish", twin=DIES_AT_THE_LOOK)
    everything_changes(night)
    night.run(update=True)
    assert job.release()[0] == 70 and len(night.ids()) > len(night.expected())
    assert "1 of their parts still stand" in "\n".join(status(night.out))
    assert night.run()[1][0].startswith("nothing to do") and night.ids() == night.expected()
    right_after_a_last_run(night)


def test_finishing_takes_away_what_a_dead_job_left_meanwhile(night: Night) -> None:
    slow = night.pause("before_publish", twin=DIES_AT_THE_LOOK)
    everything_changes(night)
    update = night.pause("published", update=True)  # it has looked at the parts once, at its start
    assert slow.release()[0] == 70
    assert update.release()[0] == 0 and night.ids() == night.expected()
    verify(night.out)

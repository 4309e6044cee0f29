"""Two jobs with Ray workers on one output, one paused in the middle of a step while the other runs to its end."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import rayhost

sys.path.insert(0, str(rayhost.SCORE))
import nights
from nights import Night

pytestmark = pytest.mark.timeout(300)
PAUSES = ("planned", "built", "before_publish", "temp_written:2", "reply_lost:2", "published", "before_finish")
UNITS = 4


@pytest.fixture
def night(make_night: Callable[..., Night]) -> Night:
    return make_night(0).put(*nights.FILES)


@pytest.mark.parametrize("point", PAUSES)
def test_another_job_runs_to_its_end_meanwhile(night: Night, tell: Callable[..., None], point: str) -> None:
    """Each has a cluster of its own, as jobs from two machines."""
    job = night.pause(point, workers=1)
    stood = [len(night.parts())]
    code, said = night.start(workers=1).end()
    assert code == 0, said
    before = night.parts()
    job.let_go()
    code, said = job.end()
    assert code == 0 and night.parts() == before, said
    tell(f"pair on ray, one paused at {point}", night, UNITS, stood, 0)


@pytest.mark.parametrize("point", ["built", "before_publish", "published"])
def test_an_update_runs_to_its_end_meanwhile(night: Night, tell: Callable[..., None], point: str) -> None:
    job = night.pause(point, workers=1)
    stood = [len(night.parts())]
    night.put("a", "b", "d", nights.LARGE, version=1).drop("c")
    code, said = night.start(workers=1, update=True).end()
    assert code == 0, said
    job.let_go()
    code, said = job.end()
    assert code == 0 and "this one goes on with them" in said, said
    tell(f"pair on ray, an update while one is paused at {point}", night, UNITS, stood, 0)

"""Jobs that score with Ray workers die at random moments, and two share one cluster: the result is that of one undisturbed job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rayhost

sys.path.insert(0, str(rayhost.SCORE))
import nights
from nights import Night

from meddx.storage import StoragePath

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
UNITS = 32
MOST = 1.15  # times the units of one job


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[Night, str]]]:
    """Makes an archive whose jobs use one cluster of 2 CPUs; with the address of that."""
    variables = rayhost.environment(tmp_path_factory.mktemp("home"), SCORING_HELPER_SLEEP="0.1")
    with rayhost.node(rayhost.short_folder("kills"), 2, variables) as head:

        def make(units: int = UNITS) -> tuple[Night, str]:
            place = tmp_path_factory.mktemp("night")
            made = Night(StoragePath.of(place), place / "gates", variables=variables)
            return made.put(*(f"{nights.LARGE}{number}" for number in range(units // 2))), head.address

        yield make


def test_three_drivers_are_killed_at_random_moments(night: Callable[..., tuple[Night, str]]) -> None:
    archive, address = night()
    stood = rayhost.kill_again_and_again(archive, 3, UNITS, np.random.default_rng(20261121), workers=2, address=address)
    assert len(stood) == 3
    code, said = archive.start(workers=2, address=address).end(rayhost.SECONDS)
    assert code == 0, said
    archive.check()


HALF_ON_THE_FINAL_NAME = """
import time
class Careless(helper.PlainBundles):
    def load(self, path, engine=None):
        from meddx.score import ledger
        def publish(out, unit_id, data, watch, alone):
            with open(ledger.part_path(out, unit_id).uri, "wb") as stream:
                stream.write(data[: len(data) // 2])
                stream.flush()
                time.sleep(3)
                stream.write(data[len(data) // 2 :])
            return True
        ledger.publish = publish
        return super().load(path, engine)
helper.PlainBundles = Careless
"""


def test_twin_workers_that_write_on_the_final_name_leave_a_damaged_part(night: Callable[..., tuple[Night, str]]) -> None:
    """With create-once off, the workers of a killed driver are ended in the middle of a part, and no later run can use it."""
    archive, address = night(4)
    rayhost.kill_at(archive, archive.start(twin=HALF_ON_THE_FINAL_NAME, workers=2, address=address), 1, 0.2)
    code, said = archive.start().end()
    assert code == 1 and "a published part is damaged" in said


def test_two_jobs_at_once_share_the_work(night: Callable[..., tuple[Night, str]]) -> None:
    archive, address = night()
    jobs = [archive.pause("planned", workers=1, address=address) for _ in range(2)]
    for job in jobs:
        job.let_go()
    ended = [job.end(rayhost.SECONDS) for job in jobs]
    assert [code for code, _ in ended] == [0, 0], ended
    assert UNITS <= sum(rayhost.attempted(said, UNITS) for _, said in ended) <= MOST * UNITS, ended
    archive.check()

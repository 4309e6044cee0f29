"""Drivers and workers that are killed at random moments, in this process and on Ray, with folders and S3."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rayhost

sys.path.insert(0, str(rayhost.SCORE))
from nights import Night

pytestmark = pytest.mark.timeout(600)
KILLS, UNITS = 6, 64
GUARD = {"guard": True}


@pytest.fixture(scope="module")
def head(slow_environment: dict[str, str]) -> Iterator[rayhost.Node]:
    with rayhost.node(rayhost.short_folder("soak"), 2, slow_environment) as node:
        yield node


def means(executor: str, head: rayhost.Node) -> dict[str, Any]:
    return GUARD if executor == "guard" else {"workers": 2, "address": head.address}


@pytest.mark.parametrize("executor", ["guard", "ray"])
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_drivers(
    make_night: Callable[..., Night], head: rayhost.Node, rng: np.random.Generator, tell: Callable[..., None], place: str, executor: str
) -> None:
    night, how = make_night(UNITS, place), means(executor, head)
    stood = rayhost.kill_again_and_again(night, KILLS, UNITS, rng, **how)
    code, said = night.start(**how).end(rayhost.SECONDS)
    assert code == 0, said
    tell(f"driver, {executor}, {place}", night, UNITS, stood, KILLS)


@pytest.mark.parametrize("executor", ["guard", "ray"])
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_workers(
    make_night: Callable[..., Night], head: rayhost.Node, rng: np.random.Generator, tell: Callable[..., None], place: str, executor: str
) -> None:
    """The driver lives, so one run is enough; and no row of a worker that was killed is called poison."""
    night = make_night(UNITS, place)
    job = night.start(**means(executor, head))
    owner = head if executor == "ray" else rayhost.Node("", job.process)  # type: ignore[arg-type]
    stood = rayhost.kill_workers(night, job, KILLS, UNITS, rng, owner.owns)
    code, said = job.end(rayhost.SECONDS)
    assert code == 0, said
    tell(f"worker, {executor}, {place}", night, UNITS, stood, 0)


def test_drivers_and_workers_together(
    make_night: Callable[..., Night], head: rayhost.Node, rng: np.random.Generator, tell: Callable[..., None]
) -> None:
    """Two workers of each driver die before it does."""
    night, how, stood = make_night(UNITS), means("ray", head), []
    for number in range(3):
        job = night.start(**how)
        stood += rayhost.kill_workers(night, job, 2, UNITS * (number + 1) // 4, rng, head.owns)
        job.process.kill()
        job.end()
    code, said = night.start(**how).end(rayhost.SECONDS)
    assert code == 0, said
    tell("2 workers, then the driver, ray, folder", night, UNITS, stood, 3)

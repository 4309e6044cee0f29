"""`make soak`: archives in a folder and on S3, jobs that anything may kill, and a table of what became of their rows."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rayhost
import seaweed
from soak_table import line

sys.path.insert(0, str(rayhost.SCORE))
import nights
from nights import Night

from meddx.score.audit import read_predictions
from meddx.storage import StoragePath

collect_ignore_glob = [] if os.environ.get("MEDDX_SOAK") else ["test_*.py"]
SEED = int(os.environ.get("MEDDX_SOAK_SEED") or time.time())


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server, and an environment for it, for Ray and for the helpers that all processes share; the bucket's address."""
    with seaweed.serve(tmp_path_factory.mktemp("s3")) as endpoint, pytest.MonkeyPatch.context() as patch:
        seaweed.use(patch, endpoint)
        seaweed.make_bucket(endpoint, "nights")
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in rayhost.environment(tmp_path_factory.mktemp("home"), SCORING_HELPER_SLEEP="0.1").items():
            patch.setenv(name, value)
        patch.setenv("SCORING_HELPER_SLEEP", "0")  # of this process
        yield "s3://nights"


@pytest.fixture
def make_night(surroundings: str, tmp_path: Path) -> Callable[..., Night]:
    """Makes archives of so many units, whose jobs take a while over each."""

    def make(units: int, place: str = "folder") -> Night:
        name = uuid.uuid4().hex
        where = StoragePath.of(f"{surroundings}/{name}" if place == "s3" else tmp_path / name)
        made = Night(where, tmp_path / f"{name}-gates", variables={"SCORING_HELPER_SLEEP": "0.1"})
        return made.put(*(f"{nights.LARGE}{number}" for number in range(units // 2)))

    return make


@pytest.fixture(scope="session")
def slow_environment(surroundings: str) -> dict[str, str]:
    """Of nodes, whose workers take a while over each unit."""
    return {**os.environ, "SCORING_HELPER_SLEEP": "0.1"}


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng([SEED, *request.node.name.encode()])


@pytest.fixture
def tell() -> Callable[..., None]:
    """Writes a line of the table about an output, then judges it."""
    start = time.monotonic()

    def write(scenario: str, night: Night, units: int, stood: list[int], resumes: int) -> None:
        found, expected = night.ids(), night.expected()
        missing, twice = len(set(expected) - set(found)), len(found) - len(set(found))
        faults = f"{len(stood)} | {', '.join(map(str, stood))} of {units}"
        line(f"{scenario} | {faults} | {resumes} | {len(found):,} | {missing} | {twice} | {differing(night)}", start)
        assert missing == twice == 0
        night.check()

    return write


def differing(night: Night) -> int:
    """Rows whose values are not those of an undisturbed run."""
    import pyarrow as pa

    def rows(table: pa.Table) -> dict[str, str]:
        return {row["case_id"]: repr(row) for row in table.drop_columns(["unit"]).to_pylist()}

    undisturbed = pa.ipc.open_stream(nights.undisturbed(tuple(sorted(night.versions.items())))).read_all()
    there = rows(read_predictions(night.out))
    return sum(there.get(row["case_id"]) != repr(row) for row in undisturbed.to_pylist())

"""Tasks in, outcomes out, one after another in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meddx.score.runner import Job, Outcome, Runner
from meddx.score.units import Task


def run_here(job: Job, tasks: Iterable[Task]) -> Iterator[Outcome]:
    """The executor of laptops, tests and small nights: no Ray."""
    runner = Runner(job)
    try:
        for task in tasks:
            yield from runner.run(task)
    finally:
        runner.close()

"""Tasks in, outcomes out, one after another in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meddx.score.careful import Careful
from meddx.score.child import Nursery
from meddx.score.runner import Job, Outcome, Runner
from meddx.score.units import Task


def run_here(job: Job, tasks: Iterable[Task]) -> Iterator[Outcome]:
    """The executor of notebooks and tests.  A row that kills takes this process along; the next run decodes its unit in a child."""
    nursery = Nursery(job.bundle, job.bundles)
    nursery.job = job
    runner = Runner(job, careful=Careful(nursery))
    try:
        for task in tasks:
            yield from runner.run(task)
    finally:
        runner.close()
        nursery.end()

"""Tasks in, outcomes out, through a pool of Ray Data actors.

One row is one task, of a few hundred bytes: the actor reads, predicts and publishes itself, so pixels never enter the
object store, there are no read tasks to wait for a CPU, and the pool may take every CPU there is (docs/design.md, 1).
Ray Data schedules, scales and restarts; the books are kept elsewhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from meddx.cluster import cpus_per_worker, resources
from meddx.errors import ClusterError
from meddx.score.bundles import Bundles
from meddx.score.careful import Careful
from meddx.score.child import Nursery
from meddx.score.limits import Watchdog
from meddx.score.runner import Job, Outcome, Runner, decode_task, encode_task
from meddx.score.units import Task
from meddx.score.worker import Place
from meddx.storage import StoragePath

TASKS_A_WAVE = 20_000  # Ray Data spends about a millisecond and some memory on each block it is given
CHOICE_S = 1800  # a node with a GPU may have to be started first
TASKS_IN_FLIGHT = 2  # with 1 an autoscaling pool stays at its smallest size


class ScoreUnit:
    """The actor: loads the bundle once, then turns a batch of one task into its outcomes.

    A row that kills it, or that holds it up until the watchdog ends it, makes Ray start it again and try its task again; then
    the unit's marker leads the careful way, in a child.
    """

    def __init__(self, job: Job) -> None:
        nursery = Nursery(job.bundle, job.bundles, dumps=ray.cloudpickle.dumps)  # what could travel here can travel on
        nursery.job = job
        self._patience, self._dog = job.limits.patience_s, Watchdog()
        self._runner = Runner(job, careful=Careful(nursery, self._dog.rest), watch=self._see)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        try:
            outcomes = [outcome for text in batch["task"] for outcome in self._runner.run(decode_task(str(text)))]
        finally:
            self._dog.rest()
        names = asdict(outcomes[0])
        return {name: np.array([asdict(outcome)[name] for outcome in outcomes]) for name in names}

    def _see(self, place: Place | None) -> None:
        """Each batch has its time."""
        self._dog.arm(self._patience)


def run_on_ray(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """Outcomes in the order in which units are done.  Ray must be connected; `workers` actors at most, of one CPU each, or of one GPU."""
    left = iter(tasks)
    while wave := list(islice(left, TASKS_A_WAVE)):
        with _quiet(), DataContext.current(_context()):
            yield from _run_wave(job, wave, workers)


def choose_on_ray(bundles: Bundles, path: StoragePath, rows: int, some: Callable[[], Iterable[Any]]) -> dict[str, Any] | None:
    """`bundles.choose` on a GPU of the cluster, for the driver may have none."""

    def choose() -> dict[str, Any] | None:
        return bundles.choose(path, rows, some, "cuda")

    task = ray.remote(choose).options(num_cpus=1, num_gpus=1, max_retries=1)
    try:
        found: dict[str, Any] | None = ray.get(task.remote(), timeout=CHOICE_S)
        return found
    except RayError as error:
        next_step = (
            "the cluster must have a GPU that is free, and the bundle and the data must be reachable from its node; or: --device cpu"
        )
        raise ClusterError(f"Ray could not try the network on a GPU: {_cause(error)}", "", next_step) from error


def _shares(job: Job, workers: int) -> dict[str, int]:
    """What each actor is given: a CPU, or a GPU with its share of the CPUs.  ClusterError where not one fits."""
    if (job.stamp.engine or {}).get("device") != "cuda":
        return {"num_cpus": 1}
    there = int(resources()["gpus"])
    return {"num_cpus": cpus_per_worker(max(1, min(workers, there)), gpu=True), "num_gpus": 1}


def _run_wave(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    shares, free = _shares(job, workers), ray.available_resources()
    now = max(1, int(min(free.get("CPU", 0) // shares["num_cpus"], free.get("GPU", 0) if "num_gpus" in shares else workers)))
    most = max(1, min(workers, len(tasks)))
    pool = ActorPoolStrategy(min_size=min(now, most), max_size=most, max_tasks_in_flight_per_actor=TASKS_IN_FLIGHT)
    rows = [{"task": encode_task(task)} for task in tasks]
    units = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = units.map_batches(ScoreUnit, fn_constructor_args=(job,), batch_size=1, compute=pool, **shares)
    try:
        for row in done.iter_rows():
            yield Outcome(**row)
    except RayError as error:  # a unit never raises, so this is the pool itself: the bundle's folder is not there, no memory
        raise ClusterError(
            f"Ray stopped the scoring: {_cause(error)}",
            "",
            "bundle, data and output must be reachable from every node; then run the same command again: published units are kept",
        ) from error


def _cause(error: BaseException) -> str:
    """The last line of Ray's long text that names an error: what went wrong in the worker."""
    named = re.findall(r"^\s*([\w.]*(?:Error|Exception): .+)$", str(error), re.MULTILINE)
    return named[-1][:300] if named else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data says on the terminal what our own lines say better; its log files keep everything."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # errors are raised as well, in words
    try:
        yield
    finally:
        logger.setLevel(level)


def _context() -> DataContext:
    """A unit may take longer than Ray's half hour without progress; and a log is no place for progress bars."""
    context = DataContext.get_current().copy()
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context

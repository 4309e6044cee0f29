"""Tasks in, outcomes out, through several guards side by side: for a bundle of which one answer keeps one core busy.

A baseline answers in one thread (docs/design.md), so one child would leave the other cores idle.  Each lane is a guard with a child of
its own, and they take the tasks from one line: what kills a child is still known by its place, for no child does two things at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from meddx.score import device
from meddx.score.guard import Guard
from meddx.score.runner import Job, Outcome
from meddx.score.units import Task

LANE_BYTES = 256 << 20  # before compression; less work than this is done before another process is up
MOST = 16  # each holds a bundle and some batches; who has more cores has `--workers`
END = None


def count(kind: str, tasks: Sequence[Task]) -> int:
    """How many lanes for a bundle of this kind: a network's forward uses all cores by itself."""
    weight = sum(unit.weight for task in tasks for unit in task)
    return max(1, min(cores(), MOST, len(tasks), 1 + weight // LANE_BYTES)) if kind == "estimator" else 1


def cores() -> int:
    """Those that this process may keep busy: fewer than it sees where OMP_NUM_THREADS or the container's quota says so."""
    asked, quota = os.environ.get("OMP_NUM_THREADS", ""), Path("/sys/fs/cgroup/cpu.max")
    words = quota.read_text().split() if quota.exists() else []
    bounds = [int(words[0]) // int(words[1])] if len(words) == 2 and words[0].isdigit() else []
    return max(1, min([device.cpus(), *bounds, *([int(asked)] if asked.isdigit() and int(asked) else [])]))


class Lanes:
    """The executor.  As a context it leaves no child of its own behind; the first guard belongs to whoever gave it."""

    def __init__(self, first: Guard, another: Callable[[], Guard], lanes: int) -> None:
        self._guards = [first, *(another() for _ in range(lanes - 1))]

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *error: object) -> None:
        for guard in self._guards[1:]:
            guard.end()

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes as they are done.  A lane that is lost loses its task; its error is raised when the others are done with the rest."""
        line, inbox, heard = _Line(tasks), SimpleQueue[Outcome | None](), False
        with ThreadPoolExecutor(len(self._guards), thread_name_prefix="lane") as pool:
            lanes = [pool.submit(_work, guard, job, line, inbox) for guard in self._guards]
            try:
                for _ in lanes:
                    yield from iter(inbox.get, END)
                heard = True
            finally:
                line.close()
                if not heard:  # whoever listened has gone
                    for guard in self._guards:
                        guard.end()
        for lane in lanes:
            lane.result()


class _Line:
    """Tasks for several threads, each once; none any more once it is closed."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks, self._lock, self._closed = iter(tasks), Lock(), False

    def __iter__(self) -> _Line:
        return self

    def __next__(self) -> Task:
        with self._lock:
            if self._closed:
                raise StopIteration
            return next(self._tasks)

    def close(self) -> None:
        with self._lock:
            self._closed = True


def _work(guard: Guard, job: Job, line: _Line, inbox: SimpleQueue[Outcome | None]) -> None:
    try:
        for outcome in guard.run(job, line):
            inbox.put(outcome)
    finally:
        inbox.put(END)

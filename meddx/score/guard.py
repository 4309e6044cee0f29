"""Tasks in, outcomes out, one after another in a child: what kills the child does not kill the job.

This process stays light (no torch): it waits, decodes nothing, and starts another child when one has died.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType

import pyarrow as pa

from meddx import record
from meddx.score.bundles import Bundles
from meddx.score.careful import Careful
from meddx.score.child import ChildDied, Nursery
from meddx.score.plan import FOLDER
from meddx.score.runner import Attempts, Job, Outcome
from meddx.score.spawn import ForkServer
from meddx.score.units import Task, Unit
from meddx.score.worker import Place
from meddx.storage import StoragePath


class Guard:
    """The executor of the command line.  As a context it leaves no child behind, whatever happens here."""

    def __init__(
        self,
        bundle: StoragePath,
        bundles: Bundles,
        out: StoragePath,
        *,
        failpoint: bool = True,
        server: ForkServer | None = None,
        kind: str = "",
    ) -> None:
        """`failpoint`: its first child may reach the one that is set; of several guards one may.  `server`: begun already, and whoever
        began it ends it; `kind`: of the bundle."""
        self._nursery = Nursery(bundle, bundles, server=server, kind=kind)
        self._careful = Careful(self._nursery)
        self._place: Place | None = None
        if record.read(out / FOLDER) is None:  # else there is probably nothing to do
            self._nursery.start(failpoint)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._nursery.end()

    def end(self) -> None:
        """From any thread: the child is killed, and no other is started."""
        self._nursery.end()

    @property
    def server(self) -> ForkServer:
        """Where its children come from; others may have theirs there as long as this guard stands."""
        return self._nursery.server

    @property
    def starts(self) -> int:
        """How many children there were."""
        return self._nursery.starts

    def run(self, job: Job, tasks: Iterable[Task]) -> Iterator[Outcome]:
        self._nursery.job = job
        attempts = Attempts(job)
        for task in tasks:
            left = list(task)
            while left:
                for outcome in self._plainly(left):
                    left.pop(0)
                    yield outcome
                if left:  # the child died in the first of these, or leaves it to us
                    unit = left.pop(0)
                    yield attempts.make(unit, self._carefully)

    def _plainly(self, units: list[Unit]) -> Iterator[Outcome]:
        """What the child makes of the units, until all are done, it dies, or it leaves one to us."""
        child = self._nursery.get()
        self._place = None
        try:
            child.send("task", list(units))
            while True:
                kind, *more = child.receive()
                if kind == "at":
                    self._place = more[0]
                elif kind == "idle" or more[0].state == "careful":
                    return
                else:
                    yield more[0]
        except ChildDied:
            self._nursery.close()

    def _carefully(self, unit: Unit) -> pa.Table:
        return self._careful.score(unit, self._place)

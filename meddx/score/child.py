"""A bundle's path in, a process that holds the loaded bundle out: what dies in there is seen here, and another is started."""

from __future__ import annotations

import pickle
import signal
import time
from collections.abc import Callable
from typing import Any

from meddx.errors import IncompleteError
from meddx.score.bundles import Bundles
from meddx.score.limits import Limits
from meddx.score.runner import CannotTravel, Job
from meddx.score.spawn import ForkServer, Spawned
from meddx.score.units import Unit
from meddx.storage import StoragePath

STARTS = 3  # a process that dies so often while it loads will die again
LOADING_S = 900


class ChildDied(Exception):
    """The process is gone; `args[0]` says how."""


class ChildOverran(Exception):
    """The process did not answer in time, and was killed."""


class Child:
    """What is said to one process, and what it answers."""

    def __init__(self, first: bytes, process: Spawned) -> None:
        self._process, self._pipe = process, process.pipe
        self.told: Job | None = None
        self.unit: Unit | None = None
        self.warm = False  # it has predicted: what is loaded, compiled or filled at the first time is there
        self.send_bytes(first)

    def send(self, *message: Any) -> None:
        self.send_bytes(pickle.dumps(message))

    def show(self, unit: Unit) -> None:
        """The unit that the next steps are about; sent once, for it may have thousands of pieces."""
        if self.unit is not unit:
            self.send("unit", unit)
            self.unit = unit

    def send_bytes(self, message: bytes) -> None:
        try:
            self._pipe.send_bytes(message)
        except OSError as error:
            raise ChildDied(self.bury()) from error

    def receive(self, deadline: float | None = None) -> tuple[Any, ...]:
        """The next message.  `deadline`: of time.monotonic(); past it the child is killed."""
        try:
            if deadline is not None and not self._pipe.poll(max(0.0, deadline - time.monotonic())):
                self.bury()
                raise ChildOverran
            message: tuple[Any, ...] = self._pipe.recv()
            return message
        except (EOFError, OSError) as error:
            raise ChildDied(self.bury()) from error

    def bury(self) -> str:
        """End it, if it lives, and say how it ended."""
        code = self._process.end()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class Nursery:
    """At most one child at a time, started when it is wanted (or before, by `start`)."""

    def __init__(
        self,
        bundle: StoragePath,
        bundles: Bundles,
        dumps: Callable[[Any], bytes] = pickle.dumps,
        *,
        server: ForkServer | None = None,
        kind: str = "",
    ) -> None:
        """`server`: somebody else's (None: one of its own, when it is wanted); `kind`: of the bundle, where that is known."""
        self._bundle, self._bundles, self._dumps = bundle, bundles, dumps
        self._server, self._own, self._kind = server, server is None, kind
        self._child: Child | None = None
        self.job: Job | None = None
        self.starts, self._ended = 0, False

    @property
    def server(self) -> ForkServer:
        self._server = self._server or ForkServer()
        return self._server

    def start(self, failpoint: bool = False) -> None:
        """Let one begin while this process does something else.  CannotTravel."""
        if self._ended:
            raise IncompleteError("the job was stopped", "", "run the same command again; everything published is kept")
        try:
            first = self._dumps((self._bundle, self._bundles, self.job.limits if self.job else Limits()))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise CannotTravel(type(error).__name__) from error
        self.starts += 1
        self._child = Child(first, self.server.fork(failpoint=failpoint, kind=self._kind))

    def get(self) -> Child:
        """A living child that knows the job.  What kept it from loading the bundle is raised here as it would be there."""
        how = ""
        for _ in range(STARTS):
            try:
                return self._ready()
            except ChildDied as death:
                how = str(death)
            except ChildOverran:
                how = "it did not answer"
            self._child = None
        raise IncompleteError(
            f"the process that scores ended {STARTS} times while it loaded the bundle: {how}",
            str(self._bundle),
            "check that the bundle can be used on this machine (`meddx score --check`), and its memory",
        )

    def close(self) -> None:
        """No child from now on, until the next is asked for."""
        if self._child is not None:
            self._child.bury()
        self._child = None

    def end(self) -> None:
        """No child ever again; another thread that waits for one is told so."""
        self._ended = True
        self.close()
        if self._own and self._server is not None:
            self._server.close()
            self._server = None

    def _ready(self) -> Child:
        if self._child is None:
            self.start()
        child = self._child
        assert child is not None and self.job is not None
        if child.told is not self.job:
            child.send_bytes(self._dumps(("job", self.job)))
            kind, *more = child.receive(time.monotonic() + LOADING_S)
            if kind == "ready":
                child.told = self.job
            elif kind == "foreign":
                self.close()
                raise CannotTravel(*more)
            else:
                self.close()
                raise more[0]
        return child

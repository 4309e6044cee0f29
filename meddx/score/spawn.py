"""A process without threads that has imported what scoring takes, in; those that hold a bundle, as many and as often as wanted, out.

Each of them is a fork of that one, so it is there at once and shares its memory.  Not a fork of this process: torch and Arrow have threads
here.  Nor multiprocessing's fork server: there is one of it for a whole program, with the environment of its first day, and it runs the
caller's main module again, which under Ray is Ray's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from threading import Lock

ENDING_S = 10.0


@dataclass(frozen=True)
class Spawned:
    """One such process, and the pipe to it; it ends when the pipe is closed, also because this process died."""

    server: ForkServer
    number: int
    pipe: Connection

    def end(self) -> int:
        """Its exit code, negative for a signal.  A living one sees that the pipe is closed and ends; one whose GIL is held is killed."""
        self.pipe.close()
        return self.server.end(self.number)


class ForkServer:
    """The process that becomes the others.  It begins at once, and imports while this one goes on; any thread may ask."""

    def __init__(self) -> None:
        self._lock, self._number = Lock(), 0
        self._begin()

    def _begin(self) -> None:
        self._control, end = Pipe()
        command = [sys.executable, "-P", "-m", "meddx.score.serve", str(end.fileno())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[end.fileno()], env=_environment())
        end.close()

    def fork(self, *, failpoint: bool, kind: str = "") -> Spawned:
        """`failpoint`: it may reach the one that is set; `kind`: of the bundle, what that takes is imported before."""
        pipe, end = Pipe()
        with self._lock:
            if self._process.poll() is not None:  # somebody killed it: its forks are none of ours any more
                self._begin()
            self._number += 1
            self._control.send(("fork", self._number, failpoint, kind))
            send_handle(self._control, end.fileno(), self._process.pid)
            end.close()
            return Spawned(self, self._number, pipe)

    def end(self, number: int) -> int:
        """The exit code of that fork, which is ended if it lives; SIGKILL where the server is gone, and its forks with it."""
        with self._lock:
            try:
                self._control.send(("end", number))
                code: int = self._control.recv()
                return code
            except (EOFError, OSError):
                return -signal.SIGKILL

    def close(self) -> None:
        """It ends, and whatever it forked that lives still."""
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        self._process.kill()
        self._process.wait()


def _environment() -> dict[str, str]:
    """Modules are found as here; threads are as here, for they can change a last bit."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    torch = sys.modules.get("torch")
    if torch is not None:
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    environment.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the usual one gives pages back at once: a tenth of a table's time
    return environment

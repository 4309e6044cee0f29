"""A process that will hold a bundle out, at once: it imports what that takes while whoever asked for it does the same.

A plain `python -m meddx.score.serve`, not a fork (torch and Arrow have threads) and not multiprocessing's spawn, which would run the
caller's main module again, and under Ray that is Ray's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from meddx.failpoints import VARIABLE


@dataclass(frozen=True)
class Spawned:
    """The process, and the pipe to it; it ends when the pipe is closed, also because this process died."""

    process: subprocess.Popen[bytes]
    pipe: Connection

    def end(self) -> int:
        """Its exit code, negative for a signal.  A living one sees that the pipe is closed and ends; one whose GIL is held is killed."""
        self.pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
        self.process.kill()
        return self.process.wait()


def spawn(*, failpoint: bool) -> Spawned:
    """`failpoint`: it may reach the one that is set."""
    pipe, end = Pipe()
    command = [sys.executable, "-P", "-m", "meddx.score.serve", str(end.fileno())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[end.fileno()], env=_environment(failpoint))
    end.close()
    return Spawned(process, pipe)


def _environment(failpoint: bool) -> dict[str, str]:
    """Modules are found as here; threads are as here, for they can change a last bit; a failpoint is meant for one process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    torch = sys.modules.get("torch")
    if torch is not None:
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    environment.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the usual one gives pages back at once: a tenth of a table's time
    if not failpoint:
        environment.pop(VARIABLE, None)
    return environment

"""A command in; its seconds, the CPU seconds of all its processes, its peak memory and the rows that it wrote, out."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SAMPLE_S, AFTER_S = 0.5, 30.0
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h


@dataclass(frozen=True)
class Taken:
    """`cpu`: of the whole tree, daemons that outlived the command too; `pss_mb`: the largest sum of it, None where nobody looked."""

    wall: float
    cpu: float
    rows: int
    load: float
    pss_mb: float | None = None

    def page(self) -> dict[str, Any]:
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items() if value is not None}


class Bench:
    """Runs commands one after another in a scratch folder, each from the same empty state."""

    def __init__(self, scratch: Path, log: Path) -> None:
        self._scratch, self._log = scratch, log
        scratch.mkdir(parents=True, exist_ok=True)
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # orphans become our children, and what they took is counted
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else a command outlives us, and writes into the next one's folder

    def run(self, command: str, data: str = "", *, memory: bool = False, keep: bool = False) -> Taken:
        """`{out}` becomes an empty folder (`keep`: the one of the run before), `{fresh}` an empty one of its own, `{data}` and
        `{python}` what they say.  A command that fails ends all: there is nothing to compare."""
        out = self._scratch / "out"
        if not keep:
            shutil.rmtree(out, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(dir=self._scratch, prefix="fresh-"))
        filled = command
        for name, value in {"out": out, "fresh": fresh, "data": data, "python": sys.executable}.items():
            filled = filled.replace(f"{{{name}}}", str(value))
        try:
            return self._timed(filled, out, memory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _timed(self, command: str, out: Path, memory: bool) -> Taken:
        load, before, start = os.getloadavg()[0], _cpu(), time.perf_counter()
        with self._log.open("ab") as log:
            log.write(f"\n$ {command}\n".encode())
            log.flush()
            child = subprocess.Popen(command, shell=True, stdout=log, stderr=log, start_new_session=True)
        watch = _Memory(child.pid) if memory else None
        try:
            code = child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        wall = time.perf_counter() - start
        peak = watch.stop() if watch else None
        _reap()
        if code:
            raise SystemExit(f"exit code {code}: {command}\n  what it said: {self._log}")
        return Taken(wall, _cpu() - before, rows_of(out), load, peak)


def rows_of(out: Path) -> int:
    """Rows of all Parquet below, by the footers; folders and files that begin with _ or . are books."""
    files = [one for one in out.rglob("*.parquet") if not any(part[0] in "._" for part in one.relative_to(out).parts)]
    return sum(pq.read_metadata(one).num_rows for one in files)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for daemons that the command left (a few seconds after it they end by themselves), then end those that stay."""
    until = time.monotonic() + AFTER_S
    while True:
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if found:
            continue
        if time.monotonic() > until:
            for pid in _tree(os.getpid()) - {os.getpid()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _tree(root: int) -> set[int]:
    """A process and all below it, now."""
    below: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                below[int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1])].append(int(entry.name))
    found, left = set(), [root]
    while left:
        one = left.pop()
        found.add(one)
        left += below[one]
    return found


def _pss_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


class _Memory(threading.Thread):
    """The peak of the summed proportional set sizes of this process's descendants, sampled twice a second."""

    def __init__(self, command: int) -> None:
        super().__init__(daemon=True)
        self._end, self._peak, self._command = threading.Event(), 0, command
        self.start()

    def run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            below = _tree(os.getpid()) - {os.getpid()}
            self._peak = max(self._peak, sum(map(_pss_kb, below)))

    def stop(self) -> float:
        self._end.set()
        self.join()
        return self._peak / 1024

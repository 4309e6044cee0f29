"""A Ray head that the tests own, and jobs on it that die at random moments."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meddx.cluster import ENVIRONMENT
from meddx.errors import StorageError
from meddx.score import markers
from meddx.score.ledger import list_parts

SCORE = Path(__file__).parent / "score"
sys.path.insert(0, str(SCORE))

if TYPE_CHECKING:
    from nights import Job, Night

TOKEN = "0123456789abcdef" * 4
RAY = [sys.executable, "-m", "ray.scripts.scripts"]  # the `ray` of this Python, wherever it is installed
SECONDS = 120  # a job that takes longer hangs


def free_ports(number: int) -> list[int]:
    """Ports below 10002 or above 19999 (Ray's workers use those between), all open at once, so that they differ."""
    held: list[socket.socket] = []
    while len(held) < number:
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        held.append(one)
    ports = [one.getsockname()[1] for one in held if not 10002 <= one.getsockname()[1] <= 19999]
    for one in held:
        one.close()
    return ports if len(ports) == number else free_ports(number)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a node and of its drivers: the tests' modules, a token, the settings that every process of a cluster must share."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "COV_", "COVERAGE_"))}
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "HOME": str(home), "PYTHONPATH": os.pathsep.join([str(SCORE), *sys.path])}
    return {**keep, **ENVIRONMENT, **own, **more}


def short_folder(name: str) -> Path:
    """The path of a Unix socket has 107 characters at most, and Ray adds many."""
    return Path(tempfile.gettempdir()) / f"meddx-{name}-{os.getpid()}"


def stop(node: subprocess.Popen[bytes]) -> None:
    """End this node and all that it started, at once, and nothing else: `ray stop` would end every Ray of the machine."""
    kill(*family(node.pid))
    node.wait(10)


def family(pid: int) -> list[int]:
    """A process and all its descendants, oldest first."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            children.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(int(status.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def kill(*pids: int) -> None:
    send(signal.SIGKILL, *pids)


def send(number: signal.Signals, *pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass(frozen=True)
class Node:
    address: str  # of its head
    process: subprocess.Popen[bytes]

    def owns(self, pid: int) -> bool:
        return pid in family(self.process.pid)


@contextlib.contextmanager
def node(
    folder: Path, cpus: int, variables: Mapping[str, str], *, head: str = "", ip: str = "127.0.0.1", before: tuple[str, ...] = ()
) -> Iterator[Node]:
    """A head without a dashboard, or with `head`, the address of one, a worker.  `before`: a command that runs it elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    port, client, agent = free_ports(3)
    address = head or f"{ip}:{port}"
    mine = [f"--port={port}", "--head", f"--ray-client-server-port={client}", "--include-dashboard=false", f"--temp-dir={folder}"]
    command = [*before, *RAY, "start", "--block", f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--address={head}"] if head else mine
    command += ["--object-store-memory=150000000", f"--node-ip-address={ip}"]
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(command, env=dict(variables), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for(lambda: b"Ray runtime started" in (folder / "node.log").read_bytes(), process, folder / "node.log")
        yield Node(address, process)
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(there: Callable[[], bool], process: subprocess.Popen[Any], log: Path | None = None) -> None:
    until = time.monotonic() + SECONDS
    while not there():
        said = log.read_text()[-3000:] if log else ""
        assert process.poll() is None and time.monotonic() < until, f"it ended or hangs: {process.poll()} {said}"
        time.sleep(0.02)


def kill_at(night: Night, job: Job, parts: int, pause: float) -> int:
    """SIGKILL the driver `pause` seconds after that many parts stand; how many stood then."""
    wait_for(lambda: len(list_parts(night.out)) >= parts, job.process)
    time.sleep(pause)
    assert job.process.poll() is None, f"it ended before it could be killed: {job.end()}"
    job.process.kill()
    stood = len(list_parts(night.out))
    job.end()
    return stood


def kill_workers(night: Night, job: Job, kills: int, units: int, rng: np.random.Generator, owns: Callable[[int], bool]) -> list[int]:
    """SIGKILL random processes that are at a unit, one after another, as their markers name them; how many parts stood at each kill."""
    stood: list[int] = []
    killed: set[int] = set()
    start = len(list_parts(night.out))
    for number in range(kills):
        at = start + int((number + rng.random()) * (units - start) / (kills + 1)) + 1
        wait_for(lambda at=at: len(list_parts(night.out)) >= at, job.process)
        time.sleep(float(rng.uniform(0, 0.3)))
        at_work: list[int] = []

        def look(found: list[int] = at_work) -> bool:
            found[:] = sorted(pid for pid in workers_of(night) if pid not in killed and owns(pid))
            return bool(found)

        wait_for(look, job.process)
        kill(pid := int(rng.choice(at_work)))
        killed.add(pid)
        stood.append(len(list_parts(night.out)))
    return stood


def workers_of(night: Night) -> set[int]:
    """The processes that have a unit in hand."""
    pids = set()
    for unit_id in markers.found(night.out):
        with contextlib.suppress(StorageError, ValueError):  # it has just ended
            pids.add(int(json.loads(markers.marker_path(night.out, unit_id).read_bytes())["process"]))
    return pids


def kill_again_and_again(night: Night, kills: int, units: int, rng: np.random.Generator, *, twin: str = "", **how: Any) -> list[int]:
    """Drivers on one output, each killed at a random moment of its work; how many of the units stood at each kill."""
    stood: list[int] = []
    for number in range(kills):
        there = len(list_parts(night.out))
        share = max(2, (units - there) // (kills - number + 1))
        stood.append(kill_at(night, night.start(twin=twin, **how), there + int(rng.integers(1, share)), float(rng.uniform(0, 0.3))))
        assert there < stood[-1] < units, f"not in the middle of the work: {there}, {stood}"
    return stood


def attempted(said: str, units: int) -> int:
    """How many units a job scored; one that lost nothing to another does not say so."""
    found = re.search(r"units attempted (\d+);", said)
    return int(found[1]) if found else units

"""The process that becomes the others: how its forks begin and end, and that none outlives it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scoring_helper as helper

from meddx.score.limits import Limits
from meddx.score.spawn import ForkServer, Spawned

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[ForkServer]:
    one = ForkServer()
    yield one
    one.close()


def forks_of(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            stat = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == pid and stat[0] != "Z":
            found.append(int(place.name))
    return found


def is_there(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(what: object, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not (done := what()) and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(done)


def load(one: Spawned) -> None:
    one.pipe.send_bytes(pickle.dumps((helper.BUNDLE, helper.PlainBundles(), Limits())))


def forked(server: ForkServer, count: int) -> list[Spawned]:
    made = [server.fork(failpoint=False) for _ in range(count)]
    assert eventually(lambda: len(forks_of(server._process.pid)) == count)
    return made


def test_a_fork_ends_when_its_pipe_is_closed_and_the_others_go_on(server: ForkServer) -> None:
    one, two = forked(server, 2)
    assert one.end() in (0, -signal.SIGKILL)
    assert eventually(lambda: len(forks_of(server._process.pid)) == 1)
    load(two)
    two.pipe.send_bytes(pickle.dumps(("job", None)))  # no job at all: it says what is wrong, as any fault of the code, and ends
    assert eventually(lambda: not forks_of(server._process.pid)) and two.end() == 1


def test_how_a_fork_died_is_known(server: ForkServer) -> None:
    (one,) = forked(server, 1)
    os.kill(forks_of(server._process.pid)[0], signal.SIGSEGV)
    assert one.end() == -signal.SIGSEGV and one.end() == 0  # the second time there is nobody


def test_a_killed_server_is_replaced_and_its_forks_end_with_their_pipes(server: ForkServer) -> None:
    (one,) = forked(server, 1)
    (orphan,) = forks_of(server._process.pid)
    server._process.kill()
    server._process.wait()
    assert one.end() == -signal.SIGKILL
    assert eventually(lambda: not is_there(orphan))
    forked(server, 1)


def test_a_closed_server_leaves_nobody() -> None:
    server = ForkServer()
    forked(server, 3)
    pids = forks_of(server._process.pid)
    server.close()
    assert eventually(lambda: not any(map(is_there, pids)))


def test_whoever_is_killed_leaves_nobody(tmp_path: Path) -> None:
    code = (
        "import time; from meddx.score.spawn import ForkServer; s = ForkServer(); f = [s.fork(failpoint=False) for _ in range(2)]\n"
        "print(s._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert eventually(lambda: len(forks_of(pid)) == 2)
        everybody = [pid, *forks_of(pid)]
        parent.kill()
    assert eventually(lambda: not any(map(is_there, everybody)))

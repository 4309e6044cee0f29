"""Raylets that are killed, and cables that are pulled: the job finishes on the nodes that are left, in bounded time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rayhost

sys.path.insert(0, str(rayhost.SCORE))
from nights import Night

from meddx.score.ledger import list_parts

pytestmark = pytest.mark.timeout(600)
UNITS = 96
BOUND_S = 150  # from the last fault to the end of the job
CABLE_S = 50  # 26 with our settings
OWN = {"object_store_memory": 150_000_000, "include_dashboard": False}
DEFAULTS = {"RAY_grpc_client_keepalive_time_ms": "300000", "RAY_grpc_client_keepalive_timeout_ms": "120000"}
BEGUN = 30  # parts


@pytest.mark.parametrize("replaced", [True, False])
def test_raylets_of_a_cluster_of_three(
    make_night: Callable[..., Night],
    rng: np.random.Generator,
    tell: Callable[..., None],
    slow_environment: dict[str, str],
    replaced: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`replaced`: a new node comes for each that died.  Else both workers' nodes die, and the head's one CPU does the rest."""
    from ray.cluster_utils import Cluster

    night, stood = make_night(UNITS), []
    monkeypatch.setenv("SCORING_HELPER_SLEEP", slow_environment["SCORING_HELPER_SLEEP"])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0 if replaced else 1, **OWN})
    try:
        nodes = [cluster.add_node(num_cpus=1, **OWN) for _ in range(2)]
        job = night.start(workers=2 if replaced else 3, address=cluster.address)
        for number in range(4 if replaced else 2):
            at = len(list_parts(night.out)) + int(rng.integers(1, 12))
            rayhost.wait_for(lambda at=at: len(list_parts(night.out)) >= at, job.process)
            node = nodes.pop(int(rng.integers(len(nodes))))
            rayhost.kill(node.all_processes["raylet"][0].process.pid)
            stood.append(len(list_parts(night.out)))
            cluster.remove_node(node, allow_graceful=False)
            if replaced and number < 3:
                nodes.append(cluster.add_node(num_cpus=1, **OWN))
        code, said = job.end(BOUND_S)
    finally:
        cluster.shutdown()
    assert code == 0, said
    monkeypatch.setenv("SCORING_HELPER_SLEEP", "0")
    tell("raylet of 3 nodes, " + ("3 of 4 replaced" if replaced else "head alone is left"), night, UNITS, stood, 0)


def test_a_node_that_stands_still_is_replaced_and_goes_on(
    make_night: Callable[..., Night], tell: Callable[..., None], slow_environment: dict[str, str]
) -> None:
    """As a machine that is paused and comes back: its worker then publishes a unit that others have done meanwhile."""
    with (
        rayhost.node(rayhost.short_folder("head"), 1, slow_environment) as head,
        rayhost.node(rayhost.short_folder("still"), 1, slow_environment, head=head.address) as still,
    ):
        night = make_night(UNITS)
        job = night.start(workers=2, address=head.address)
        rayhost.wait_for(lambda: any(still.owns(pid) for pid in rayhost.workers_of(night)) and begun(night), job.process)
        pids = rayhost.family(still.process.pid)
        rayhost.send(signal.SIGSTOP, *pids)
        stood = [len(list_parts(night.out))]
        code, said = job.end(BOUND_S)
        rayhost.send(signal.SIGCONT, *pids)
        time.sleep(5)
        assert code == 0, said
    tell("a node stands still (SIGSTOP) until the job is done", night, UNITS, stood, 0)


def test_the_head_dies(make_night: Callable[..., Night], tell: Callable[..., None], slow_environment: dict[str, str]) -> None:
    """The driver must end by itself, as one that is worth to be run again; another cluster takes over."""
    night = make_night(UNITS)
    with rayhost.node(rayhost.short_folder("head"), 2, slow_environment) as head:
        job = night.start(workers=2, address=head.address)
        rayhost.wait_for(lambda: begun(night), job.process)
        rayhost.kill(*rayhost.family(head.process.pid))
        stood = [len(list_parts(night.out))]
        code, said = job.end(BOUND_S)
    assert code in (1, 5), (code, said)
    code, said = night.start(workers=2).end(rayhost.SECONDS)
    assert code == 0, said
    tell("the head and all its processes", night, UNITS, stood, 1)


def begun(night: Night) -> bool:
    return len(list_parts(night.out)) >= BEGUN


@dataclass(frozen=True)
class Net:
    """Hosts 1, 2, 3 on one switch; each a network namespace with one cable."""

    name: str

    def host(self, number: int) -> tuple[str, ...]:
        return "ip", "netns", "exec", f"{self.name}{number}"

    def cable(self, number: int, state: str) -> None:
        ip(f"-n {self.name}0 link set port{number} {state}")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@pytest.fixture
def net() -> Iterator[Net]:
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("a cable is pulled between network namespaces: needs root and the `ip` command")
    made = Net(f"mx{os.getpid()}h")
    try:
        try:
            ip(f"netns add {made.name}0")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        ip(f"-n {made.name}0 link add switch type bridge")
        ip(f"-n {made.name}0 link set switch up")
        for number in (1, 2, 3):
            ip(f"netns add {made.name}{number}")
            ip(f"-n {made.name}{number} link set lo up")
            ip(f"-n {made.name}{number} link add eth0 type veth peer name port{number} netns {made.name}0")
            ip(f"-n {made.name}0 link set port{number} master switch up")
            ip(f"-n {made.name}{number} addr add 10.77.0.{number}/24 dev eth0")
            ip(f"-n {made.name}{number} link set eth0 up")
        yield made
    finally:
        for number in range(4):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(f"netns del {made.name}{number}")


@contextlib.contextmanager
def hosts(net: Net, variables: dict[str, str]) -> Iterator[str]:
    """A Ray head on host 1, one worker's node on 2 and on 3, with a CPU each; the head's address."""
    with contextlib.ExitStack() as stack:
        address = ""
        for number in (1, 2, 3):
            folder = rayhost.short_folder(f"h{number}")
            made = rayhost.node(folder, 1, variables, head=address, ip=f"10.77.0.{number}", before=net.host(number))
            address = stack.enter_context(made).address
        yield address


def pull(net: Net, night: Night, variables: dict[str, str], back: float | None = None) -> tuple[int, float]:
    """Pull the cable of host 3 in the middle of a job; (parts at that moment, seconds from then to the job's good end)."""
    with hosts(net, variables) as address:
        job = replace(night, before=net.host(1), variables={**night.variables, **variables}).start(workers=3, address=address)
        rayhost.wait_for(lambda: begun(night), job.process)
        net.cable(3, "down")
        stood, start = len(list_parts(night.out)), time.monotonic()
        if back is not None:
            time.sleep(back)
            net.cable(3, "up")
        code, said = job.end(BOUND_S)
        seconds = time.monotonic() - start
        assert code == 0, said
        time.sleep(3)  # whoever still writes shall have written
    return stood, seconds


@pytest.mark.parametrize("back", [None, 8.0, 60.0])
def test_a_cable_is_pulled(
    net: Net, make_night: Callable[..., Night], tell: Callable[..., None], slow_environment: dict[str, str], back: float | None
) -> None:
    """`back`: seconds after which it is put in again; the cut host's worker still sees the folder and may go on with its unit."""
    night = make_night(UNITS)
    stood, seconds = pull(net, night, slow_environment, back)
    tell("cable of 1 host in 3" + (f", back after {back:.0f} s" if back else f": job over {seconds:.0f} s later"), night, UNITS, [stood], 0)
    assert seconds < (back or 0) + CABLE_S


def test_twin_with_the_settings_of_ray_a_pulled_cable_costs_more(
    net: Net, make_night: Callable[..., Night], tell: Callable[..., None], slow_environment: dict[str, str]
) -> None:
    night = make_night(UNITS)
    stood, seconds = pull(net, night, {**slow_environment, **DEFAULTS})
    tell(f"twin, keepalive as Ray has it, cable of 1 host in 3: job over {seconds:.0f} s later", night, UNITS, [stood], 0)
    assert seconds > CABLE_S

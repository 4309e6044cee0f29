"""A plan's needs in, a Ray cluster that meets them out: join one, or start one here; nothing else knows the cluster."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from meddx.errors import ClusterError

# Set (where not set already) in every process that starts or joins Ray, before Ray is up.  With Ray's defaults a dead node costs
# 438 s instead of 35, a report waits 2 s instead of 0.2, and a listing of files takes 32 actors (docs/design.md).
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "2",
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "-1",
    # OpenMP threads wait for each other by spinning; where anything else wants their cores (Ray's own processes do), a step then
    # took 20 times as long.  Short spins cost 8 % on an idle machine.  Read when libgomp is loaded: with Ray, by the workers.
    "GOMP_SPINCOUNT": "1000",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # a submitted job has a runtime_env already; TRAVELS is added to it
}
# What workers of a joined cluster must know of the storage.  No credentials: others can read a runtime_env; nodes have their own.
TRAVELS = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "MEDDX_STORAGE_PATIENCE",
)


@contextmanager
def connect(address: str | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """A Ray cluster for the time of the block.

    `address`: `host:port` or `auto` joins, `local` starts one here; None joins $RAY_ADDRESS where that is set, else starts one.
    `cpus`: logical CPUs of a cluster started here (default: all); a joined one has what it has.
    Where this process is already connected, the block uses that connection and leaves it open.  Raises ClusterError.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local":
        _start(cpus)
    else:
        _join(wanted)
    try:
        yield
    finally:
        ray.shutdown()


def resources() -> dict[str, float]:
    """What the connected cluster has: `cpus`, `gpus`, `memory` (bytes), `nodes`."""
    nodes = _nodes()
    total = {name: sum(float(node.get(key, 0)) for node in nodes) for name, key in (("cpus", "CPU"), ("gpus", "GPU"), ("memory", "memory"))}
    return {**total, "nodes": float(len(nodes))}


def cpus_per_worker(workers: int, *, gpu: bool = False) -> int:
    """The most whole CPUs that each of `workers` equal workers can have on the connected cluster; a worker fits on one node.

    Ray Train's own actors ask for no CPU, so the workers may take all of them.  Counted from what the nodes have, not from what
    is free at the moment, so that the number of threads does not change from run to run.  ClusterError when they do not fit.
    """
    nodes = _nodes()
    for each in range(int(max((node.get("CPU", 0) for node in nodes), default=0)), 0, -1):
        if _fitting(nodes, each, gpu) >= workers:
            return each
    have = resources()
    devices = f" and {workers} GPUs" if gpu else ""
    there = f" and {have['gpus']:g} GPUs" if gpu else ""
    raise ClusterError(
        f"{workers} workers need {workers} CPUs{devices}; the cluster has {have['cpus']:g} CPUs{there} on {have['nodes']:g} nodes",
        "training.workers",
        f"ask for at most {_fitting(nodes, 1, gpu)} workers (0 runs without Ray), or join a larger cluster",
    )


def _fitting(nodes: Sequence[dict[str, float]], each: int, gpu: bool) -> int:
    """How many workers of `each` CPUs (and one GPU) the nodes hold."""
    places = [int(node.get("CPU", 0)) // each for node in nodes]
    return sum(min(place, int(node.get("GPU", 0))) if gpu else place for place, node in zip(places, nodes, strict=True))


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _start(cpus: int | None) -> None:
    """A cluster of this machine alone: no dashboard, token authentication on, workers' output in Ray's log files only."""
    import ray

    _use_token()
    _initialise("local", num_cpus=cpus, include_dashboard=False, runtime_env=None)
    if not ray.is_initialized():
        raise ClusterError("Ray did not start", "", "see the logs below the folder of $RAY_TMPDIR, or /tmp/ray")


def _join(address: str) -> None:
    """An address at which nobody listens is refused at once: Ray itself goes on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            next_step = "check the address and the firewall; without an address a cluster is started here"
            raise ClusterError(f"no Ray cluster at {address}: {error}", "", next_step) from error
    _initialise(address, runtime_env={"env_vars": {name: os.environ[name] for name in TRAVELS if name in os.environ}})


def _initialise(address: str, **settings: Any) -> None:
    import logging

    import ray
    from ray.exceptions import AuthenticationError

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError, OSError, AuthenticationError) as error:
        raise ClusterError(
            f"no Ray cluster at {address}: {type(error).__name__}: {str(error)[:300]}",
            "",
            "check the address, RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH; without an address a cluster is started here",
        ) from error


def _use_token() -> None:
    """Turn token authentication on, with a token that only this user can read (Ray itself writes it readable by all)."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    if os.environ.get("RAY_AUTH_MODE") is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        Config.initialize("")  # Ray read the environment when it was imported
    if os.environ["RAY_AUTH_MODE"].lower() != "token" or os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    private_token(Path.home() / ".ray" / "auth_token")


def private_token(path: Path) -> None:
    """Make sure that the token file exists and has mode 0600.  ClusterError where it cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(32))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        next_step = "set RAY_AUTH_TOKEN_PATH to a file of mode 0600 with a random token"
        raise ClusterError(f"Ray's token cannot be written: {error.strerror}", str(path), next_step) from error

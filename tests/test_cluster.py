from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meddx import cluster
from meddx.errors import ClusterError


def nodes_of(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    monkeypatch.setattr(cluster, "_nodes", lambda: list(nodes))


def test_workers_share_what_the_nodes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes_of(monkeypatch, {"CPU": 2.0, "memory": 5.0})
    assert cluster.cpus_per_worker(1) == 2
    assert cluster.cpus_per_worker(2) == 1
    assert cluster.resources() == {"cpus": 2.0, "gpus": 0.0, "memory": 5.0, "nodes": 1.0}


def test_a_worker_fits_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes_of(monkeypatch, {"CPU": 8.0}, {"CPU": 3.0}, {})  # the last one is a head without CPUs
    assert cluster.cpus_per_worker(1) == 8
    assert cluster.cpus_per_worker(2) == 4
    assert cluster.cpus_per_worker(3) == 3
    assert cluster.cpus_per_worker(11) == 1


def test_a_gpu_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes_of(monkeypatch, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0})
    assert cluster.cpus_per_worker(2, gpu=True) == 8
    with pytest.raises(ClusterError, match=r"3 CPUs and 3 GPUs; the cluster has 32 CPUs and 2 GPUs on 2 nodes(.|\n)*at most 2 workers"):
        cluster.cpus_per_worker(3, gpu=True)


def test_too_many_workers_are_refused_in_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes_of(monkeypatch, {"CPU": 2.0})
    with pytest.raises(ClusterError, match=r"5 workers need 5 CPUs; the cluster has 2 CPUs on 1 nodes(.|\n)*at most 2 workers"):
        cluster.cpus_per_worker(5)


def test_the_token_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    mask = os.umask(0o022)
    try:
        cluster.private_token(path)
    finally:
        os.umask(mask)
    token = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600 and len(token) == 64
    path.chmod(0o644)  # as Ray itself writes it
    cluster.private_token(path)
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_text() == token


def test_a_token_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH"):
        cluster.private_token(tmp_path / "file" / "auth_token")


def test_importing_the_module_starts_nothing_and_imports_no_ray() -> None:
    code = "import sys, meddx.cluster, meddx.train.options, meddx.train.run; print('ray' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


CONNECT_TWICE = """
import os, sys
from pathlib import Path
from meddx import cluster
with cluster.connect("local", cpus=2):
    import ray
    with cluster.connect():
        print(cluster.resources()["cpus"])
    print(ray.is_initialized(), os.environ["RAY_AUTH_MODE"], os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"])
    print(oct((Path.home() / ".ray" / "auth_token").stat().st_mode & 0o777))
print(ray.is_initialized())
"""


@pytest.mark.ray
def test_a_fresh_home_gets_a_private_token_and_the_inner_block_leaves_the_cluster_up(tmp_path: Path) -> None:
    drop = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"}
    environment = {**{key: value for key, value in os.environ.items() if key not in drop}, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CONNECT_TWICE], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2.0", "True", "token", "0.2", "0o600", "False"]
    assert done.stderr == ""  # nothing on the terminal that is not ours


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_listens_is_refused_at_once(address: str) -> None:
    with pytest.raises(ClusterError, match=f"no Ray cluster at {address}"):
        cluster._join(address)

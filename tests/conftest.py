"""Fixtures that every room may use: the real data, one Ray cluster a session."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does: waiting threads must not starve their neighbours
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process its core
sys.path.insert(0, str(Path(__file__).parent))  # helpers that several rooms' tests share
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs in its background, and each child would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Measured rates and kept graphs of tests are not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $MEDDX_SHARED/data, or ../shared/data beside the project."""
    root = Path(os.environ.get("MEDDX_SHARED") or Path(__file__).parents[1] / ".." / "shared")
    folder = (root / "data").resolve()
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside the project (set MEDDX_SHARED)")
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray for the session: two CPUs, no dashboard."""
    from meddx import cluster

    with cluster.connect("local", cpus=2):
        yield

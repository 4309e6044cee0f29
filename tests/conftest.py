"""Fixtures that every room may use: the real data, one Ray cluster a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does: waiting threads must not starve their neighbours
sys.path.insert(0, str(Path(__file__).parent))  # helpers that several rooms' tests share


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

"""A disk that is really full, and a file that really may not grow: refused in words, nothing torn, nothing left behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meddx.errors import StorageError
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True) if os.geteuid() == 0 else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_does_not_fit_is_refused_and_leaves_nothing(small_disk: Path) -> None:
    path = StoragePath.of(small_disk / "o" / "part")
    path.replace(b"old")
    for write in (path.replace, (path.parent / "new").create_once, lambda data: (path.parent / "new").create_once(data, alone=True)):
        with pytest.raises(StorageError, match="no space is left") as caught:
            write(b"x" * 3_000_000)
        assert caught.value.kind == "full" and "make room" in caught.value.next_step
        assert pickle.loads(pickle.dumps(caught.value)).kind == "full"
    assert path.read_bytes() == b"old" and [info.path.name for info in path.parent.list()] == ["part"]
    path.replace(b"y" * 1_000_000)


LIMITED = """
import resource, sys
from meddx.storage import StoragePath
from meddx.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    StoragePath.of(sys.argv[1]).create_once(b"x" * 1_000_000)
except StorageError as error:
    print(error.kind)
"""


def test_a_limit_on_the_size_of_a_file_is_the_same(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "f")], capture_output=True, text=True, timeout=60)
    assert made.stdout.strip() == "full", made.stderr
    assert list(tmp_path.iterdir()) == []

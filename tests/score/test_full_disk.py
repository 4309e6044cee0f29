"""Scoring onto a disk that is really full: it stops in words, and finishes when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scoring_helper as helper

from meddx.errors import IncompleteError, MeddxError, StorageError
from meddx.score.audit import verify
from meddx.score.run import score
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


def mount(place: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Room for the probe, which is larger than the parts."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not mount(place, "size=8m"):
        pytest.skip("only root can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def run(data: Path, out: Path, log: Callable[[str], None]) -> None:
    place = StoragePath.of(out)
    score(helper.BUNDLE, StoragePath.of(data), place, options=helper.options(), log=log, bundles=helper.PlainBundles())


def test_a_full_disk_stops_the_job_and_keeps_what_is_published(tmp_path: Path, disk: Path) -> None:
    data = helper.archive(tmp_path / "d", files=4, rows=3000, payload=400, group=3000)  # 4 units
    run(data, tmp_path / "undisturbed", print)
    size = max(path.stat().st_size for path in (tmp_path / "undisturbed").glob("part-*"))
    lines: list[str] = []

    def log(line: str) -> None:
        """Somebody else takes the room when the work begins, but for two parts and some change."""
        lines.append(line)
        if line.startswith("units to do"):
            (disk / "ballast").write_bytes(b"x" * (shutil.disk_usage(disk).free - 40_000 - 2 * size))

    with pytest.raises(MeddxError) as caught:
        run(data, disk / "o", log)
    assert isinstance(caught.value, IncompleteError | StorageError) and "no space is left" in "\n".join([*lines, str(caught.value)])
    before = {path.name: path.read_bytes() for path in (disk / "o").glob("part-*")}
    assert 1 <= len(before) <= 3, "some were published, some did not fit"
    assert not list((disk / "o").glob(".tmp-*"))
    (disk / "ballast").unlink()
    run(data, disk / "o", lines.append)
    assert helper.rows_of(disk / "o").equals(helper.rows_of(tmp_path / "undisturbed"))
    assert {name: (disk / "o" / name).read_bytes() for name in before} == before
    assert verify(StoragePath.of(disk / "o"))

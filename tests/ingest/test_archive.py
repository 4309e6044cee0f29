"""Archives: read as the folder that they hold; what would harm is refused."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from meddx.errors import DataError
from meddx.ingest import archive
from meddx.ingest.find import find, locate
from meddx.ingest.options import SourceOptions

FILES = {"set/a.csv": b"id,x\n1,1\n2,2\n", "set/b.csv": b"id,x\n3,3\n"}


def packed(path: Path, files: dict[str, bytes] = FILES) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in files.items():
                made.writestr(name, data)
    else:
        mode = {"gz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}.get(path.suffix[1:], "w")
        with tarfile.open(path, mode) as made:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
    return path


def temporary() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("meddx-")}


@pytest.mark.parametrize("name", ["cases.tar", "cases.tar.gz", "cases.tar.xz", "cases.tar.bz2", "cases.zip"])
def test_an_archive_reads_as_its_folder(tmp_path, make, name):
    path = packed(tmp_path / name)
    made = make({"path": path})
    assert made.column("case_id") == ["1", "2", "3"]
    source = made.record["inputs"]["source"]
    assert (source["path"], source["digest"], source["files"]) == (str(path), archive.StoragePath.of(path).digest(), 2)
    assert make({"path": path}).record["reused"] is True


def test_nothing_is_left_behind(tmp_path, make):
    before = temporary()
    make({"path": packed(tmp_path / "c.zip")}, joined={"s": {"path": packed(tmp_path / "d.tar.gz"), "join": "id"}})
    assert temporary() <= before


def test_locate_unpacks_nothing_and_knows_the_same_version(tmp_path):
    source = SourceOptions(path=str(packed(tmp_path / "c.tar.gz")))
    before = temporary()
    located = locate(source)
    assert temporary() <= before
    assert located.versions() == find(source).versions()


@pytest.mark.parametrize("name", ["../evil.csv", "/etc/evil.csv", "set/../../evil.csv"])
@pytest.mark.parametrize("kind", ["c.tar", "c.zip"])
def test_paths_that_lead_outside_are_refused(tmp_path, name, kind):
    with pytest.raises(DataError, match="leads outside"):
        find(SourceOptions(path=str(packed(tmp_path / kind, {name: b"id\n1\n"}))))
    assert not (Path(tempfile.gettempdir()) / "evil.csv").exists()


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "c.tar", "w") as made:
        info = tarfile.TarInfo("a.csv")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(info)
    with pytest.raises(DataError, match="link or a device"):
        find(SourceOptions(path=str(tmp_path / "c.tar")))


@pytest.mark.parametrize("kind", ["c.tar.gz", "c.zip", "c.tar.xz"])
def test_bombs_are_refused(tmp_path, monkeypatch, kind):
    path = packed(tmp_path / kind, {"a.csv": bytes(8 << 20)})
    find(SourceOptions(path=str(path)))  # small enough to be harmless
    monkeypatch.setattr(archive, "FREE_RATIO_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "MAX_RATIO", 100)
    with pytest.raises(DataError, match="far more than its size"):
        find(SourceOptions(path=str(path)))
    monkeypatch.setattr(archive, "MAX_ENTRIES", 1)
    with pytest.raises(DataError, match="more than 1 entries"):
        find(SourceOptions(path=str(packed(tmp_path / kind))))


@pytest.mark.parametrize("kind", ["c.tar.gz", "c.zip", "c.tar.xz", "c.tar"])
def test_damaged_archives_are_refused(tmp_path, kind):
    path = packed(tmp_path / kind, {"a.csv": os.urandom(20_000)})
    for data in (path.read_bytes()[:5_000], b"nonsense" * 100):
        (tmp_path / kind).write_bytes(data)
        before = temporary()
        with pytest.raises(DataError, match="damaged"):
            find(SourceOptions(path=str(path)))
        assert temporary() <= before


def test_an_archive_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file"):
        find(SourceOptions(path=str(packed(tmp_path / "c.tar", {}))))

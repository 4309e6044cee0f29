"""meddx.predict.files: a bundle stands whole or not at all, and nothing else is ever written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from meddx.errors import BundleError, OutputError, StorageError
from meddx.predict import files
from meddx.predict.files import publish, read_files
from meddx.storage import StoragePath

CONTENT = {"bundle.json": b"{}", "model.skops": b"123"}


@pytest.fixture
def here(tmp_path: Path) -> StoragePath:
    return StoragePath.of(tmp_path / "run" / "bundle")


def test_what_is_published_is_read_back(here: StoragePath) -> None:
    digest = publish(here, CONTENT)
    assert read_files(here) == (CONTENT, digest)
    assert len(digest) == 16
    assert [info.path.name for info in here.parent.list()] == ["bundle.json", "digests.json", "model.skops"]


def test_a_crash_while_writing_leaves_nothing_or_the_old_bundle(here: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    real = StoragePath.replace

    def fails_at(name: str):
        def replace(path: StoragePath, data: bytes) -> None:
            if path.name == name:
                raise StorageError("the disk is full", str(path))
            real(path, data)

        return replace

    for name in (*CONTENT, "digests.json"):
        monkeypatch.setattr(StoragePath, "replace", fails_at(name))
        with pytest.raises(StorageError):
            publish(here, CONTENT)
        assert not here.exists()
        assert list(here.parent.list()) == []
    monkeypatch.undo()
    old = publish(here, CONTENT)
    monkeypatch.setattr(StoragePath, "replace", fails_at("digests.json"))
    with pytest.raises(StorageError):
        publish(here, {**CONTENT, "model.skops": b"456"}, replace=True)
    assert read_files(here) == (CONTENT, old)


def test_on_s3_the_digests_come_last_so_an_upload_cut_short_is_no_bundle(here: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of steps, on a folder: `_publish_s3` uses only replace, create_once and delete."""
    files._publish_s3(here, CONTENT, b'{"not":"checked here"}', set())
    old = {info.path.name for info in here.list()}
    written: list[str] = []
    real = StoragePath.replace

    def replace(path: StoragePath, data: bytes) -> None:
        if len(written) == 1:
            raise StorageError("the line is dead", str(path))
        written.append(path.name)
        real(path, data)

    monkeypatch.setattr(StoragePath, "replace", replace)
    with pytest.raises(StorageError):
        files._publish_s3(here, CONTENT, b"{}", old)
    with pytest.raises(BundleError, match="no finished bundle"):
        read_files(here)


def test_two_writers_on_s3_one_wins(here: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoragePath, "create_once", lambda path, data: False)
    with pytest.raises(OutputError, match="another job"):
        files._publish_s3(here, CONTENT, b"{}", set())


@pytest.mark.parametrize("name", ["notes.txt", "data/part-00000.parquet"])
def test_what_is_not_a_bundle_is_never_replaced(here: StoragePath, name: str) -> None:
    (here / name).replace(b"years of work")
    for replace in (False, True):
        with pytest.raises(OutputError, match="not a bundle"):
            publish(here, CONTENT, replace=replace)
    (here / name).delete()
    publish(here, CONTENT)
    (here / name).replace(b"years of work")
    with pytest.raises(OutputError, match="not a bundle"):
        publish(here, {**CONTENT, "model.skops": b"456"}, replace=True)
    assert (here / name).read_bytes() == b"years of work"


def test_a_damaged_bundle_is_replaced_on_request_only(here: StoragePath) -> None:
    digest = publish(here, CONTENT)
    (here / "model.skops").replace(b"12")
    with pytest.raises(OutputError):
        publish(here, CONTENT)
    assert publish(here, CONTENT, replace=True) == digest
    (here / "digests.json").replace(b"rubbish")
    assert publish(here, CONTENT, replace=True) == digest
    assert read_files(here) == (CONTENT, digest)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "digests.json", "record.json", "x" * 101])
def test_names_that_a_file_of_a_bundle_cannot_have(here: StoragePath, name: str) -> None:
    with pytest.raises(BundleError, match="cannot have the name"):
        publish(here, {name: b""})


def test_a_bundle_too_large_is_refused_before_it_is_read(here: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(here, CONTENT)
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    with pytest.raises(BundleError, match="larger"):
        read_files(here)


def test_leftovers_of_a_crash_and_the_stages_record_are_no_part_of_it(here: StoragePath) -> None:
    digest = publish(here, CONTENT)
    (here / "record.json").replace(b"{}")
    (here / ".tmp-0123").replace(b"half")
    assert read_files(here) == (CONTENT, digest)

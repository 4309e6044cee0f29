"""One path type on a real folder and on a real S3 server."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from meddx.errors import StorageError
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location("seaweed", Path(__file__).with_name("seaweed.py"))
assert spec and spec.loader
seaweed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seaweed)


@pytest.fixture(scope="module")
def s3_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import boto3

    with seaweed.serve(tmp_path_factory.mktemp("s3")) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", seaweed.USER)
        patch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.SECRET)
        patch.setenv("AWS_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="archive")
        yield "s3://archive"


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    base = str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3_root")
    return StoragePath.of(base) / uuid.uuid4().hex


def test_write_read_list_delete(root: StoragePath) -> None:
    (root / "b/two.txt").replace(b"two")
    (root / "a.txt").replace(b"one")
    (root / "a.txt").replace(b"one again")
    assert [(found.path.relative_to(root), found.size) for found in root.list()] == [("a.txt", 9), ("b/two.txt", 3)]
    assert [found.path.name for found in root.list(".txt", recursive=False)] == ["a.txt"]
    assert (root / "a.txt").read_bytes() == b"one again"
    assert (root / "a.txt").open().read(3) == b"one"
    assert (root / "a.txt").digest() == hashlib.sha256(b"one again").hexdigest()
    assert (root / "a.txt").exists() and not (root / "c.txt").exists() and root.is_dir()
    (root / "a.txt").delete()
    (root / "a.txt").delete()
    assert not (root / "a.txt").exists()


def test_create_once_has_one_winner_of_sixteen(root: StoragePath) -> None:
    target, won = root / "part.parquet", []

    def attempt(number: int) -> None:
        if target.create_once(f"writer {number}".encode() * 1000):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert target.read_bytes() == f"writer {won[0]}".encode() * 1000
    assert not target.create_once(b"late")
    assert [found.path.name for found in root.list()] == ["part.parquet"], "no temporary file stays"


def test_replace_would_lose_what_create_once_keeps(root: StoragePath) -> None:
    """The twin: without create-once the second writer wins and the first part is gone."""
    target = root / "part.parquet"
    target.create_once(b"first")
    target.replace(b"second")
    assert target.read_bytes() == b"second"


def test_own_conditional_put_whose_reply_was_lost_counts_as_won(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from meddx import storage

    target = StoragePath.of(s3_root) / uuid.uuid4().hex
    real = storage._client()

    class LostReply:
        """Sends the real PUT twice, as boto3 does when the reply is lost."""

        def put_object(self, **request: object) -> object:
            real.put_object(**request)
            return real.put_object(**request)

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(storage, "_client", LostReply)
    assert target.create_once(b"mine")
    assert not target.create_once(b"other")
    assert target.read_bytes() == b"mine"


def test_version_changes_with_the_content(root: StoragePath) -> None:
    (root / "a").replace(b"1")
    before = (root / "a").info().version
    assert (root / "a").info().version == before
    (root / "a").replace(b"22")
    assert (root / "a").info().version != before


def test_missing_and_forbidden_say_where(root: StoragePath) -> None:
    with pytest.raises(StorageError, match="no such file") as caught:
        (root / "nothing").read_bytes()
    assert "nothing" in str(caught.value) and caught.value.exit_code == 1
    with pytest.raises(StorageError, match="no such file"):
        (root / "nothing").info()


def test_wrong_credentials_are_a_clear_error(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from meddx import storage

    (StoragePath.of(s3_root) / "secret.txt").replace(b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage._s3_for.cache_clear()
    try:
        with pytest.raises(StorageError):
            (StoragePath.of(s3_root) / "secret.txt").read_bytes()
    finally:
        storage._s3_for.cache_clear()


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StoragePath.of("x/../y").uri == str(tmp_path / "y")
    assert StoragePath.of("s3://b/p/").uri == "s3://b/p"
    assert StoragePath.of("package://sklearn/datasets/data/breast_cancer.csv").exists()
    path = StoragePath.of("s3://b/p/f.tar.GZ")
    assert (path.name, path.suffix, path.parent.uri, path.key) == ("f.tar.GZ", ".gz", "s3://b/p", "b/p/f.tar.GZ")
    with pytest.raises(StorageError, match="ftp://"):
        StoragePath.of("ftp://host/file")


def test_a_killed_writer_leaves_no_torn_file(tmp_path: Path) -> None:
    """A child writes a large file for ever and is killed: a reader sees the whole old or the whole new content."""
    import subprocess
    import sys
    import time

    code = (
        "import sys\nfrom meddx.storage import StoragePath\np = StoragePath.of(sys.argv[1])\n"
        "n = 0\nwhile True:\n    n += 1\n    p.replace(bytes([n % 251]) * 3_000_000)\n"
    )
    target = tmp_path / "big"
    child = subprocess.Popen([sys.executable, "-c", code, str(target)], env=dict(os.environ))
    try:
        for _ in range(600):
            if target.exists():
                break
            time.sleep(0.05)
        for _ in range(20):
            content = target.read_bytes()
            assert len(content) == 3_000_000 and len(set(content)) == 1
    finally:
        child.kill()
        child.wait()
    content = target.read_bytes()
    assert len(content) == 3_000_000 and len(set(content)) == 1

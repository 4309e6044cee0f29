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


def test_version_changes_with_the_content(root: StoragePath) -> None:
    (root / "a").replace(b"1")
    before = (root / "a").info().version
    assert (root / "a").info().version == before
    (root / "a").replace(b"22")
    assert (root / "a").info().version != before


def test_the_version_is_the_same_in_the_listing_and_when_asked(root: StoragePath) -> None:
    for size in (0, 1, 6_000_000):
        (root / f"f{size}").replace(b"x" * size)
    assert [one.version for one in root.list()] == [(root / f"f{size}").info().version for size in (0, 1, 6_000_000)]


def test_on_s3_the_version_is_the_etag(s3_root: str) -> None:
    path = StoragePath.of(s3_root) / uuid.uuid4().hex
    path.replace(b"content")
    assert path.info().version == f"7-{hashlib.md5(b'content').hexdigest()}"


def test_what_is_no_folder_has_nothing_below(root: StoragePath) -> None:
    assert list((root / "nowhere").list()) == [] and not (root / "nowhere").exists() and not (root / "nowhere").is_dir()
    (root / "one").replace(b"1")
    (root / "one-more/x").replace(b"2")
    assert (root / "one").exists() and not (root / "one").is_dir() and list((root / "one").list()) == []
    assert not (root / "on").exists(), "the beginning of a name is no folder"
    assert (root / "one-more").exists() and (root / "one-more").is_dir()
    with pytest.raises(StorageError, match="no such file"):
        (root / "one-more").info()


NAMES = ["a b", "ü", "100%", "%41", "a+b", "a&b", "a=1", "a'b", "(1)", "x#y", "q?z", "日本", "date=2026-11-21"]


def test_names_with_special_characters(root: StoragePath) -> None:
    for name in NAMES:
        (root / name / "f.txt").replace(name.encode())
    assert sorted(info.path.parent.name for info in root.list()) == sorted(NAMES)
    assert all(info.path.read_bytes() == info.path.parent.name.encode() == info.path.open().read() for info in root.list())
    for name in NAMES:
        assert (root / name).is_dir() and not (root / name / "f.txt").create_once(b"again")
        (root / name / "f.txt").delete()
        assert not (root / name / "f.txt").exists()


def test_what_is_taken_away_while_a_folder_is_listed_is_not_there(tmp_path: Path) -> None:
    """As markers and temporary files of other jobs are: whoever listed them at the wrong moment failed."""
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    listing = StoragePath.of(tmp_path).list()
    names = [next(listing).path.name]
    (tmp_path / "b").unlink()
    assert [*names, *(info.path.name for info in listing)] == ["a", "c"]


def test_more_names_than_one_page_of_a_listing(s3_root: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    root = StoragePath.of(s3_root) / uuid.uuid4().hex
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: (root / f"{number % 7}/{number:05d}.txt").replace(b"x"), range(1200)))
    found = [info.path.name for info in root.list()]
    assert len(found) == len(set(found)) == 1200
    assert list(root.list(recursive=False)) == []


def test_a_bucket_may_be_empty_or_missing(s3_root: str) -> None:
    assert StoragePath.of(s3_root).exists() and StoragePath.of(s3_root).is_dir()
    nowhere = StoragePath.of("s3://no-such-bucket")
    assert not nowhere.exists() and not (nowhere / "x").exists()
    with pytest.raises(StorageError, match="no such bucket") as caught:
        list(nowhere.list())
    assert caught.value.kind == "missing"


def test_reading_in_pieces_is_reading_at_once(root: StoragePath) -> None:
    import random

    content, draw = random.Random(0).randbytes(5_000_000), random.Random(1)
    (root / "f").replace(content)
    with (root / "f").open() as stream:
        assert stream.size() == len(content)
        for _ in range(60):
            at, count = draw.randrange(len(content)), draw.choice([0, 1, 100, 70_000, 1 << 20, 3_000_000])
            assert stream.read_at(count, at) == content[at : at + count]
        stream.seek(0)
        assert stream.read() == content and stream.read(10) == b""
        stream.seek(4_999_990)
        assert stream.read(100) == content[-10:] and stream.tell() == len(content)


def test_a_zip_is_read_from_either(root: StoragePath) -> None:
    import io
    import zipfile

    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a/b.txt", "inner")
    (root / "a.zip").replace(held.getvalue())
    with (root / "a.zip").open() as raw, zipfile.ZipFile(raw) as archive:
        assert archive.read("a/b.txt") == b"inner"


def test_missing_and_forbidden_say_where(root: StoragePath) -> None:
    with pytest.raises(StorageError, match="no such file") as caught:
        (root / "nothing").read_bytes()
    assert "nothing" in str(caught.value) and caught.value.exit_code == 1
    with pytest.raises(StorageError, match="no such file"):
        (root / "nothing").info()


def test_wrong_credentials_are_a_clear_error(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = StoragePath.of(s3_root) / "secret.txt"
    path.replace(b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for work in (path.read_bytes, path.exists, path.info, path.open, lambda: path.replace(b"y"), lambda: list(path.parent.list())):
        with pytest.raises(StorageError, match="does not accept the credentials") as caught:
            work()
        assert caught.value.kind == "permission" and "AWS_" in caught.value.next_step
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="NoCredentialsError"):
        path.read_bytes()


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

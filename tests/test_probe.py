"""The probe finds what a store spoils or ignores, before a job writes; and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import faultproxy
import pytest
import seaweed

from meddx import probe as probing
from meddx.errors import StorageError
from meddx.probe import Probe, probe
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faultproxy.Proxy]:
    place, patching = tmp_path_factory.mktemp("s3"), pytest.MonkeyPatch.context()
    with seaweed.serve(place) as server, faultproxy.before(server) as proxy, patching as patch:
        seaweed.use(patch, proxy.endpoint)
        seaweed.make_bucket(server, "archive")
        yield proxy


@pytest.fixture
def out(proxy: faultproxy.Proxy) -> StoragePath:
    proxy.heal()
    return StoragePath.of(f"s3://archive/{uuid.uuid4().hex}")


def test_a_good_store_and_a_good_folder(out: StoragePath, tmp_path: Path) -> None:
    for place in (out, StoragePath.of(tmp_path / "o")):
        assert probe(place) == probe(place, streams=True) == Probe(True)
        assert list(place.list()) == []


def test_a_store_that_ignores_the_condition_is_named(proxy: faultproxy.Proxy, out: StoragePath) -> None:
    for action in ("ignored", "501"):
        proxy.add("PUT", "probe-", action, skip=2 if action == "501" else 0)  # two plain PUTs come before the conditional one
        assert probe(out) == Probe(False, "the store ignores or refuses a conditional PUT")
        proxy.heal()
    assert list(out.list()) == []


def test_spoiled_data_is_refused_with_the_setting_that_helps(proxy: faultproxy.Proxy, out: StoragePath) -> None:
    rule = proxy.add("GET", "probe-", "flip", value=3_000_000)
    with pytest.raises(StorageError, match="spoils what is written: 6000000 bytes") as caught:
        probe(out)
    assert caught.value.kind == "damaged" and "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in caught.value.next_step
    assert rule.hits and list(out.list()) == []


def test_twin_who_writes_only_a_little_does_not_see_it(proxy: faultproxy.Proxy, out: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "LARGE", 1000)
    proxy.add("GET", "probe-", "flip", value=3_000_000)
    assert probe(out) == Probe(True)


def test_a_store_that_takes_no_streams(proxy: faultproxy.Proxy, out: StoragePath) -> None:
    proxy.add("POST", "probe-.*uploads", "501")
    assert probe(out) == Probe(True)
    with pytest.raises(StorageError, match="does not take data as a stream") as caught:
        probe(out, streams=True)
    assert caught.value.kind == "damaged" and "when_required" in caught.value.next_step


def test_no_right_to_write_or_delete_is_said_before_the_job(proxy: faultproxy.Proxy, out: StoragePath) -> None:
    for method in ("PUT", "DELETE"):
        proxy.add(method, "probe-", "403")
        with pytest.raises(StorageError, match="no permission"):
            probe(out)
        proxy.heal()


def test_a_folder_without_hard_links_is_named(tmp_path: Path) -> None:
    """Shown with a file that may not be linked: the answer of the kernel is the same."""
    if os.geteuid() != 0 or not shutil.which("chattr"):
        pytest.skip("only root can make a file that takes no hard link")
    path = tmp_path / "f"
    path.write_bytes(b"x")
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode:
        pytest.skip("this file system knows no immutable files")
    try:
        assert not probing._links(StoragePath.of(path))
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


def test_where_no_condition_holds_a_lone_job_looks_before_it_writes(out: StoragePath, tmp_path: Path) -> None:
    for place in (out / "part", StoragePath.of(tmp_path / "part")):
        assert place.create_once(b"first", alone=True)
        assert not place.create_once(b"second", alone=True) and place.read_bytes() == b"first"

"""Each fault of a network and of a busy store, in a real socket before a real S3 server: repeated, or refused in words, in bounded time."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faultproxy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import seaweed

from meddx import s3, s3_client
from meddx.errors import StorageError
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

BIG = bytes(range(256)) * 12_000  # 3 MB


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faultproxy.Proxy]:
    place, patching = tmp_path_factory.mktemp("s3"), pytest.MonkeyPatch.context()
    with seaweed.serve(place) as server, faultproxy.before(server) as proxy, patching as patch:
        seaweed.use(patch, proxy.endpoint)
        seaweed.make_bucket(server, "archive")
        yield proxy


@pytest.fixture
def root(proxy: faultproxy.Proxy) -> StoragePath:
    """A prefix of its own, no faults yet."""
    proxy.heal()
    return StoragePath.of(f"s3://archive/{uuid.uuid4().hex}")


def read_through_open(place: StoragePath) -> bool:
    with (place / "big").open() as stream:
        return bool(stream.read(10) == BIG[:10] and stream.read_at(2_000_000, 500_000) == BIG[500_000:2_500_000])


WORK: dict[str, tuple[str, Callable[[StoragePath], Any]]] = {
    "read_bytes": ("GET", lambda place: (place / "big").read_bytes() == BIG),
    "open": ("GET", read_through_open),
    "list": ("GET", lambda place: [info.path.name for info in place.list()] == ["big"]),
    "exists": ("HEAD", lambda place: (place / "big").exists()),
    "info": ("HEAD", lambda place: (place / "big").info().size == len(BIG)),
    "replace": ("PUT", lambda place: (place / "new").replace(BIG) is None and (place / "new").read_bytes() == BIG),
    "create_once": ("PUT", lambda place: (place / "new").create_once(BIG) and (place / "new").read_bytes() == BIG),
    "delete": ("DELETE", lambda place: (place / "big").delete() is None),
}


def all_at_once(
    proxy: faultproxy.Proxy, root: StoragePath, action: str, count: int, *, patience: float, method: str = ""
) -> dict[str, tuple[Any, float, Callable[[], int]]]:
    """Every kind of work under this fault, each at its own prefix: what came of it, the seconds, and how often the fault was met."""
    for name in WORK:
        (root / name / "big").replace(BIG)
    paths = {name: f"{root.name}(/|%2F){name}(/|%2F|$)" for name in WORK}
    rules = {name: proxy.add(method or WORK[name][0], paths[name], action, value=100, count=count) for name in WORK}

    def one(name: str) -> tuple[Any, float, Callable[[], int]]:
        start = time.monotonic()
        try:
            found = WORK[name][1](root / name)
        except StorageError as error:
            found = error
        return found, time.monotonic() - start, lambda: rules[name].hits

    with ThreadPoolExecutor(len(WORK)) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setenv(s3_client.PATIENCE, str(patience))
        return dict(zip(WORK, pool.map(one, WORK), strict=True))


@pytest.mark.parametrize("action", ["503", "500", "429", "reset", "reset_at", "torn", "stall_at", "hang", "lost"])
def test_a_fault_that_passes_is_not_noticed(proxy: faultproxy.Proxy, root: StoragePath, action: str) -> None:
    count = 1 if action in ("hang", "stall_at") else 2
    for name, (found, _, met) in all_at_once(proxy, root, action, count, patience=12).items():
        assert found is True, (name, found)
        has_body = action not in ("reset_at", "torn", "stall_at") or name in ("read_bytes", "open", "list")
        assert met() == (count if has_body else met()), name


@pytest.mark.parametrize("action", ["503", "500", "429", "reset", "hang"])
def test_a_fault_that_stays_ends_in_bounded_time(proxy: faultproxy.Proxy, root: StoragePath, action: str) -> None:
    for name, (found, seconds, met) in all_at_once(proxy, root, action, faultproxy.FOREVER, patience=0.8).items():
        assert isinstance(found, StorageError) and found.kind == "busy", (name, found)
        assert "busy or did not answer" in found.what and "run the same command again later" in found.next_step
        until = time.monotonic() + 5
        while met() < 2 and time.monotonic() < until:
            time.sleep(0.05)  # the client gave up on the second request, which the proxy may not have read yet
        assert met() >= 2 and seconds < 0.8 + 0.5 + 4, (name, seconds)


def test_twin_without_patience_one_refusal_is_the_end(proxy: faultproxy.Proxy, root: StoragePath) -> None:
    ended = all_at_once(proxy, root, "429", 1, patience=0.01)
    assert {name for name, (found, _, _) in ended.items() if isinstance(found, StorageError)} == set(WORK)


def test_pyarrows_own_file_gives_up_at_once_on_429(proxy: faultproxy.Proxy, root: StoragePath) -> None:
    """Why reading goes through `open`: with eight attempts allowed, pyarrow makes one."""
    (root / "big").replace(BIG)
    rule = proxy.add("GET", "big", "429", count=1)
    with pytest.raises(OSError), (root / "big").filesystem.open_input_file((root / "big").key) as stream:
        stream.read(10)
    assert rule.hits == 1


@pytest.mark.parametrize("action", ["expired", "403"])
def test_credentials_are_refused_at_once_and_in_words(proxy: faultproxy.Proxy, root: StoragePath, action: str) -> None:
    for name, (found, seconds, met) in all_at_once(proxy, root, action, faultproxy.FOREVER, patience=60, method=".*").items():
        assert isinstance(found, StorageError) and found.kind == "permission", (name, found)
        assert ("have expired (ExpiredToken)" if action == "expired" else "no permission (AccessDenied)") in found.what, (name, found)
        assert ("renew the credentials" if action == "expired" else "may read, list, write and delete") in found.next_step
        assert seconds < 20 and met() <= 2, (name, seconds, met())  # a HEAD is followed by a GET, whose answer says why


def test_own_conditional_put_whose_answer_was_lost_counts_as_won(proxy: faultproxy.Proxy, root: StoragePath) -> None:
    proxy.add("PUT", "part", "lost", count=2)
    assert (root / "part").create_once(b"mine")
    assert not (root / "part").create_once(b"other")
    proxy.add("PUT", "part", "lost", count=2)
    assert not (root / "part").create_once(b"third")
    assert (root / "part").read_bytes() == b"mine"


def test_twin_who_trusts_the_412_says_no_though_its_own_write_won(
    proxy: faultproxy.Proxy, root: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_head", lambda place: s3.About(place.key, 0, "", "the token is not asked"))
    proxy.add("PUT", "part", "lost", count=1)
    assert not (root / "part").create_once(b"mine")
    assert (root / "part").read_bytes() == b"mine"


def test_two_writers_at_one_moment_are_asked_to_try_again(proxy: faultproxy.Proxy, root: StoragePath) -> None:
    rule = proxy.add("PUT", "part", "409", count=2)
    assert (root / "part").create_once(b"mine") and rule.hits == 2


def test_a_flipped_byte_is_noticed_where_the_whole_object_is_read(
    proxy: faultproxy.Proxy, root: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "big").replace(BIG)
    rule = proxy.add("GET", "big", "flip", value=1_000_000, count=1)
    assert (root / "big").read_bytes() == BIG and rule.hits == 1
    monkeypatch.setenv(s3_client.PATIENCE, "0.8")
    proxy.add("GET", "big", "flip", value=1_000_000)
    with pytest.raises(StorageError, match="checksum that the store keeps") as caught:
        (root / "big").read_bytes()
    assert caught.value.kind == "damaged"


def test_a_flipped_byte_in_a_range_is_seen_by_parquets_checksum_and_gone_when_read_again(
    proxy: faultproxy.Proxy, root: StoragePath
) -> None:
    held = pa.BufferOutputStream()
    table = pa.table({"x": np.random.default_rng(0).normal(size=20_000)})
    pq.write_table(table, held, write_page_checksum=True, use_dictionary=False, compression="none")
    (root / "t.parquet").replace(held.getvalue().to_pybytes())
    file = pq.ParquetFile((root / "t.parquet").open(), page_checksum_verification=True)
    proxy.add("GET", "t.parquet", "flip", value=50_000, count=1)
    with pytest.raises(OSError, match="CRC"):
        file.read()
    assert file.read().equals(table)
    unchecked = pq.ParquetFile((root / "t.parquet").open())
    proxy.add("GET", "t.parquet", "flip", value=50_000, count=1)
    assert not unchecked.read().equals(table), "the twin: no checksum, no notice"


@pytest.mark.parametrize("action", ["429", "torn", "reset_at"])
def test_parquet_read_through_a_bad_network(
    proxy: faultproxy.Proxy, root: StoragePath, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({f"c{i}": np.random.default_rng(i).normal(size=50_000) for i in range(8)})
    held = pa.BufferOutputStream()
    pq.write_table(table, held, row_group_size=10_000)
    (root / "t.parquet").replace(held.getvalue().to_pybytes())
    rule = proxy.add("GET", "t.parquet", action, value=1000, skip=1, count=3)
    with (root / "t.parquet").open() as stream:
        assert pa.Table.from_batches(pq.ParquetFile(stream).iter_batches()).equals(table)
    assert rule.hits == 3
    monkeypatch.setenv(s3_client.PATIENCE, "0.8")
    proxy.add("GET", "t.parquet", "429", skip=1)
    with (root / "t.parquet").open() as stream, pytest.raises(StorageError, match="busy") as caught:
        pq.ParquetFile(stream).read()  # our own error comes through pyarrow, and is no fault of the file's
    assert caught.value.kind == "busy"


def test_an_object_that_changes_while_it_is_read_is_not_mixed(root: StoragePath) -> None:
    (root / "big").replace(BIG)
    with (root / "big").open() as stream:
        stream.read(10)
        (root / "big").replace(BIG[::-1])
        with pytest.raises(StorageError, match="changed while it was read"):
            stream.read_at(10, 2_000_000)


def test_what_was_listed_is_opened_without_asking_again(proxy: faultproxy.Proxy, root: StoragePath) -> None:
    (root / "big").replace(BIG)
    [info] = root.list()
    proxy.seen.clear()
    with info.path.open(info) as stream:
        assert stream.size() == len(BIG) and stream.read() == BIG
    assert [one.split()[0] for one in proxy.seen] == ["GET"]
    (root / "big").replace(BIG[::-1])
    with info.path.open(info) as stream, pytest.raises(StorageError, match="changed"):
        stream.read(1)


def test_an_address_that_is_wrong_is_said(root: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(s3_client.PATIENCE, "0.8")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    with pytest.raises(StorageError, match="not a URL"):
        root.exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="EndpointConnectionError") as caught:
        (root / "a patient's name").read_bytes()
    assert caught.value.kind == "busy" and "AWS_ENDPOINT_URL" in caught.value.next_step and "patient" not in caught.value.what
    monkeypatch.setenv("AWS_REGION", "no region")
    with pytest.raises(StorageError, match="InvalidRegionError"):
        root.exists()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match="ProfileNotFound") as caught:
        root.exists()
    assert caught.value.kind == "permission"


def test_a_certificate_that_nobody_signed_is_refused_at_once(root: StoragePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    key, page = tmp_path / "key.pem", tmp_path / "page.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(page), "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(page, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=greet, args=(context, listening), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(StorageError, match="certificate is not trusted") as caught:
            root.exists()
    assert "AWS_CA_BUNDLE" in caught.value.next_step


def greet(context: ssl.SSLContext, listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        context.wrap_socket(listening.accept()[0], server_side=True)

"""Scoring on S3 under each fault: it finishes with the same rows, or stops in words and finishes when it is run again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import faultproxy
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper
import seaweed

from meddx import s3_client
from meddx.errors import IncompleteError, MeddxError, StorageError
from meddx.score import rows, runner, sources
from meddx.score.audit import verify
from meddx.score.books import Books
from meddx.score.run import score
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

STALL_S = float(os.environ.get("MEDDX_SOAK_STALL", "3"))  # the soak stalls for 30 s, with the patience of real work
DATA = StoragePath.of("s3://night/d")
UNITS = 4


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[faultproxy.Proxy]:
    """An archive of 4 units behind the proxy.  Page checksums; 50 rows of 8 kB a row group."""
    place, patching = tmp_path_factory.mktemp("s3"), pytest.MonkeyPatch.context()
    folder = helper.archive(tmp_path_factory.mktemp("archive"), files=2, rows=200, payload=8000, group=50)
    with seaweed.serve(place) as server, faultproxy.before(server) as proxy, patching as patch:
        seaweed.use(patch, proxy.endpoint)
        seaweed.make_bucket(server, "night")
        for path in folder.iterdir():
            (DATA / path.name).replace(path.read_bytes())
        yield proxy


@pytest.fixture(scope="module")
def undisturbed(proxy: faultproxy.Proxy) -> pa.Table:
    run(StoragePath.of("s3://night/undisturbed"))
    return rows_of(StoragePath.of("s3://night/undisturbed"))


@pytest.fixture
def out(proxy: faultproxy.Proxy, undisturbed: pa.Table, monkeypatch: pytest.MonkeyPatch) -> StoragePath:
    proxy.heal()
    monkeypatch.setenv(s3_client.PATIENCE, "12" if STALL_S < 6 else "60")
    return StoragePath.of(f"s3://night/o-{uuid.uuid4().hex}")


def run(out: StoragePath, lines: list[str] | None = None) -> Books:
    log = [] if lines is None else lines
    return score(helper.BUNDLE, DATA, out, options=helper.options(), log=log.append, bundles=helper.PlainBundles())


def rows_of(out: StoragePath) -> pa.Table:
    parts = [pq.read_table(pa.BufferReader(info.path.read_bytes())) for info in out.list(".parquet", recursive=False)]
    tables = [part.replace_schema_metadata(None) for part in parts]
    return pa.concat_tables(tables).sort_by([("unit", "ascending"), ("row", "ascending")])


def parts_of(out: StoragePath) -> dict[str, str]:
    return {info.path.name: info.version for info in out.list(".parquet", recursive=False)}


PASSING = [
    ("GET", "/d/", "503", 0, 0, 3),
    ("GET", "/d/", "500", 0, 4, 3),
    ("GET", "/d/", "429", 0, 5, 3),
    ("GET", "/d/", "reset", 0, 5, 2),
    ("GET", "/d/", "torn", 30_000, 3, 3),
    ("GET", "/d/", "reset_at", 200_000, 0, 4),
    ("GET", "/d/", "hang", 0, 4, 1),
    ("GET", "/d/", "stall", STALL_S, 4, 1),
    ("GET", "/d/", "stall_at", 100_000, 0, 4),
    ("HEAD", "/d/", "429", 0, 2, 3),
    ("GET", "list-type=2", "429", 0, 0, 3),
    ("GET", "list-type=2", "torn", 50, 1, 1),
    ("PUT", "/part-", "503", 0, 0, 3),
    ("PUT", "/part-", "429", 0, 1, 3),
    ("PUT", "/part-", "409", 0, 1, 2),
    ("PUT", "/part-", "reset", 0, 1, 2),
    ("PUT", "/part-", "lost", 0, 0, 3),
    ("PUT", "/part-", "stall", STALL_S, 1, 1),
    ("PUT", "/plan-0", "lost", 0, 0, 1),
    ("PUT", "record.json", "lost", 0, 0, 1),
    (".*", ".*", "429", 0, 10, 3),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault[2]}-{fault[0]}-{fault[1].strip('/')}")
def test_a_fault_that_passes_changes_nothing(
    proxy: faultproxy.Proxy, undisturbed: pa.Table, out: StoragePath, fault: tuple[str, str, str, float, int, int]
) -> None:
    method, path, action, value, skip, count = fault
    rule = proxy.add(method, path, action, value, skip=skip, count=count)
    books = run(out)
    assert rule.hits == count, "the fault was not met"
    assert rows_of(out).equals(undisturbed) and len(parts_of(out)) == UNITS
    assert verify(out)[-1] == books.line


STAYING = [
    ("GET", "/d/", "503", 0, "busy"),  # while it plans: nothing is begun
    ("GET", "/d/", "expired", 0, "expired"),
    ("GET", "list-type=2", "reset", 0, "busy"),
    ("PUT", "/part-", "503", 1, "busy"),
    ("PUT", "/part-", "429", 2, "busy"),
    ("PUT", "/part-", "hang", 3, "busy"),
    ("PUT|HEAD|GET", "/part-", "expired", 4, "expired"),
    (".*", ".*", "expired", 40, "expired"),
]


@pytest.mark.parametrize("fault", STAYING, ids=lambda fault: f"{fault[2]}-{fault[0]}-{fault[1].strip('/')}-{fault[3]}")
def test_a_fault_that_stays_stops_in_words_and_the_next_run_finishes(
    proxy: faultproxy.Proxy,
    undisturbed: pa.Table,
    out: StoragePath,
    fault: tuple[str, str, str, int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, path, action, skip, word = fault
    if word == "busy":
        monkeypatch.setenv(s3_client.PATIENCE, "0.3")
    monkeypatch.setattr(runner, "RETRY_AFTER", (0.01,))
    proxy.add(method, path, action, skip=skip)
    lines: list[str] = []
    with pytest.raises(MeddxError) as caught:
        run(out, lines)
    assert isinstance(caught.value, StorageError | IncompleteError), caught.value
    assert caught.value.exit_code == (5 if isinstance(caught.value, IncompleteError) else 1) and caught.value.next_step
    assert word in "\n".join([*lines, str(caught.value)])
    proxy.heal()
    monkeypatch.setenv(s3_client.PATIENCE, "12")
    before = parts_of(out)
    books = run(out)
    assert rows_of(out).equals(undisturbed) and verify(out)[-1] == books.line
    assert parts_of(out).items() >= before.items(), "what was published stays as it is"


def test_answers_that_never_come_do_not_undo_what_was_published(
    proxy: faultproxy.Proxy, undisturbed: pa.Table, out: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part stands, and nobody hears of it: the next attempt finds it there."""
    monkeypatch.setenv(s3_client.PATIENCE, "0.3")
    monkeypatch.setattr(runner, "RETRY_AFTER", (0.01,))
    proxy.add("PUT", "/part-", "lost")
    books = run(out)
    assert rows_of(out).equals(undisturbed) and len(parts_of(out)) == UNITS and verify(out)[-1] == books.line


FLIPS = [("/d/f0-0", 100_000), ("/d/f0-1", 300_000)]  # beyond the footer, which is read in 64 kB from the end


@pytest.mark.parametrize(("path", "at"), FLIPS)
def test_a_flipped_byte_on_the_way_is_read_again(
    proxy: faultproxy.Proxy, undisturbed: pa.Table, out: StoragePath, path: str, at: int
) -> None:
    flip_in_the_first_large_answer(proxy, path, at)
    run(out)
    assert rows_of(out).equals(undisturbed)


def test_twin_who_reads_once_quarantines_healthy_rows(
    proxy: faultproxy.Proxy, undisturbed: pa.Table, out: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ATTEMPTS", 1)
    flip_in_the_first_large_answer(proxy, "/d/f0-0", 100_000)
    with pytest.raises(MeddxError, match="page_unreadable 50"):
        run(out)
    assert "page_unreadable" in pc.unique(rows_of(out)["error"]).to_pylist()


def flip_in_the_first_large_answer(proxy: faultproxy.Proxy, path: str, at: int) -> None:
    """Footers are asked for while it plans and again when the file is opened; the next answer holds rows."""
    proxy.add("GET", path, "flip", at, count=3)


def test_a_flipped_byte_in_a_footer_breaks_neither_a_source_nor_a_part(
    proxy: faultproxy.Proxy, undisturbed: pa.Table, out: StoragePath
) -> None:
    rule = proxy.add("GET", "/d/f0-0", "flip", (1 << 16) - 100, count=1)  # the end of a file is asked for in 64 kB
    run(out)
    assert rule.hits == 1 and rows_of(out).equals(undisturbed)
    for info in out.list(".parquet", recursive=False):
        proxy.add("GET", info.path.name, "flip", info.size - 100, count=1)
    assert verify(out)


def test_twin_who_looks_once_leaves_a_healthy_file_out_for_ever(
    proxy: faultproxy.Proxy, out: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_read_footer", lambda root, path, info: sources._look_at_footer(path, info))
    proxy.add("GET", "/d/f0-0", "flip", (1 << 16) - 100, count=1)
    for _ in range(2):  # with the fault and, as the plan stays, without it
        with pytest.raises(MeddxError, match="files not opened: 1 of 2"):
            run(out)
        proxy.heal()


def test_the_archive_stands_in_a_bucket_that_is_gone(out: StoragePath) -> None:
    with pytest.raises(MeddxError, match="there is no such data"):
        score(helper.BUNDLE, StoragePath.of("s3://gone/d"), out, options=helper.options(), bundles=helper.PlainBundles())


def test_exit_code_of_the_command(proxy: faultproxy.Proxy, undisturbed: pa.Table, out: StoragePath, tmp_path: Path) -> None:
    proxy.add("PUT", "/part-", "expired", skip=1)
    code, said = helper.score_in_child(DATA, out)  # type: ignore[arg-type]
    assert code in (1, 5) and "expired" in said and "Traceback" not in said
    proxy.heal()
    run(out)
    assert rows_of(out).equals(undisturbed)

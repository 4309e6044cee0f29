"""Very many small files, and one very long table: planning lists and looks at footers, reading goes on ahead, the order stays."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import picture_helper as pictures
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.score import whole, worker
from meddx.score.audit import read_predictions, verify
from meddx.score.owner import Owner
from meddx.score.plan import Generation, Plan, draw_up
from meddx.score.rows import Chunk
from meddx.score.run import score
from meddx.score.sources import PICTURE_BYTES, list_data, read_footers
from meddx.score.units import MB
from meddx.storage import StoragePath

FILES = int(os.environ.get("MEDDX_MANY_FILES", "5000"))  # `make soak` asks for 200,000
FOLDER_FILES = 2000
SECONDS_A_FILE, BYTES_A_FILE = 1e-3, 6000  # ten and four times of what was measured: a mistake that grows with n^2 is far beyond


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny PNG files under names of their own; equal ones share their bytes on the disk."""
    root = tmp_path_factory.mktemp("many")
    first = pictures.write(root / "first", {f"{seed}.png": pictures.picture(seed, shape=(8, 8)) for seed in range(100)})
    data = root / "data"
    for number in range(FILES):
        folder = data / f"{number // FOLDER_FILES:03d}"
        if number % FOLDER_FILES == 0:
            folder.mkdir(parents=True)
        os.link(first / f"{number % 100}.png", folder / f"p{number:06d}.png")
    yield data


@pytest.mark.slow
def test_a_plan_of_many_pictures(many: Path) -> None:
    """Listed once, written, and loaded again, within bounds that only a wrong algorithm breaks."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    listing = list_data(StoragePath.of(many))
    made = draw_up(None, Owner("b", {}, {}), listing.root, *read_footers(listing.root, listing.files, listing.family), 48 * MB)
    data = made.encode()
    assert Generation.decode(data) == made and len(data) < 100 * FILES
    plan = Plan((made,), ("digest",))
    assert not plan.new_files(listing.files) and sum(unit.rows for unit in plan.units.values()) == plan.rows == FILES
    assert time.process_time() - start < SECONDS_A_FILE * FILES + 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss) << 10 < BYTES_A_FILE * FILES + (64 << 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_pictures_are_scored_and_found_finished(tmp_path: Path, many: Path) -> None:
    bundle, out = pictures.pixel_bundle(tmp_path / "b"), StoragePath.of(tmp_path / "o")
    books = score(bundle, StoragePath.of(many), out, options=helper.options(unit_mb=16), log=lambda _: None)
    assert (books.counts.scored, books.units) == (FILES, -(-FILES * PICTURE_BYTES // (16 << 20)))
    verify(out)
    found = read_predictions(out)
    assert pc.count_distinct(found["case_id"]).as_py() == FILES and pc.count_distinct(found["probability"]).as_py() == 100
    lines: list[str] = []
    score(bundle, StoragePath.of(many), out, options=helper.options(unit_mb=16), log=lines.append)
    assert lines[0].startswith("nothing to do")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_thousand_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "d").mkdir()
    for number in range(5000):
        helper.write_file(tmp_path / "d" / f"f{number:04d}.parquet", rng, f"{number:04d}", 4)
    out = StoragePath.of(tmp_path / "o")
    books = score(
        helper.BUNDLE, StoragePath.of(tmp_path / "d"), out, options=helper.options(), bundles=helper.PlainBundles(), log=lambda _: None
    )
    assert (books.files, books.read, books.units) == (5000, 20_000, 2)
    verify(out)
    source = pq.read_table(tmp_path / "d").sort_by("case_id")
    found = read_predictions(out).sort_by("case_id")
    inside = np.asarray(pc.greater_equal(source["x"], -3))
    assert found["case_id"].equals(source["case_id"])
    assert np.allclose(found["probability"].to_numpy()[inside], 1 / (1 + np.exp(-source["x"].to_numpy()[inside])))


def test_files_are_read_ahead_and_answered_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads, one prediction for all files of one schema, and the plan's order."""
    folder = helper.archive(tmp_path / "d", files=30, rows=5)
    pq.write_table(pa.table({"case_id": ["other"], "x": pa.array([1], pa.int32())}), folder / "f0-15b.parquet")
    threads, asked = set(), []
    real = worker.RowReader.rows
    monkeypatch.setattr(worker.RowReader, "rows", lambda *args: (threads.add(threading.get_ident()), real(*args))[1])

    class Counting(helper.PlainBundle):
        def predict(self, rows: pa.Table, **more: object) -> pa.Table:
            asked.append(rows.num_rows)
            return super().predict(rows)

    listing = list_data(StoragePath.of(folder))
    made = draw_up(None, Owner("b", {}, {}), listing.root, *read_footers(listing.root, listing.files), MB)
    (unit,) = made.units
    found = worker.UnitScorer(Counting(), listing.root, ("x",)).score(unit)
    ids = [pq.read_table(folder / piece.path)["case_id"].to_pylist() for piece in unit.pieces]
    assert found["case_id"].to_pylist() == [one for some in ids for one in some]
    assert len(asked) == 3 and sum(asked) == 151 and threading.get_ident() not in threads


def test_what_a_thread_meets_ends_the_unit(tmp_path: Path) -> None:
    def read(number: int) -> list[Chunk]:
        if number == 20:
            raise OSError("gone")
        return [Chunk(0, 1, None, "x")]

    chunks = whole.read_ahead(40, read)
    with pytest.raises(OSError, match="gone"):
        list(chunks)


def test_neighbours_are_joined_up_to_a_batch() -> None:
    def chunk(rows: int, error: str = "", kind: pa.DataType | None = None) -> Chunk:
        return Chunk(0, rows, pa.table({"x": pa.array(range(rows), kind or pa.int64())}), error)

    given = [
        chunk(2),
        chunk(3),
        chunk(1, "bad"),
        chunk(1, "bad"),
        chunk(4),
        chunk(4),
        chunk(4),
        chunk(1, "", pa.int32()),
        Chunk(0, 9, None, "bad"),
    ]
    found = list(whole.joined(given, 8))
    assert [(one.rows, one.error) for one in found] == [(5, ""), (2, "bad"), (8, ""), (4, ""), (1, ""), (9, "bad")]
    assert found[0].table["x"].to_pylist() == [0, 1, 0, 1, 2]


@pytest.mark.slow
def test_planning_ten_million_rows_reads_only_the_footer(tmp_path: Path) -> None:
    rows = 10_000_000
    column = pa.array(np.random.default_rng(0).integers(0, 1 << 40, 1_000_000))
    table = pa.table({"case_id": pa.chunked_array([column] * 10), "x": pa.chunked_array([column] * 10)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=250_000, compression="none", use_dictionary=False)
    listing = list_data(StoragePath.of(tmp_path))
    before = _bytes_read()
    files, _ = read_footers(listing.root, listing.files)
    made = draw_up(None, Owner("b", {}, {}), listing.root, files, [], 48 * MB)
    assert sum(unit.rows for unit in made.units) == rows and len(made.units) > 10
    assert _bytes_read() - before < 1 << 20 < (tmp_path / "a.parquet").stat().st_size // 100


def _bytes_read() -> int:
    page = Path("/proc/self/io")
    if not page.exists():
        pytest.skip("only Linux counts what a process reads")
    return int(page.read_text().split("rchar: ")[1].split()[0])

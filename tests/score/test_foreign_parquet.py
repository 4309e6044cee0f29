"""Parquet as other programs write it: every row is scored as it should be, or quarantined with a reason, and the books balance."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.score.audit import read_predictions, verify
from meddx.score.books import Books
from meddx.score.run import score
from meddx.storage import StoragePath

N = 400


@pytest.fixture(scope="module")
def cases() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({
        "case_id": [f"c{row:04d}" for row in range(N)],
        "patient_id": [f"p{row // 2}" for row in range(N)],
        "size": rng.normal(size=N),
        "site": rng.choice(["north", "south"], N).tolist(),
        "age": np.where(np.arange(N) % 10 == 0, 10.0, 50.0),
    })  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, cases: pa.Table) -> StoragePath:
    return helper.logistic_bundle(StoragePath.of(tmp_path_factory.mktemp("bundle") / "logistic"), cases)


@pytest.fixture(scope="module")
def expected(bundle: StoragePath, cases: pa.Table) -> pa.Table:
    from meddx.predict.bundle import Bundle

    return Bundle.load(bundle).predict(cases).sort_by("case_id").replace_schema_metadata(None)


Scored = Callable[[Path], tuple[Books, pa.Table]]


@pytest.fixture
def scored(bundle: StoragePath, tmp_path: Path) -> Scored:
    """Score a folder; the books, and the rows by case_id, both proved."""

    def run(folder: Path) -> tuple[Books, pa.Table]:
        out = StoragePath.of(tmp_path / "o")
        books = score(bundle, StoragePath.of(folder), out, options=helper.options(max_rejected=1.0), log=lambda _: None)
        verify(out)
        return books, read_predictions(out).sort_by("case_id")

    return run


def put(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def cast(table: pa.Table, **types: pa.DataType) -> pa.Table:
    for name, kind in types.items():
        column = table[name]
        for step in [pa.int32(), pa.string()] if pa.types.is_floating(column.type) and not pa.types.is_floating(kind) else []:
            column = column.cast(step) if kind != pa.int8() else column
        table = put(table, name, column.cast(kind))
    return table


WRITTEN: dict[str, dict[str, Any]] = {
    **{codec: {"compression": codec} for codec in ("snappy", "gzip", "zstd", "lz4", "brotli", "none")},
    "page v1": {"data_page_version": "1.0", "data_page_size": 500},
    "page v2": {"data_page_version": "2.0", "data_page_size": 500},
    "one row a group": {"row_group_size": 1},
    "no dictionary": {"use_dictionary": False, "column_encoding": {"case_id": "DELTA_BYTE_ARRAY", "size": "BYTE_STREAM_SPLIT"}},
    "no Arrow schema": {"store_schema": False},
    "no statistics": {"write_statistics": False},
    "version 1.0": {"version": "1.0"},
}


@pytest.mark.parametrize("how", WRITTEN)
def test_every_way_to_write_the_same_rows(tmp_path: Path, cases: pa.Table, expected: pa.Table, scored: Scored, how: str) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(cases, tmp_path / "d" / "a.parquet", **WRITTEN[how])
    assert scored(tmp_path / "d")[1].select(expected.column_names).equals(expected)


TEXT = ("case_id", "patient_id", "site")
TYPED: dict[str, Callable[[pa.Table], pa.Table]] = {
    "dictionaries": lambda t: pa.table({name: t[name].dictionary_encode() for name in t.column_names}),
    "large strings": lambda t: cast(t, **dict.fromkeys(TEXT, pa.large_string())),
    "string views": lambda t: cast(t, **dict.fromkeys(TEXT, pa.string_view())),
    "binary": lambda t: cast(t, **dict.fromkeys(TEXT, pa.binary())),
    "large binary": lambda t: cast(t, **dict.fromkeys(TEXT, pa.large_binary())),
    "binary views": lambda t: put(t, "case_id", t["case_id"].cast(pa.binary()).cast(pa.binary_view())),
    "fixed binary ids": lambda t: put(t, "case_id", t["case_id"].cast(pa.binary()).cast(pa.binary(5))),
    "a whole number": lambda t: put(t, "age", t["age"].cast(pa.int32())),
    "a byte": lambda t: put(t, "age", t["age"].cast(pa.int8())),
    "half floats": lambda t: put(t, "age", t["age"].cast(pa.float16())),
    "a number as text": lambda t: put(t, "age", t["age"].cast(pa.int32()).cast(pa.string())),
    "a number as bytes": lambda t: put(t, "age", t["age"].cast(pa.int32()).cast(pa.string()).cast(pa.binary())),
    "digits as text": lambda t: put(t, "size", pa.array([repr(one) for one in t["size"].to_pylist()])),
    "decimals": lambda t: put(t, "size", t["size"].cast(pa.decimal128(30, 18), safe=False)),
    "another order": lambda t: t.select(t.column_names[::-1]),
    "more columns": lambda t: t.append_column("size2", t["size"]).append_column("a.b", t["size"]),
    "nested beside": lambda t: t.append_column("n", pa.array([[{"a": [1, 2], "m": {"b": 1}}]] * N)).append_column(
        "map", pa.array([[("k", 1)]] * N, pa.map_(pa.string(), pa.int32()))
    ),
}


@pytest.mark.parametrize("how", TYPED)
def test_every_type_of_the_same_values(tmp_path: Path, cases: pa.Table, expected: pa.Table, scored: Scored, how: str) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(TYPED[how](cases), tmp_path / "d" / "a.parquet")
    assert scored(tmp_path / "d")[1].select(expected.column_names).equals(expected)


def test_each_file_its_own_schema(tmp_path: Path, cases: pa.Table, expected: pa.Table, scored: Scored) -> None:
    """Types, order and columns differ; two files have no rows, one has an empty row group, stamps are int96, one has pandas' index."""
    folder = tmp_path / "d"
    folder.mkdir()
    parts = [cases.slice(start, 80) for start in range(0, N, 80)]
    stamped = parts[1].append_column("at", pa.array([datetime.datetime(2020, 1, 1)] * 80))
    pq.write_table(parts[0], folder / "a.parquet")
    pq.write_table(
        TYPED["another order"](put(stamped, "age", stamped["age"].cast(pa.int32()))), folder / "b.pq", use_deprecated_int96_timestamps=True
    )
    pq.write_table(put(parts[2], "age", parts[2]["age"].cast(pa.int32()).cast(pa.string())), folder / "c.parquet")
    parts[3].to_pandas().set_index("case_id").to_parquet(folder / "d.parquet")
    with pq.ParquetWriter(folder / "e.parquet", cases.schema) as writer:
        for piece in (parts[4].slice(0, 0), parts[4].slice(0, 40), parts[4].slice(0, 0), parts[4].slice(40)):
            writer.write_table(piece)
    pq.write_table(cases.slice(0, 0), folder / "f.parquet")
    pq.ParquetWriter(folder / "g.parquet", cases.schema).close()
    books, found = scored(folder)
    assert (books.files, books.read, books.not_opened) == (7, N, 0)
    assert found.select(expected.column_names).equals(expected)


IDS: dict[str, tuple[Any, str]] = {
    "whole numbers": (pa.array(range(N)), "17"),
    "floats": (pa.array(np.arange(N, dtype=float)), "17"),
    "decimals": (pa.array([decimal.Decimal(row) for row in range(N)], pa.decimal128(20, 0)), "17"),
    "uuid": (pa.array([uuid.UUID(int=row).bytes for row in range(N)], pa.uuid()), str(uuid.UUID(int=17))),
    "days": (pa.array([datetime.date(2020, 1, 1) + datetime.timedelta(row) for row in range(N)]), "2020-01-18"),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_other_types_become_text(tmp_path: Path, cases: pa.Table, expected: pa.Table, scored: Scored, kind: str) -> None:
    (tmp_path / "d").mkdir()
    ids, seventeenth = IDS[kind]
    pq.write_table(put(cases, "case_id", ids), tmp_path / "d" / "a.parquet")
    found = scored(tmp_path / "d")[1].sort_by("row")
    assert found["case_id"][17].as_py() == seventeenth
    assert found["probability"].equals(expected["probability"])


def test_ids_that_are_none_cost_their_row_and_no_other(tmp_path: Path, cases: pa.Table, expected: pa.Table, scored: Scored) -> None:
    (tmp_path / "d").mkdir()
    ids = [one.encode() for one in cases["case_id"].to_pylist()]
    bad = {3: (b"\xff\xfe", "id_unreadable"), 5: (b"", "id_missing"), 7: (None, "id_missing")}
    patients = [
        "\udcff".encode("utf-8", "surrogateescape") if row == 9 else one.encode() for row, one in enumerate(cases["patient_id"].to_pylist())
    ]
    table = put(cases, "case_id", pa.array([bad[row][0] if row in bad else one for row, one in enumerate(ids)]))
    pq.write_table(put(table, "patient_id", pa.array(patients)), tmp_path / "d" / "a.parquet")
    books, found = scored(tmp_path / "d")
    found = found.sort_by("row")
    assert books.counts.reasons == {"id_missing": 2, "id_unreadable": 1, "patient_unreadable": 1}
    assert {row: found["error"][row].as_py() for row in bad} == {row: reason for row, (_, reason) in bad.items()}
    assert found["case_id"][9].as_py() == "c0009" and found["patient_id"][9].as_py() is None
    good = [row for row in range(N) if row not in (*bad, 9)]
    assert found.take(good)["probability"].equals(expected.take(good)["probability"])


REFUSED: dict[str, Callable[[pa.Table], Any]] = {
    "list": lambda t: pa.array([[1.0]] * N),
    "struct": lambda t: pa.array([{"a": 1.0}] * N),
    "binary that is no text": lambda t: pa.array([b"\xff\x00"] * N),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_column_that_means_nothing_is_refused_by_row(tmp_path: Path, cases: pa.Table, scored: Scored, kind: str) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(put(cases, "size", REFUSED[kind](cases)), tmp_path / "d" / "a.parquet")
    pq.write_table(cases, tmp_path / "d" / "b.parquet")
    books, found = scored(tmp_path / "d")
    assert books.counts.quarantined in (N, N - N // 10) and books.counts.scored == N - N // 10
    assert found["case_id"].null_count == 0


def test_columns_that_some_files_lack(tmp_path: Path, cases: pa.Table, scored: Scored) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(cases.slice(0, 100).drop_columns(["case_id"]), tmp_path / "d" / "a.parquet")
    pq.write_table(cases.slice(100, 100).drop_columns(["size"]), tmp_path / "d" / "b.parquet")
    pq.write_table(cases.slice(200, 100).drop_columns(["patient_id"]), tmp_path / "d" / "c.parquet")
    pq.write_table(cases.slice(300, 100).select(["site"]), tmp_path / "d" / "d.parquet")
    twice = pa.Table.from_arrays([*cases.slice(0, 10).columns, cases["size"].slice(0, 10)], names=[*cases.column_names, "size"])
    pq.write_table(twice, tmp_path / "d" / "e.parquet")
    ids = pa.Table.from_arrays([cases["case_id"], *cases.columns], names=["case_id", *cases.column_names]).slice(0, 10)
    pq.write_table(ids, tmp_path / "d" / "f.parquet")
    books, found = scored(tmp_path / "d")
    assert books.counts.reasons == {"column_missing": 300, "input_refused": 10, "id_unreadable": 10} and books.counts.scored == 90
    assert found["case_id"].null_count == 210


STREAM = """
import re, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import scoring_helper as helper
from meddx.score import rows
from meddx.score.run import score
from meddx.storage import StoragePath
rows.HELD_BYTES = int(sys.argv[3])
data, out = StoragePath.of(sys.argv[1]), StoragePath.of(sys.argv[2])
books = score(helper.BUNDLE, data, out, options=helper.options(unit_mb=8), bundles=helper.PlainBundles())
print(books.read, books.units, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
"""


@pytest.mark.slow
def test_one_row_group_of_many_pictures_is_streamed(tmp_path: Path) -> None:
    """400 MB in one row group; the twin, which fetches a row group at once as pyarrow does by default, needs them all."""
    rng, megabytes = np.random.default_rng(0), 400
    block = pa.array([rng.bytes(2048) for _ in range(8192)], pa.binary())
    note = pa.chunked_array([block] * (megabytes // 16))
    table = pa.table({"case_id": [f"c{row}" for row in range(len(note))], "x": rng.normal(size=len(note)), "note": note})
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d" / "a.parquet", row_group_size=len(note), use_dictionary=False, compression="none")
    del table, note
    peaks = []
    for held in (64 << 20, 1 << 40):
        command = [sys.executable, "-c", STREAM.format(here=str(helper.HERE)), str(tmp_path / "d"), str(tmp_path / f"o{held}"), str(held)]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()
        read, units, peak = (int(one) for one in said[-3:])
        assert read == 8192 * (megabytes // 16) and units > 40
        peaks.append(peak >> 10)
    assert peaks[0] + 200 < peaks[1], peaks

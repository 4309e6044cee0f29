"""Rows keep their number whatever lies between them, and bad bytes stay findable in every encoding."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from meddx.ingest import tables
from meddx.ingest.block import Damaged
from meddx.ingest.options import SourceOptions
from meddx.ingest.text import detect
from meddx.storage import StoragePath


def read_all(path, **keys):
    source = SourceOptions(path=str(path), **keys)
    file = StoragePath.of(path).info()
    batches = list(tables.batches(file, detect(file, source, "csv"), source))
    cells = [cell for batch in batches for cell in batch.table.column(0).to_pylist()]
    return cells, np.concatenate([batch.rows for batch in batches]).tolist(), [row for batch in batches for row in batch.bad_widths]


def test_row_numbers_step_over_bad_rows_and_quoted_newlines(csv_file):
    path = csv_file('a,b\n1,x\n2\n"3\n3",y\n4,y,z\n\n5,"q""q"\n6,y\n7')
    assert read_all(path) == ([b"1", b"3\n3", b"5", b"6"], [1, 3, 5, 6], [2, 4, 7])


@pytest.mark.parametrize(
    "keys", [{"skip_rows": 2}, {"header": False, "columns": ["a", "b"]}, {"skip_rows": 2, "header": False, "columns": ["a", "b"]}]
)
def test_row_numbers_do_not_depend_on_what_stands_before_them(csv_file, keys):
    lead = "one line\nanother\n" * int("skip_rows" in keys)
    header = "a,b\n" * keys.get("header", True)
    assert read_all(csv_file(lead + header + "1,x\n2\n3,x\n"), **keys) == ([b"1", b"3"], [1, 3], [2])


def test_row_numbers_hold_over_many_blocks(csv_file, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 4096)
    lines = [f"{i},x" if i % 1000 else "bad" for i in range(1, 20_001)]
    cells, rows, bad = read_all(csv_file("a,b\n" + "\n".join(lines) + "\n"))
    assert [int(cell) for cell in cells] == rows
    assert bad == list(range(1000, 20_001, 1000))


@pytest.mark.parametrize("encoding", ["latin-1", "gb18030", "utf-16", "utf-8-sig"])
def test_other_encodings_come_out_as_utf8(csv_file, encoding):
    text = "编号,b\n肺炎,1\n" if encoding != "latin-1" else "ä,b\nKöln,1\n"
    assert read_all(csv_file(text, encoding))[0] == [("肺炎" if encoding != "latin-1" else "Köln").encode()]


def test_bad_bytes_in_a_transcoded_file_are_not_utf8_afterwards(csv_file):
    body = "编号,b\n" + "肺炎,1\n" * 30
    cells, _, _ = read_all(csv_file(body.encode("gb18030") + b"\xff\xff,1\n"))
    assert cells[:30] == ["肺炎".encode()] * 30
    with pytest.raises(UnicodeDecodeError):
        cells[30].decode()


def test_a_transcoding_stream_gives_the_same_in_any_piece_size(csv_file):
    import io

    text = "肺炎,1\n" * 1000
    whole = tables._Transcoded(io.BytesIO(text.encode("gb18030")), "gb18030")
    pieces = b""
    while piece := whole.read(7):
        pieces += piece
    assert pieces.decode() == text


def test_a_quote_that_is_never_closed_is_named(csv_file, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 4096)
    with pytest.raises(Damaged, match="quote that is never closed"):
        read_all(csv_file('a,b\n1,2\n"x,2\n' + "1,2\n" * 5000))


def test_a_gzip_that_breaks_off_late_is_damaged(tmp_path):
    rng = np.random.default_rng(0)
    data = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % tuple(pair) for pair in rng.integers(0, 10**9, (200_000, 2))))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(data[:-1000])
    with pytest.raises(Damaged):
        read_all(path)

"""Parquet that is cut, damaged, encrypted or none at all: every row that can be read is scored, the others and the files are named."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
import scoring_helper as helper

from meddx.score import rows
from meddx.score.audit import read_predictions, verify
from meddx.score.books import Books
from meddx.score.run import score
from meddx.storage import StoragePath

N = 400


def table(name: str = "c") -> pa.Table:
    more = {"list": [[1, 2]] * N, "struct": [{"a": b"x"}] * N, "note": pa.array([bytes([row % 251]) * 20 for row in range(N)])}
    ids = [f"{name}{row:04d}" for row in range(N)]
    return pa.table({"case_id": ids, "patient_id": ids, "x": np.linspace(-2, 2, N), **more})


def written(**options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table(), sink, row_group_size=100, **{"write_page_checksum": True, **options})
    return sink.getvalue()


def footer_of(data: bytes) -> slice:
    (length,) = struct.unpack("<I", data[-8:-4])
    return slice(len(data) - 8 - length, len(data) - 8)


def put(data: bytes, where: slice, content: bytes) -> bytes:
    return data[: where.start] + content + data[where.stop :]


def miscounted(data: bytes) -> bytes:
    """One flipped bit, and the file's number of rows is not the sum of its groups'."""
    for place in range(footer_of(data).start, footer_of(data).stop):
        changed = put(data, slice(place, place + 1), bytes([data[place] ^ 2]))
        try:
            about = pq.ParquetFile(io.BytesIO(changed)).metadata
            groups = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        except (OSError, ValueError):
            continue
        if sum(groups) != about.num_rows and min(groups) > 0:
            return changed
    raise AssertionError("no such bit")


def run(tmp_path: Path, files: dict[str, bytes]) -> tuple[Books, pa.Table]:
    """A good file beside the others."""
    folder = tmp_path / "d"
    folder.mkdir()
    pq.write_table(table("good"), folder / "good.parquet")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    out = StoragePath.of(tmp_path / "o")
    books = score(
        helper.BUNDLE,
        StoragePath.of(folder),
        out,
        options=helper.options(max_rejected=1.0),
        bundles=helper.PlainBundles(),
        log=lambda _: None,
    )
    verify(out)
    found = read_predictions(out)
    good = [one for one in zip(found["case_id"].to_pylist(), found["status"].to_pylist(), strict=True) if str(one[0]).startswith("good")]
    assert good == [(f"good{row:04d}", "scored") for row in range(N)]
    return books, found


def test_files_whose_rows_nobody_can_count(tmp_path: Path) -> None:
    whole = written()
    footer = footer_of(whole)
    rng = np.random.default_rng(0)
    files = {
        "noise.parquet": put(whole, footer, rng.bytes(footer.stop - footer.start)),
        "zeros.parquet": put(whole, footer, bytes(footer.stop - footer.start)),
        "long.parquet": whole[:-8] + struct.pack("<I", 0xFFFFFFFF) + b"PAR1",
        "none.parquet": whole[:-8] + struct.pack("<I", 0) + b"PAR1",
        "half.parquet": whole[: len(whole) // 2],
        "magic.parquet": b"PAR1PAR1",
        "text.parquet": b"case_id,x\n1,2\n",
        "empty.parquet": b"",
        "count.parquet": miscounted(whole),
    }
    books, _ = run(tmp_path, files)
    assert (books.not_opened, books.files, books.read, books.counts.scored) == (9, 10, N, N)


def test_a_file_that_lost_its_middle_keeps_its_rows(tmp_path: Path) -> None:
    whole = written()
    books, found = run(tmp_path, {"cut.parquet": whole[:500] + whole[1500:]})
    assert books.read == 2 * N and books.counts.quarantined == books.counts.reasons["page_unreadable"] > 0
    assert set(found["error"].drop_null().to_pylist()) == {"page_unreadable"}


class Keys(pe.KmsClient):
    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


def encrypted(path: Path, plain_footer: bool) -> bytes:
    factory = pe.CryptoFactory(Keys)
    how = pe.EncryptionConfiguration(footer_key="f", column_keys={"k": ["x"]}, plaintext_footer=plain_footer)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), how)
    with pq.ParquetWriter(path, table().schema, encryption_properties=properties) as writer:
        writer.write_table(table())
    return path.read_bytes()


def test_encrypted_files_and_columns(tmp_path: Path) -> None:
    files = {"closed.parquet": encrypted(tmp_path / "e", False), "column.parquet": encrypted(tmp_path / "e", True)}
    books, found = run(tmp_path, files)
    assert books.not_opened == 1 and books.counts.reasons == {"page_unreadable": N}
    assert found["case_id"].null_count == 0  # the ids were not encrypted


def test_asking_pyarrow_for_an_encrypted_column_would_end_the_night(tmp_path: Path) -> None:
    """The twin of not asking the footer where columns lie: the process aborts, whatever is caught."""
    encrypted(tmp_path / "a.parquet", True)
    script = "import sys, pyarrow.parquet as pq\ntry: pq.read_metadata(sys.argv[1]).row_group(0).column(2)\nexcept BaseException: pass"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.parquet")], capture_output=True, timeout=60).returncode == -6


@pytest.mark.parametrize("checksums", [True, False])
def test_corrupt_pages(tmp_path: Path, checksums: bool) -> None:
    """With checksums the flipped byte is seen; without, only what no longer decodes."""
    data = bytearray(written(write_page_checksum=checksums, compression="snappy", use_dictionary=False))
    chunk = pq.read_metadata(io.BytesIO(data)).row_group(1).column(2)
    for at in range(40):
        data[chunk.data_page_offset + chunk.total_compressed_size // 2 + at] ^= 0xFF
    books, found = run(tmp_path, {"a.parquet": bytes(data)})
    wrong = books.counts.quarantined
    assert wrong == 100 if checksums else wrong in (0, 100)
    assert found["case_id"].null_count == 0


def text(values: list[bytes]) -> pa.Array:
    """As a writer does that does not look: text that is no UTF-8."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


def test_text_that_is_none(tmp_path: Path) -> None:
    """Parquet promises UTF-8 and nobody checks it.  Such an id in our own files would break every reader: the twin."""
    ids = text([b"a", b"b\xff", b"c", b"d"])
    notes = text([b"a", b"b", b"\xe9t\xe9", b"d"])
    pq.write_table(pa.table({"case_id": ids, "x": [0.0] * 4, "note": notes}), tmp_path / "a.parquet")
    with pytest.raises(UnicodeDecodeError):
        pq.read_table(tmp_path / "a.parquet")["case_id"].to_pylist()
    books, found = run(tmp_path, {"a.parquet": (tmp_path / "a.parquet").read_bytes()})
    assert books.counts.reasons == {"id_unreadable": 1, "text_unreadable": 1}
    assert sorted(one for one in found["case_id"].drop_null().to_pylist() if len(one) == 1) == ["a", "c", "d"]


HOW = [{}, {"write_page_checksum": False, "compression": "none"}, {"write_page_checksum": False, "data_page_version": "2.0"}]


@pytest.mark.slow
def test_six_hundred_damaged_files(tmp_path: Path) -> None:
    """Some flipped bits anywhere: nothing crashes or hangs, and each planned row stands in the books."""
    rng = np.random.default_rng(0)
    files = {}
    for number in range(600):
        data = bytearray(written(**HOW[number % 3]))
        footer = footer_of(bytes(data))
        low, high = (footer.start, footer.stop) if number % 2 else (4, footer.start)
        for place in rng.integers(low, high, int(rng.integers(1, 4))):
            data[place] ^= 1 << int(rng.integers(8))
        files[f"f{number:03d}.parquet"] = bytes(data)
    books, _ = run(tmp_path, files)
    assert not books.unbalanced and books.counts.rows == books.read and 50 < books.not_opened < 400


class Flaky(io.BytesIO):
    """Bytes on their way: once, one of them arrives changed."""

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self.at, self.changed = at, True

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        data = bytearray(super().read(size))
        if not self.changed and start <= self.at < start + len(data):
            self.changed = True
            data[self.at - start] ^= 0xFF
        return bytes(data)


@pytest.mark.parametrize("attempts", [2, 1])
def test_a_byte_that_was_lost_on_the_way_costs_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
    """With one attempt, the twin, the rows would be quarantined for ever."""
    data = written(use_dictionary=False)
    chunk = pq.read_metadata(io.BytesIO(data)).row_group(1).column(2)
    flaky = Flaky(data, chunk.data_page_offset + chunk.total_compressed_size // 2)
    (tmp_path / "a.parquet").write_bytes(data)
    monkeypatch.setattr(StoragePath, "open", lambda _: pa.PythonFile(flaky, mode="r"))
    monkeypatch.setattr(rows, "ATTEMPTS", attempts)
    reader = rows.RowReader(StoragePath.of(tmp_path / "a.parquet"), ("case_id", "x"), ("case_id",), 64)
    flaky.changed = False
    chunks = list(reader.rows(0, N))
    assert sum(one.rows for one in chunks) == N
    assert sum(one.rows for one in chunks if one.error) == (0 if attempts == 2 else 100)
    if attempts == 2:
        assert pa.concat_tables([one.table for one in chunks]).equals(table().select(["case_id", "x"]))

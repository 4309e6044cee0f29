"""The WFDB reader against bytes that are built here by hand, from the manuals header(5), signal(5) and annot(5)."""

from __future__ import annotations

import os
import struct
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError
from meddx.ingest import signal_annotations, signal_formats
from meddx.ingest.block import Reject
from meddx.ingest.find import Found
from meddx.ingest.headers import Unreadable
from meddx.ingest.options import SourceOptions
from meddx.ingest.signal_header import read_header
from meddx.ingest.wfdb import open_wfdb
from meddx.storage import StoragePath

CODES = {symbol: code for code, symbol in signal_annotations.SYMBOLS.items()}


def pack_212(values: Sequence[int]) -> bytes:
    """Two samples in three bytes, one nibble after the other: written apart from the reader's array code."""
    out = bytearray()
    for i in range(0, len(values), 2):
        first = values[i] & 0xFFF
        if i + 1 == len(values):
            return bytes(out) + bytes([first & 0xFF, first >> 8])
        second = values[i + 1] & 0xFFF
        out += bytes([first & 0xFF, (first >> 8) | ((second >> 8) << 4), second & 0xFF])
    return bytes(out)


def pack(code: str, values: Sequence[int]) -> bytes:
    if code == "212":
        return pack_212(values)
    if code == "24":
        return b"".join(struct.pack("<i", one)[:3] for one in values)
    if code in ("80", "160"):
        return struct.pack(f"<{len(values)}{'B' if code == '80' else 'H'}", *(one + (128 if code == "80" else 32768) for one in values))
    return struct.pack({"8": "<{}b", "16": "<{}h", "32": "<{}i", "61": ">{}h"}[code].format(len(values)), *values)


def annotations(beats: Sequence[tuple[int, str]], end: bool = True) -> bytes:
    """MIT annotations with a skip where the step does not fit 10 bits."""
    out, now = b"", 0
    for sample, symbol in beats:
        step = sample - now
        if not 0 <= step < 1024:
            high, low = step >> 16, step & 0xFFFF
            out += struct.pack("<HhH", 59 << 10, high, low)
            step = 0
        out += struct.pack("<H", CODES[symbol] << 10 | step)
        now = sample
    return out + (b"\0\0" if end else b"")


def aux(text: bytes) -> bytes:
    return struct.pack("<H", 63 << 10 | len(text)) + text + b"\0" * (len(text) % 2)


class Folder:
    """Writes records; a signal is whole numbers [leads][n]."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def record(
        self,
        name: str,
        signal: Sequence[Sequence[int]],
        beats: Sequence[tuple[int, str]] | None = None,
        leads: Sequence[str] = ("MLII", "V5"),
        code: str = "16",
        rate: str = "100",
        gain: str = "200(10)/mV",
    ) -> None:
        flat = [int(one) for frame in zip(*signal, strict=True) for one in frame]
        lines = [f"{name} {len(signal)} {rate} {len(signal[0])}"]
        lines += [f"{name}.dat {code} {gain} 16 0 {one[0] if len(one) else 0} 0 0 {lead}" for one, lead in zip(signal, leads, strict=False)]
        self.write(f"{name}.hea", "\n".join([*lines, "# 60 M"]))
        self.write(f"{name}.dat", pack(code, flat))
        if beats is not None:
            self.write(f"{name}.atr", annotations(beats))

    def write(self, name: str, content: str | bytes) -> None:
        (self.path / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "records")


def read(folder: Path, **signal: Any) -> tuple[pa.Table, list[Reject]]:
    """All rows and rejects; the books are balanced here."""
    root = StoragePath.of(folder)
    reader = open_wfdb(Found("wfdb", root, tuple(root.list())), SourceOptions(path=str(folder), format="wfdb", signal=signal))
    tables, rejects = [reader.schema.empty_table()], list(reader.rejects)
    for unit in reader.units:
        seen = 0
        for block in reader.read_unit(unit):
            assert len(block.rows) == block.table.num_rows == len(block.path_digests)
            seen += block.table.num_rows + len(block.rejects)
            tables.append(block.table)
            rejects += block.rejects
        assert seen
    table = pa.concat_tables(tables)
    assert reader.expected == table.num_rows + len(rejects)
    return table, rejects


def reasons(folder: Path, **signal: Any) -> list[str]:
    return sorted(one.reason for one in read(folder, **signal)[1])


def ramp(count: int = 400) -> list[list[int]]:
    return [list(range(count)), list(range(1000, 1000 + count))]


def test_a_record_is_one_row_in_physical_units(folder: Folder) -> None:
    folder.record("r1", ramp(5))
    table, rejects = read(folder.path)
    assert not rejects and table.num_rows == 1
    row = table.to_pylist()[0]
    assert (row["record"], row["case_key"], row["sample"], row["time_s"]) == ("r1", "r1:0", 0.0, 0.0)
    assert row["signal"]["rate"] == 100.0 and row["signal"]["leads"] == ["MLII", "V5"]
    np.testing.assert_allclose(row["signal"]["samples"], (np.array(ramp(5)) - 10) / 200, rtol=1e-6)


def test_beats_are_windows_whose_edges_repeat(folder: Folder) -> None:
    folder.record("r1", ramp(200), [(1, "N"), (2, "+"), (100, "V"), (150, "~"), (198, "N")], gain="1(0)/mV")
    table, _ = read(folder.path, rows="beats", before="0.03s", after="0.04s")
    assert table.column("symbol").to_pylist() == ["N", "V", "N"]
    assert table.column("sample").to_pylist() == [1.0, 100.0, 198.0]
    assert table.column("time_s").to_pylist() == [0.01, 1.0, 1.98]
    first, middle, last = (one["samples"][0] for one in table.column("signal").to_pylist())
    assert first == [0, 0, 0, 1, 2, 3, 4]
    assert middle == [97, 98, 99, 100, 101, 102, 103]
    assert last == [195, 196, 197, 198, 199, 199, 199]


def test_intervals_count_beats_only_and_are_null_at_the_ends(folder: Folder) -> None:
    folder.record("r1", ramp(1200), [(100, "N"), (150, "+"), (200, "A"), (250, "|"), (400, "N"), (500, "N")])
    rows = read(folder.path, rows="beats")[0].to_pylist()
    assert [row["rr_before"] for row in rows] == [None, 1.0, 2.0, 1.0]
    assert [row["rr_after"] for row in rows] == [1.0, 2.0, 1.0, None]
    assert [row["rr_before_2"] for row in rows] == [None, None, 1.0, 2.0]
    assert [row["rr_after_2"] for row in rows] == [2.0, 1.0, None, None]
    assert [row["rr_local"] for row in rows] == [None, 1.0, 1.5, pytest.approx(4 / 3)]
    assert [row["rr_record"] for row in rows] == [1.0] * 4
    assert [row["rr_ratio"] for row in rows] == [None, 1.0, pytest.approx(4 / 3), pytest.approx(0.75)]


def test_the_local_interval_is_of_the_ten_before(folder: Folder) -> None:
    places = np.cumsum([10, 300, *[50] * 12])
    folder.record("r1", ramp(1200), [(int(one), "N") for one in places])
    local = read(folder.path, rows="beats")[0].column("rr_local").to_pylist()
    assert local[10] == pytest.approx((300 + 9 * 50) / 10 / 100) and local[11] == local[13] == 0.5


def test_sliding_windows_leave_out_the_rest_and_keep_a_short_record(folder: Folder) -> None:
    folder.record("long", ramp(450), gain="1(0)/mV")
    folder.record("short", ramp(30))
    table, _ = read(folder.path, rows="sliding", length="2s", step="1s")
    assert table.column("case_key").to_pylist() == ["long:0", "long:100", "long:200", "short:0"]
    windows = table.column("signal").to_pylist()
    assert windows[1]["samples"][0] == list(range(100, 300)) and len(windows[3]["samples"][0]) == 30


def test_every_row_has_its_own_key_even_where_two_beats_share_a_sample(folder: Folder) -> None:
    folder.record("r1", ramp(), [(100, "N"), (100, "V"), (100, "N"), (200, "N")])
    table, _ = read(folder.path, rows="beats")
    assert table.column("case_key").to_pylist() == ["r1:100", "r1:100:2", "r1:100:3", "r1:200"]
    assert table.column("rr_ratio").to_pylist()[1] is None  # nothing by nothing


def test_records_of_different_folders_stay_apart(folder: Folder) -> None:
    for name in ("a", "b"):
        Folder(folder.path / name).record("r1", ramp(8))
    assert read(folder.path)[0].column("record").to_pylist() == ["a/r1", "b/r1"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"r1.dat": None}, "signal_missing"),
        ({"r1.atr": None}, "no_annotations"),
        ({"r1.atr": annotations([(5, "+"), (9, "~")])}, "no_annotations"),
        ({"r1.atr": b"\0\0"}, "no_annotations"),
        ({"r1.atr": annotations([(5, "N")], end=False)}, "annotations_unreadable"),
        ({"r1.atr": annotations([(5, "N")])[:-1]}, "annotations_unreadable"),
        ({"r1.atr": b""}, "annotations_unreadable"),
        ({"r1.dat": b""}, "signal_empty"),
        ({"r1.dat": b"\0" * 100}, "signal_truncated"),
        ({"r1.hea": "r1 2 100 0\nr1.dat 16\nr1.dat 16", "r1.dat": b""}, "signal_empty"),
        ({"r1.hea": "r1 0 100 400"}, "signal_empty"),
        ({"r1.hea": "r1 2 100 805306368\nr1.dat 16\nr1.dat 16"}, "too_large"),  # 3 GB on disk
        ({"r1.hea": "r1 1 100 134217729\nr1.dat 16"}, "too_large"),  # a sample more than 512 MB
        ({"r1.hea": "r1 1 100 99999999999999999999999\nr1.dat 16"}, "header_unreadable"),
        ({"r1.hea": "r1 99999999 100 1\nr1.dat 16"}, "header_unreadable"),
        ({"r1.hea": "r1 2 100 400\nr1.dat 16"}, "header_unreadable"),
        ({"r1.hea": b"\xff\xfe\0\0"}, "header_unreadable"),
        ({"r1.hea": ""}, "header_unreadable"),
        ({"r1.hea": "r1 1 nan 400\nr1.dat 16"}, "header_unreadable"),
        ({"r1.hea": "r1 1 0 400\nr1.dat 16"}, "header_unreadable"),
        ({"r1.hea": "r1 1 100 400\n../r1.dat 16"}, "header_unreadable"),
        ({"r1.hea": "r1 1 100 400\nr1.dat 16 x/mV"}, "header_unreadable"),
        ({"r1.hea": "r1 2 100 400\nr1.dat 16\nr1.dat 212"}, "header_unreadable"),
        ({"r1.hea": "r1 1 100 400\nr1.dat 508"}, "format_unsupported"),
        ({"r1.hea": "r1/2 2 100 400\na 200\nb 200"}, "format_unsupported"),
    ],
)
def test_a_bad_record_is_one_reject_and_the_others_are_read(folder: Folder, damage: dict[str, Any], reason: str) -> None:
    folder.record("r0", ramp(), [(50, "N")])
    folder.record("r1", ramp(), [(50, "N"), (90, "V")])
    for name, content in damage.items():
        (folder.path / name).unlink()
        if content is not None:
            folder.write(name, content)
    table, rejects = read(folder.path, rows="beats")
    named = [one for one in rejects if one.reason != "not_of_format"]  # a damaged header may leave its .dat without a record
    assert [one.reason for one in named] == [reason] and table.column("record").to_pylist() == ["r0"]
    assert "r1" not in repr(named), "a record's name may name a patient"


def test_the_twin_without_damage_is_read(folder: Folder) -> None:
    folder.record("r1", ramp(), [(50, "N"), (90, "V")])
    assert read(folder.path, rows="beats")[0].num_rows == 2


def test_a_band_that_the_rate_cannot_hold_rejects_the_record(folder: Folder) -> None:
    folder.record("slow", ramp(), rate="1")
    folder.record("fast", ramp())
    table, rejects = read(folder.path, band=(0.6, 40))
    assert [one.reason for one in rejects] == ["rate_too_low"] and table.num_rows == 1


def test_beats_outside_the_record_are_rejected_row_by_row(folder: Folder) -> None:
    folder.record("r1", ramp(), [(50, "N"), (399, "N"), (400, "N"), (70_000, "V")])
    table, rejects = read(folder.path, rows="beats")
    assert table.num_rows == 2 and [(one.reason, one.row) for one in rejects] == [("beat_outside", 3), ("beat_outside", 4)]


def test_a_record_with_only_beats_outside_balances_too(folder: Folder) -> None:
    folder.record("r1", ramp(), [(400, "N")])
    assert reasons(folder.path, rows="beats") == ["beat_outside"]


def test_files_of_no_record_are_counted(folder: Folder) -> None:
    folder.record("r1", ramp(), [(50, "N")])
    folder.write("notes.pdf", b"x")
    folder.write("r1.qrs", b"x")  # another annotator's file belongs to the record
    assert reasons(folder.path, rows="beats") == ["not_of_format"]


def test_a_folder_without_a_header_is_refused(folder: Folder) -> None:
    folder.write("a.dat", b"x")
    with pytest.raises(DataError, match="no WFDB record"):
        read(folder.path)


def test_a_header_named_alone_finds_its_files(folder: Folder) -> None:
    folder.record("r1", ramp(), [(50, "N")])
    file = StoragePath.of(folder.path / "r1.hea")
    source = SourceOptions(path=file.uri, format="wfdb", signal={"rows": "beats"})
    reader = open_wfdb(Found("wfdb", file, (file.info(),)), source)
    (block,) = reader.read_unit(reader.units[0])
    assert block.table.column("case_key").to_pylist() == ["r1:50"] and reader.expected == 1


def test_invalid_samples_are_nan_and_only_they(folder: Folder) -> None:
    for code, invalid in signal_formats.INVALID.items():
        folder.record(f"f{code}", [[1, invalid, 3, 4], [5, 6, 7, 8]], code=code)
    for row in read(folder.path)[0].to_pylist():
        np.testing.assert_array_equal(np.isnan(row["signal"]["samples"]), [[False, True, False, False], [False] * 4])


def test_a_gap_does_not_spread_through_the_band_pass(folder: Folder) -> None:
    wave = np.rint(1000 * np.sin(np.arange(2000) * 2 * np.pi * 5 / 100)).astype(int)
    gap = wave.copy()
    gap[700] = -(1 << 15)
    folder.record("a", [wave], leads=["I"])
    folder.record("b", [gap], leads=["I"])
    whole, holed = (np.array(row["signal"]["samples"][0]) for row in read(folder.path, band=(1, 20))[0].to_pylist())
    assert np.flatnonzero(np.isnan(holed)).tolist() == [700]
    np.testing.assert_allclose(np.delete(holed, 700), np.delete(whole, 700), atol=0.5)


def test_the_band_is_of_the_whole_record_and_has_no_delay(folder: Folder) -> None:
    time_s = np.arange(4000) / 100
    slow, heart = 3000 * np.sin(2 * np.pi * 0.05 * time_s), 1000 * np.sin(2 * np.pi * 5 * time_s)
    folder.record("r", [np.rint(slow + heart).astype(int)], [(2000, "N")], leads=["I"], gain="1(0)/mV")
    row = read(folder.path, rows="beats", band=(1, 20), before="0.5s", after="0.5s")[0].to_pylist()[0]
    np.testing.assert_allclose(row["signal"]["samples"][0], heart[1950:2050], atol=25)


def test_samples_a_frame_are_averaged_and_skew_is_undone(folder: Folder) -> None:
    folder.write("r.hea", "r 2 100 3\nr.dat 16x2 1(0) 16 0 0 0 0 fast\nr.dat 16:1 1(0) 16 0 0 0 0 late")
    folder.write("r.dat", pack("16", [1, 3, 10, 5, 7, 20, 9, 11, 30]))
    assert read(folder.path)[0].to_pylist()[0]["signal"]["samples"] == [[2, 6, 10], [20, 30, 30]]


def test_signals_of_several_files_and_an_offset(folder: Folder) -> None:
    folder.write("r.hea", "r 2 100\na.dat 16+4 1(0) 16 0 0 0 0 I\nb.dat 80 1(0) 8 0 0 0 0 II")
    folder.write("a.dat", b"head" + pack("16", [7, 8, 9]))
    folder.write("b.dat", pack("80", [1, 2, 3]))
    assert read(folder.path)[0].to_pylist()[0]["signal"]["samples"] == [[7, 8, 9], [1, 2, 3]]


def test_pieces_do_not_show(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for code in signal_formats.KNOWN:
        folder.record(f"f{code}", rng.integers(-100, 100, (3, 41)).tolist(), leads=["I", "II", "V1"], code=code)
    whole, _ = read(folder.path)
    monkeypatch.setattr("meddx.ingest.wfdb.PIECE_FRAMES", 6)
    assert read(folder.path)[0].equals(whole)


def test_blocks_of_few_rows_hold_the_same_rows(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.record("r1", ramp(), [(10 + 20 * i, "N") for i in range(19)])
    whole, _ = read(folder.path, rows="beats")
    monkeypatch.setattr("meddx.ingest.signal_rows.BLOCK_BYTES", 4000)
    assert read(folder.path, rows="beats")[0].equals(whole)


def test_the_header_defaults() -> None:
    header = read_header(b"# comment\r\nx 1\r\nx.dat 212\r\n")
    (line,) = header.signals
    assert (header.rate, header.samples, line.gain, line.baseline, line.lead) == (250.0, None, 200.0, 0.0, "signal 0")
    zero = read_header(b"x 1 360/720(3) 9 12:00:00 1/1/2000\nx.dat 212 0 11 1024 1015 -11371 0 lead V 5").signals[0]
    assert (zero.gain, zero.baseline, zero.initial, zero.lead) == (200.0, 1024.0, 1015, "lead V 5")


def test_annotations_with_another_time_resolution_are_scaled() -> None:
    note = struct.pack("<H", 22 << 10) + aux(b"## time resolution: 1000")
    found = signal_annotations.read_annotations(note + annotations([(500, "N"), (90_000, "V")]))
    beats, symbols = found.beats(250.0)
    assert found.rate == 1000.0 and beats.tolist() == [125, 22_500] and symbols == ["N", "V"]


@pytest.mark.parametrize("text", [b"0", b"0.0000001", b".", b"1.2.3", b"99999999999999999999"])
def test_a_time_resolution_that_cannot_be_moves_beats_at_most_out_of_the_record(folder: Folder, text: bytes) -> None:
    folder.record("r1", ramp())
    late = annotations([(390, "N"), ((1 << 31) - 1, "V")])
    folder.write("r1.atr", struct.pack("<H", 22 << 10) + aux(b"## time resolution: " + text) + late)
    table, rejects = read(folder.path, rows="beats")
    assert table.num_rows + len(rejects) == 2 and {one.reason for one in rejects} <= {"beat_outside"}


def test_texts_and_numbers_in_annotations_are_stepped_over() -> None:
    extra = struct.pack("<HHH", 60 << 10 | 3, 61 << 10 | 1, 62 << 10 | 2) + aux(b"(AFIB") + aux(b"\x04\x04")
    data = annotations([(5, "N")], end=False) + extra + struct.pack("<H", 5 << 10 | 7) + b"\0\0"
    found = signal_annotations.read_annotations(data)
    assert found.samples.tolist() == [5, 12] and found.symbols == ["N", "V"] and signal_annotations.count_beats(data) == 2


@settings(deadline=None)
@given(st.lists(st.integers(-2048, 2047), max_size=50))
def test_format_212_comes_back(values: list[int]) -> None:
    data = pack_212(values)
    assert len(data) == signal_formats.bytes_of("212", len(values))
    assert signal_formats.decode("212", data, len(values)).tolist() == values


LIMITS = {"8": 127, "16": 32767, "24": 8388607, "32": 2147483647, "61": 32767, "80": 127, "160": 32767}


@settings(deadline=None)
@given(st.sampled_from(sorted(LIMITS)), st.data())
def test_every_format_comes_back(code: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-LIMITS[code] - 1, LIMITS[code]), max_size=30))
    packed = pack(code, values)
    assert len(packed) == signal_formats.bytes_of(code, len(values)) and signal_formats.count_in(code, len(packed)) == len(values)
    assert signal_formats.decode(code, packed, len(values)).tolist() == values


@settings(deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=1, max_size=30), st.integers(-1000, 1000))
def test_differences_add_up(steps: list[int], initial: int) -> None:
    assert signal_formats.undo_differences(np.array(steps), initial).tolist() == [initial + sum(steps[: i + 1]) for i in range(len(steps))]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, (1 << 31) - 1), st.sampled_from(sorted(set(CODES) - {" "}))), max_size=30))
def test_annotations_come_back_and_both_counts_agree(found: list[tuple[int, str]]) -> None:
    found.sort()
    data = annotations(found)
    back = signal_annotations.read_annotations(data)
    assert list(zip(back.samples.tolist(), back.symbols, strict=True)) == found
    beats, symbols = back.beats(360.0)
    assert len(beats) == len(symbols) == signal_annotations.count_beats(data) == sum(one in signal_annotations.BEATS for _, one in found)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_annotations_or_a_reason(data: bytes) -> None:
    try:
        count = signal_annotations.count_beats(data)
    except Unreadable:
        with pytest.raises(Unreadable):
            signal_annotations.read_annotations(data)
    else:
        assert len(signal_annotations.read_annotations(data).beats(360.0)[0]) == count


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="x1 20/().+:\n#-efai", max_size=100).map(str.encode))
def test_any_bytes_are_a_header_or_a_reason(data: bytes) -> None:
    try:
        header = read_header(data)
    except Unreadable as why:
        assert why.reason in ("header_unreadable", "format_unsupported")
    else:
        assert header.rate > 0


def test_it_goes_through_ingest(folder: Folder, make: Callable[..., Any]) -> None:
    folder.record("r1", ramp(), [(50, "N"), (90, "V")])
    folder.record("r2", ramp(), None)
    made = make({"path": folder.path, "format": "wfdb", "signal": {"rows": "beats"}}, {"id": "case_key", "patient": "record"})
    assert made.column("case_id") == ["r1:50", "r1:90"] and made.column("patient_id") == ["r1", "r1"]
    assert made.reasons == ["no_annotations"]


def test_mit_bih_as_de_chazal_counted_it(tmp_path: Path) -> None:
    archive = Path(os.environ.get("MEDDX_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "mitbih" / "ds1.tar.xz"
    if not archive.exists():
        pytest.skip("the shared data is not there")
    with tarfile.open(archive) as stream:
        stream.extractall(tmp_path, filter="data")
    began = time.perf_counter()
    table, rejects = read(tmp_path / "ds1", rows="beats")
    assert not rejects and time.perf_counter() - began < 30
    groups = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
    counts = Counter(table.column("symbol").to_pylist())
    assert {name: sum(counts[one] for one in members) for name, members in groups.items()} == {
        "N": 45_866, "S": 944, "V": 3_788, "F": 415, "Q": 8,
    }  # fmt: skip
    row = table.filter(pa.compute.equal(table.column("record"), "114")).slice(0, 1).to_pylist()[0]
    assert row["signal"]["leads"] == ["V5", "MLII"]

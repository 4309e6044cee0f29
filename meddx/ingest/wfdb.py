"""A folder of WFDB records (.hea, .dat, annotations) in, blocks of one row a record, a beat or a window out.

The package `wfdb` is not used: it opens paths itself, so neither S3 nor a limit before reading would be possible, believes what a header
claims, and brings an HTTP client and a C library for audio.  What is read here: formats 8, 16, 24, 32, 61, 80, 160 and 212, several
samples a frame (averaged), skew, MIT annotations.  Not: records of several segments, FLAC, formats 310 and 311, AHA annotations; each
such record is rejected with the reason.

Everything that can reject a record is settled while opening, from headers, sizes and annotations; so `expected` is known before a
sample is read, and the beats are counted there by other code than that which reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest import signal_annotations, signal_formats, signal_rows
from meddx.ingest.block import Block, Reject, Unit, path_digest
from meddx.ingest.find import Found
from meddx.ingest.headers import Unreadable
from meddx.ingest.options import SignalSource, SourceOptions
from meddx.ingest.signal_header import MAX_HEADER_BYTES, Header, SignalLine, read_header
from meddx.storage import FileInfo, StoragePath

MAX_SIGNAL_BYTES = 512 << 20  # of a record, decoded (4 bytes a sample)
MAX_ANNOTATION_BYTES = 64 << 20
PIECE_FRAMES = 1 << 18  # even, so that a piece of format 212 ends between bytes
THREADS = 8


@dataclass(frozen=True)
class _Record:
    """A record that can be read: `files` by the name that its header gives them, `rows` the number of rows it will give."""

    name: str
    header: Header
    samples: int
    rows: int
    files: dict[str, FileInfo]
    annotations: FileInfo | None


@dataclass
class WfdbReader:
    """Opened records; each is one unit, read alone."""

    root: StoragePath
    options: SignalSource
    records: dict[str, _Record] = field(repr=False)
    schema: pa.Schema
    units: Sequence[Unit]
    expected: int
    rejects: Sequence[Reject]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The rows of one record.  A beat that lies outside its record is rejected as `beat_outside`."""
        record = self.records[unit.name]
        digest = path_digest(self.root, unit.files[0].path)
        places, more = self._places(record)
        inside = (places >= 0) & (places < record.samples)
        numbers = np.flatnonzero(inside) + 1
        rejects = [Reject(self.root.name, "beat_outside", "", int(i) + 1, digest) for i in np.flatnonzero(~inside)]
        places, more = places[inside], {name: values[inside] for name, values in more.items()}
        rate, leads = record.header.rate, [one.lead for one in record.header.signals]
        window = signal_rows.window_of(self.options, rate, record.samples)
        samples = _samples(record, self.options.band) if len(places) else np.zeros((len(leads), 1), np.float32)
        for chosen, table in signal_rows.tables(record.name, rate, leads, samples, places, window, more, with_apart=self.options.apart):
            yield Block(table.cast(self.schema), self.root.name, numbers[chosen], rejects, [digest] * len(chosen))
            rejects = []
        if rejects:
            yield Block(self.schema.empty_table(), self.root.name, np.zeros(0, np.int64), rejects)

    def _places(self, record: _Record) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(int64 [rows] sample numbers, further columns)."""
        if record.annotations is None:
            return np.array(signal_rows.starts_of(self.options, record.header.rate, record.samples), np.int64), {}
        found = signal_annotations.read_annotations(record.annotations.path.read_bytes())
        beats, symbols = found.beats(record.header.rate)
        return beats, {"symbol": np.array(symbols, object), **signal_rows.intervals(beats, record.header.rate)}


def open_wfdb(found: Found, source: SourceOptions) -> WfdbReader:
    """The records that the headers name.  A record that cannot be read is one reject; a file of no record is `not_of_format`.

    Reasons: header_unreadable, format_unsupported, too_large, signal_missing, signal_truncated, signal_empty, rate_too_low (for the
    band), window_empty, no_annotations, annotations_unreadable.  DataError where there is no header at all.
    """
    listed = {one.path.uri: one for one in (*found.files, *found.others)}
    headers = [one for one in listed.values() if one.path.suffix == ".hea"]
    if not headers:
        raise DataError("the folder holds no WFDB record", str(found.root), "a record is a .hea file with its .dat beside it")
    _check_options(source.signal)
    root = found.root if found.is_folder else found.root.parent
    opener = _Opener(root, source.signal, listed if found.is_folder else None)
    with ThreadPoolExecutor(THREADS) as pool:
        opened = list(pool.map(opener.open, headers))
    records: dict[str, _Record] = {}
    units, rejects, offset = [], [], 0
    for file, one in zip(headers, opened, strict=True):
        if isinstance(one, Unreadable):
            rejects.append(Reject(root.name, one.reason, one.detail, None, path_digest(root, file.path)))
            continue
        files = (file, *one.files.values(), *([one.annotations] if one.annotations else []))
        records[one.name] = one
        units.append(Unit(one.name, offset, files))
        offset += one.rows
    strangers = _strangers(found, headers, opened, opener)
    rejects += [Reject(root.name, "not_of_format", "", None, path_digest(root, one.path)) for one in strangers]
    facts = {"format": "wfdb", "records": len(records), "rows_of": source.signal.rows}
    schema = signal_rows.schema_of(source.signal.rows)
    return WfdbReader(root, source.signal, records, schema, units, offset + len(rejects), rejects, facts)


def _strangers(found: Found, headers: Sequence[FileInfo], opened: Sequence[_Record | Unreadable], opener: _Opener) -> list[FileInfo]:
    """Files to be read that belong to no record: neither named by a header nor with a record's name and another ending."""
    used = {file.path.uri for one in opened if isinstance(one, _Record) for file in one.files.values()}
    stems = {_stem(one.path.uri) for one in headers}
    return [one for one in found.files if one.path.uri not in used and _stem(one.path.uri) not in stems]


def _stem(uri: str) -> str:
    folder, _, name = uri.rpartition("/")
    return f"{folder}/{name.rsplit('.', 1)[0]}"


def _check_options(options: SignalSource) -> None:
    spans = {"beats": options.before + options.after, "sliding": min(options.length, options.step)}
    if options.rows in spans and spans[options.rows].total_seconds() <= 0:
        raise DataError("a window without length", "source.signal", "check before and after, or length and step")


@dataclass(frozen=True)
class _Opener:
    """Opens one record; `listed` holds the files of the folder, None where only a header was named."""

    root: StoragePath
    options: SignalSource
    listed: dict[str, FileInfo] | None

    def open(self, file: FileInfo) -> _Record | Unreadable:
        """The record of a header, or why it cannot be read.  Faults of the storage are raised: they are not the record's fault."""
        try:
            return self._open(file)
        except Unreadable as why:
            return why

    def _open(self, file: FileInfo) -> _Record:
        if file.size > MAX_HEADER_BYTES:
            raise Unreadable("header_unreadable", "larger than 1 MB")
        header = read_header(file.path.read_bytes())
        if not header.signals:
            raise Unreadable("signal_empty", "no signals")
        _check_size(header, header.samples or 0)
        files = self._files(file, header)
        samples = _samples_of(header, files)
        _check_size(header, samples)
        if self.options.band and not 0 <= self.options.band[0] < min(self.options.band[1], header.rate / 2):
            raise Unreadable("rate_too_low", "the band does not fit the record's rate")
        if signal_rows.window_of(self.options, header.rate, samples)[1] < 1:
            raise Unreadable("window_empty", "the window is shorter than one sample")
        name = file.path.relative_to(self.root).rsplit(".", 1)[0]
        if self.options.rows != "beats":
            return _Record(name, header, samples, len(signal_rows.starts_of(self.options, header.rate, samples)), files, None)
        annotations = self._find(file.path.parent / f"{file.path.name.rsplit('.', 1)[0]}.{self.options.annotator}")
        return _Record(name, header, samples, _beats_in(annotations), files, annotations)

    def _files(self, file: FileInfo, header: Header) -> dict[str, FileInfo]:
        found = {one.file: self._find(file.path.parent / one.file) for one in header.signals}
        if not all(found.values()):
            raise Unreadable("signal_missing", "a signal file is not beside its header")
        return {name: one for name, one in found.items() if one is not None}

    def _find(self, path: StoragePath) -> FileInfo | None:
        if self.listed is not None:
            return self.listed.get(path.uri)
        return path.info() if path.exists() else None


def _beats_in(annotations: FileInfo | None) -> int:
    if annotations is None:
        raise Unreadable("no_annotations", "no annotation file")
    if annotations.size > MAX_ANNOTATION_BYTES:
        raise Unreadable("annotations_unreadable", "larger than 64 MB")
    beats = signal_annotations.count_beats(annotations.path.read_bytes())
    if not beats:
        raise Unreadable("no_annotations", "no beat in the annotation file")
    return beats


def _check_size(header: Header, samples: int) -> None:
    if samples * sum(one.frame for one in header.signals) * 4 > MAX_SIGNAL_BYTES:
        raise Unreadable("too_large", f"more than {MAX_SIGNAL_BYTES >> 20} MB of samples")


def _groups(header: Header) -> dict[str, list[int]]:
    """File name to the places of its signals.  Raises Unreadable where signals of one file contradict each other."""
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(header.signals):
        groups.setdefault(one.file, []).append(place)
    for places in groups.values():
        if len({(header.signals[i].code, header.signals[i].offset) for i in places}) > 1:
            raise Unreadable("header_unreadable", "signals of one file differ in format")
    return groups


def _samples_of(header: Header, files: dict[str, FileInfo]) -> int:
    """The number of samples a signal: what the header states, which the files must hold, else what they hold."""
    held = []
    for name, places in _groups(header).items():
        first, frame = header.signals[places[0]], sum(header.signals[i].frame for i in places)
        if header.samples is not None:
            need = first.offset + signal_formats.bytes_of(first.code, header.samples * frame)
            if files[name].size == 0:
                raise Unreadable("signal_empty", "a signal file without a byte")
            if files[name].size < need:
                raise Unreadable("signal_truncated", "the signal file is shorter than its header says")
        signal_formats.bytes_of(first.code, 1)  # an unknown format
        held.append(signal_formats.count_in(first.code, max(0, files[name].size - first.offset)) // frame)
    samples = header.samples if header.samples is not None else min(held)
    if not samples:
        raise Unreadable("signal_empty", "no sample")
    return samples


def _samples(record: _Record, band: tuple[float, float] | None) -> np.ndarray:
    """float32 [leads, n] in physical units, NaN where a sample is invalid; band-passed over the whole record where asked."""
    out = np.empty((len(record.header.signals), record.samples), np.float32)
    for name, places in _groups(record.header).items():
        _read_file(record, name, places, out)
    for place, line in enumerate(record.header.signals):
        if line.skew:  # the signal lags: its samples are moved ahead, and the last is repeated
            out[place] = out[place, np.minimum(np.arange(record.samples) + line.skew, record.samples - 1)]
    if band:
        from meddx.inputs.filters import band_pass_gaps

        for lead in out:
            lead[:] = band_pass_gaps(lead.astype(np.float64), record.header.rate, band)
    return out


def _read_file(record: _Record, name: str, places: Sequence[int], out: np.ndarray) -> None:
    """Fill the rows `places` of `out` from one file, a piece at a time."""
    lines = [record.header.signals[i] for i in places]
    code, frame = lines[0].code, sum(one.frame for one in lines)
    edges = np.cumsum([0, *(one.frame for one in lines)])
    initial = [one.initial for one in lines]
    with record.files[name].path.open() as stream:
        stream.seek(lines[0].offset)
        for start in range(0, record.samples, PIECE_FRAMES):
            frames = min(PIECE_FRAMES, record.samples - start)
            data = stream.read(signal_formats.bytes_of(code, frames * frame))
            if len(data) < signal_formats.bytes_of(code, frames * frame):
                raise DataError(
                    "a signal file became shorter while it was read", str(record.files[name].path.parent), "run the same command again"
                )
            stored = signal_formats.decode(code, data, frames * frame).reshape(frames, frame)
            for i, line in enumerate(lines):
                mine = stored[:, edges[i] : edges[i + 1]]
                if code == "8":
                    mine = signal_formats.undo_differences(mine.reshape(-1), initial[i]).reshape(mine.shape)
                    initial[i] = int(mine[-1, -1])
                out[places[i], start : start + frames] = _physical(mine, line)


def _physical(stored: np.ndarray, line: SignalLine) -> np.ndarray:
    """float64 [frames] of stored numbers [frames, samples a frame]: in physical units, the mean of a frame, NaN where one is invalid."""
    values = (stored - line.baseline) / line.gain
    if line.code in signal_formats.INVALID:
        values[stored == signal_formats.INVALID[line.code]] = np.nan
    return values[:, 0] if line.frame == 1 else np.asarray(values.mean(1))

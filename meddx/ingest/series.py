"""A folder of DICOM files in, blocks of one row a series, its volume as NIfTI bytes, out.

Books: a series is one row or one reject; each file that is no slice of a series is one reject.  A first pass over the headers groups
the files and settles which series have the shape of a volume, so `expected` is known before a pixel is read.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest import dicom, volume
from meddx.ingest.block import Block, Reject, Unit, path_digest
from meddx.ingest.find import Found
from meddx.ingest.folder import THREADS
from meddx.ingest.headers import Unreadable
from meddx.ingest.options import SourceOptions
from meddx.ingest.pixels import check_header, stored_values
from meddx.ingest.series_geometry import arrange, without_strangers
from meddx.ingest.series_header import Slice, read_slice
from meddx.storage import FileInfo, StoragePath

HEADER_THREADS = 8
_OF_ONE_PICTURE = ("sop_instance_uid", "view_position")
_NAMES = ("file_name", "file_stem", "file_path", "series_instance_uid", "study_instance_uid")
_SHARED = [(name, kind) for name, kind in dicom.FIELDS if name not in (*_OF_ONE_PICTURE, *volume.NUMBERS)]


@dataclass(frozen=True)
class _Series:
    """Slices from the lowest to the highest along their normal; `folder`: where they lie together, below the root."""

    slices: list[Slice]
    affine: np.ndarray
    folder: str
    digest: str


@dataclass
class SeriesReader:
    """Opened series; each is one unit, read alone."""

    root: StoragePath
    series: dict[str, _Series] = field(repr=False)
    schema: pa.Schema
    label_column: str | None
    units: Sequence[Unit]
    expected: int
    rejects: Sequence[Reject]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The row of one series, or its reject: slice_truncated, slice_unreadable."""
        one = self.series[unit.name]
        with warnings.catch_warnings():  # pydicom tells of each odd value; here, for catching is not safe in the threads
            warnings.simplefilter("ignore")
            try:
                row = {**_decode(one), **self._names(one)}
            except Unreadable as why:
                reject = Reject(self.root.name, why.reason, why.detail, 1, one.digest)
                yield Block(self.schema.empty_table(), self.root.name, np.zeros(0, np.int64), [reject])
                return
        table = pa.table({name: [row[name]] for name in self.schema.names}, schema=self.schema)
        yield Block(table, self.root.name, np.ones(1, np.int64), [], [one.digest])

    def _names(self, one: _Series) -> dict[str, str]:
        """A series is named by the folder that holds its files, as a picture is by its file."""
        name = one.folder.rsplit("/", 1)[-1] or self.root.name
        names = {"file_name": name, "file_stem": name, "file_path": one.folder or "."}
        return {**names, self.label_column: name} if self.label_column else names


def open_series(found: Found, source: SourceOptions) -> SeriesReader:
    """The series of the files.  What is wrong with files or with the shape of a series is a reject, see `read_slice` and `arrange`.

    Raises DataError where there is no file, for a column name that is taken, and for labels by picture.
    """
    own = StoragePath.of(source.labels.path).uri if source.labels else None
    files = [one for one in found.files if one.path.uri != own]
    schema = _schema(found, source)
    if not files:
        raise DataError("the folder holds no file of a series", str(found.root), "check the key `path`")
    root = found.root if found.is_folder else found.root.parent
    rejects: list[Reject] = []
    series: dict[str, _Series] = {}
    units: list[Unit] = []
    for slices in _grouped(root, files, rejects):
        digest = min(path_digest(root, one.file.path) for one in slices)
        try:
            ordered, affine = arrange(slices)
        except Unreadable as why:
            rejects.append(Reject(root.name, why.reason, why.detail, None, digest))
            continue
        name = f"series-{len(units):09d}"
        series[name] = _Series(ordered, affine, _common_folder(root, ordered), digest)
        units.append(Unit(name, len(units), tuple(one.file for one in ordered)))
    facts = {"format": "dicom", "series": len(series), "slices": sum(len(one.slices) for one in series.values())}
    notes = [f"{facts['slices']:,} slices make {len(series):,} volumes, as far as their headers tell"]
    return SeriesReader(root, series, schema, source.label_from_folder, units, len(units) + len(rejects), rejects, facts, notes)


def _schema(found: Found, source: SourceOptions) -> pa.Schema:
    if source.labels and source.labels.match == "sop_instance_uid":
        what = "a series has no sop_instance_uid of its own"
        raise DataError(what, str(found.root), "match by accession_number, or by file_name: the folder of the series")
    names = [(name, pa.string()) for name in _NAMES]
    schema = pa.schema([*names, *_SHARED, *volume.FIELDS, ("volume", pa.binary())])
    if source.label_from_folder in schema.names:
        raise DataError(f"label_from_folder: {source.label_from_folder!r} is a column already", str(found.root), "choose another name")
    return schema.append(pa.field(source.label_from_folder, pa.string())) if source.label_from_folder else schema


def _grouped(root: StoragePath, files: Sequence[FileInfo], rejects: list[Reject]) -> Iterator[list[Slice]]:
    """The slices of each series, by its UID, so that names of files decide nothing; every other file goes to `rejects`."""
    with warnings.catch_warnings(), ThreadPoolExecutor(HEADER_THREADS) as pool:
        warnings.simplefilter("ignore")
        read = list(pool.map(read_slice, files))
    groups: dict[str, list[Slice]] = {}
    for file, one in zip(files, read, strict=True):
        if isinstance(one, Unreadable):
            rejects.append(Reject(root.name, one.reason, one.detail, None, path_digest(root, file.path)))
        else:
            groups.setdefault(one.series, []).append(one)
    for uid in sorted(groups):
        slices, strangers = without_strangers(sorted(groups[uid], key=lambda one: one.uid))
        detail = "a scout or a capture among the slices"
        rejects += [Reject(root.name, "not_an_image", detail, None, path_digest(root, one.file.path)) for one in strangers]
        yield slices


def _common_folder(root: StoragePath, slices: Sequence[Slice]) -> str:
    parents = {one.file.path.relative_to(root).rpartition("/")[0] for one in slices}
    return os.path.commonpath(parents) if "" not in parents else ""


def _decode(series: _Series) -> dict[str, Any]:
    """The columns of a series.  Raises Unreadable naming how many slices cannot be read, and why."""
    slices, first = series.slices, series.slices[0]
    scaled = len({(one.slope, one.intercept) for one in slices}) > 1  # such as PET: each slice has a scale of its own
    kind = np.dtype(np.float32) if scaled else np.result_type(*(one.dtype for one in slices))
    volume.check_size((first.columns, first.rows, len(slices)), kind.itemsize)
    stack = np.empty((len(slices), first.rows, first.columns), kind)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        fields = list(pool.map(lambda i: _fill(slices[i], stack, i, scaled), range(len(slices))))
    reasons = Counter(one.reason for one in fields if isinstance(one, Unreadable))
    if reasons:
        what = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        reason = "slice_truncated" if set(reasons) == {"image_truncated"} else "slice_unreadable"
        raise Unreadable(reason, f"{reasons.total()} of {len(slices)} slices: {what}")
    good = [one for one in fields if isinstance(one, dict)]
    stamps = [one["acquired_at"] for one in good if one["acquired_at"]]
    scale = (1.0, 0.0) if scaled else (first.slope, first.intercept)
    return {
        **good[0],
        **volume.numbers_of(stack, series.affine),
        "acquired_at": max(stamps) if stamps else None,  # a volume is known once its last slice is
        "series_instance_uid": first.series,
        "study_instance_uid": first.study or None,
        "volume": volume.encode(stack, series.affine, *scale),
    }


def _fill(one: Slice, stack: np.ndarray, place: int, scaled: bool) -> dict[str, Any] | Unreadable:
    """Put the values of a slice into stack [slices, rows, columns], and return its header columns, or why it cannot be read."""
    data = one.file.path.read_bytes()
    try:
        dataset = dicom.parsed(data)
        check_header(dataset)
        values = _values(dataset, one)
        stack[place] = values * one.slope + one.intercept if scaled else values
        return dicom.header_fields(dataset)
    except Unreadable as why:
        return why
    except Exception as error:  # the edge: whatever a decoder raises about content is this slice's
        return Unreadable("file_unreadable", type(error).__name__)


def _values(dataset: Any, one: Slice) -> np.ndarray:
    try:
        values = stored_values(dataset)
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, IndexError) as error:
        raise Unreadable(dicom.why(error), type(error).__name__) from error
    if values.shape != (one.rows, one.columns) or values.dtype.name != one.dtype:
        raise Unreadable("header_wrong", "the picture is not what its header says")
    if not one.inverted:
        return values
    ends = -1 if values.dtype.kind == "i" else 2 ** int(dataset.BitsStored) - 1  # the lowest and the highest stored value, added
    if values.dtype.kind == "u" and int(values.max()) > ends:
        raise Unreadable("header_wrong", "a value is larger than its bits allow")
    return (ends - values.astype(np.int32)).astype(values.dtype)

"""A folder of image, DICOM or NIfTI files in, blocks of one row a file out; what will not open becomes a reject."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest import dicom, images, nifti
from meddx.ingest.block import Block, Reject, Unit, path_digest
from meddx.ingest.find import Found
from meddx.ingest.headers import MAX_FILE_BYTES, Unreadable
from meddx.ingest.options import SourceOptions
from meddx.storage import JUNK, FileInfo, StoragePath

UNIT_FILES = 2048
BATCH_FILES = 64
BATCH_BYTES = 64 << 20
THREADS = 4
VOLUME_THREADS = 2  # each may hold a whole volume unpacked
Decode = Callable[[bytes], dict[str, Any]]


@dataclass
class FolderReader:
    """An opened folder: every file in it is one row or one reject."""

    root: StoragePath
    decode: Decode = field(repr=False)
    schema: pa.Schema
    label_column: str | None
    units: Sequence[Unit]
    expected: int
    facts: dict[str, Any]
    rejects: Sequence[Reject] = ()
    notes: list[str] = field(default_factory=list)
    threads: int = THREADS

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The files of one unit, a few at a time, decoded by a few threads (decoders release the GIL)."""
        start = 0
        with ThreadPoolExecutor(min(self.threads, os.cpu_count() or 1)) as pool:
            for batch in _batches(unit.files):
                with warnings.catch_warnings():  # pydicom tells of each odd value; here, for catching is not safe in the threads
                    warnings.simplefilter("ignore")
                    rows = list(pool.map(self._row, batch))
                yield self._block(batch, rows, start)
                start += len(batch)

    def _row(self, file: FileInfo) -> dict[str, Any] | Unreadable:
        """One file as a row, or why it is none.  Faults of the storage are raised: they are not the file's fault."""
        if why_not := refused(file):
            return why_not
        data = file.path.read_bytes()
        try:
            return {**self.decode(data), **self._names(file)}
        except Unreadable as why:
            return why
        except Exception as error:  # the edge: whatever a decoder raises about content is this row's, and only this row's
            return Unreadable("file_unreadable", type(error).__name__)

    def _names(self, file: FileInfo) -> dict[str, str]:
        names = {
            "file_name": file.path.name,
            "file_stem": stem(file.path.name),
            "file_path": file.path.relative_to(self.root),
        }
        if self.label_column:
            names[self.label_column] = file.path.parent.name
        return names

    def _block(self, batch: Sequence[FileInfo], rows: Sequence[dict[str, Any] | Unreadable], start: int) -> Block:
        digests = [path_digest(self.root, file.path) for file in batch]
        good = [(i, row) for i, row in enumerate(rows) if isinstance(row, dict)]
        self.facts["pixel_rules"].update(row["_rule"] for _, row in good if "_rule" in row)
        rejects = [
            Reject(self.root.name, row.reason, row.detail, start + 1 + i, digests[i])
            for i, row in enumerate(rows)
            if isinstance(row, Unreadable)
        ]
        table = pa.table({name: [row[name] for _, row in good] for name in self.schema.names}, schema=self.schema)
        numbers = np.array([start + 1 + i for i, _ in good], np.int64)
        return Block(table, self.root.name, numbers, rejects, [digests[i] for i, _ in good])


def open_folder(found: Found, source: SourceOptions) -> FolderReader:
    """The files to be read, in units of 2,048; the label table itself is no image.  Raises DataError for a name that is taken."""
    own = StoragePath.of(source.labels.path).uri if source.labels else None
    files = [one for one in found.files if one.path.uri != own]
    if not files:
        raise DataError("the folder holds no image", str(found.root), "check the key `path`")
    family = {"images": images, "dicom": dicom, "nifti": nifti}[found.format]
    content = "volume" if family is nifti else "image"
    names = [("file_name", pa.string()), ("file_stem", pa.string()), ("file_path", pa.string())]
    schema = pa.schema([*names, *family.FIELDS, (content, pa.binary())])
    label = source.label_from_folder
    if label:
        if label in schema.names:
            raise DataError(f"label_from_folder: {label!r} is a column already", str(found.root), "choose another name")
        schema = schema.append(pa.field(label, pa.string()))
    facts = {"format": found.format, "pixel_rules": Counter[str]()}  # how the pictures were made, counted while reading
    units = [Unit(f"files-{start:09d}", start, tuple(files[start : start + UNIT_FILES])) for start in range(0, len(files), UNIT_FILES)]
    threads = VOLUME_THREADS if family is nifti else THREADS
    return FolderReader(found.root, family.decode, schema, label, units, len(files), facts, threads=threads)


def refused(file: FileInfo) -> Unreadable | None:
    """Why a file is not even opened: junk, nothing in it, or too large."""
    if file.path.name in JUNK or file.path.name.startswith("._"):
        return Unreadable("junk_file", "left behind by a desktop")
    if file.size == 0:
        return Unreadable("file_empty")
    return Unreadable("file_too_large", f"more than {MAX_FILE_BYTES >> 20} MB") if file.size > MAX_FILE_BYTES else None


def stem(name: str) -> str:
    """The name of a file without its ending; `.nii.gz` is one ending."""
    return name[:-7] if name.lower().endswith(".nii.gz") else name.rsplit(".", 1)[0]


def _batches(files: Sequence[FileInfo]) -> Iterator[list[FileInfo]]:
    """Runs of at most 64 files and about 64 MB, so that what waits for the writer stays small."""
    batch: list[FileInfo] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_FILES or size + file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch

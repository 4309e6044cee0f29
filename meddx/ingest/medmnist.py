"""A MedMNIST .npz file in, blocks with PNG pictures, labels as text and the official part out.

The arrays are read row by row out of the archive, so a file larger than memory streams.  Nothing in it is unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest.block import Block, Damaged, Reject, Unit
from meddx.ingest.find import Found
from meddx.storage import FileInfo

PARTS = ("train", "val", "test")
BATCH_BYTES = 8 << 20


@dataclass
class _Member:
    """One array of the archive: its header, and its rows in pieces."""

    stream: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self, count: int) -> np.ndarray:
        """The next `count` rows."""
        shape = (count, *self.shape[1:])
        size = int(np.prod(shape)) * self.dtype.itemsize
        data = self.stream.read(size)
        if len(data) < size:
            raise EOFError("the array is shorter than its header says")
        return np.frombuffer(data, self.dtype).reshape(shape)


@dataclass
class MedMnistReader:
    """An opened file: `sizes` rows a part, `labels` label columns."""

    schema: pa.Schema
    units: Sequence[Unit]
    expected: int
    labels: list[str]
    rejects: Sequence[Reject] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The rows of one official part, with case numbers such as train-000001."""
        import cv2

        part, path = unit.name, str(unit.files[0].path)
        with _archive(unit.files[0]) as archive, _damage(path):
            images, labels = _member(archive, f"{part}_images", path), _member(archive, f"{part}_labels", path)
            step = max(1, BATCH_BYTES // max(1, int(np.prod(images.shape[1:]))))
            for start in range(0, images.shape[0], step):
                count = min(step, images.shape[0] - start)
                pixels, answers = images.rows(count), labels.rows(count).reshape(count, -1)
                numbers = np.arange(start + 1, start + 1 + count, dtype=np.int64)
                columns: dict[str, list[Any]] = {
                    "case_no": [f"{part}-{number:06d}" for number in numbers],
                    "official_part": [part] * count,
                    "image": [cv2.imencode(".png", one[..., ::-1] if one.ndim == 3 else one)[1].tobytes() for one in pixels],
                }
                columns.update({name: answers[:, i].astype(str).tolist() for i, name in enumerate(self.labels)})
                yield Block(pa.table(columns, schema=self.schema), part, numbers)


class _damage:
    """What a broken archive raises while it is read, as one refusal."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
            raise Damaged("the .npz archive is damaged", self.path, "fetch it again and compare its checksum") from error


def _archive(file: FileInfo) -> zipfile.ZipFile:
    with _damage(str(file.path)):
        return zipfile.ZipFile(file.path.open())


def _member(archive: zipfile.ZipFile, name: str, path: str) -> _Member:
    """The array `name`, header read.  Raises DataError when it is not there, or would have to be unpickled."""
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"the archive has no array {name!r}", path, "a MedMNIST file has {train,val,test}_{images,labels}")
    stream = archive.open(f"{name}.npy")
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream)
    except ValueError as error:
        raise DataError(f"the array {name!r} is not readable", path, "fetch the file again") from error
    if dtype.hasobject:
        raise DataError(f"the array {name!r} holds Python objects, which are never loaded", path, "save it as numbers")
    if by_columns and len(shape) > 1 and shape[1] > 1:
        raise DataError(f"the array {name!r} is stored column by column", path, "save it with numpy.ascontiguousarray")
    return _Member(stream, shape, dtype)


def open_medmnist(found: Found) -> MedMnistReader:
    """The parts and their sizes, from the headers."""
    file = found.files[0]
    path = str(file.path)
    units: list[Unit] = []
    rows, width = 0, 0
    with _archive(file) as archive, _damage(path):
        for part in PARTS:
            images, labels = _member(archive, f"{part}_images", path), _member(archive, f"{part}_labels", path)
            _check(images, labels, part, path)
            units.append(Unit(part, rows, (file,)))
            rows += images.shape[0]
            width = int(np.prod(labels.shape[1:]))
    names = ["label"] if width == 1 else [f"label_{i}" for i in range(width)]
    fields = [("case_no", pa.string()), ("official_part", pa.string()), ("image", pa.binary()), *((name, pa.string()) for name in names)]
    return MedMnistReader(pa.schema(fields), units, rows, names, facts={"format": "medmnist"})


def _check(images: _Member, labels: _Member, part: str, path: str) -> None:
    plane = len(images.shape) == 3 or (len(images.shape) == 4 and images.shape[-1] == 3)
    if not plane or images.dtype not in (np.uint8, np.uint16):
        what = f"{part}_images has the shape {images.shape} and type {images.dtype}"
        raise DataError(what, path, "pictures [n, h, w] or [n, h, w, 3] of 8 or 16 bit are read; volumes are not yet")
    if labels.shape[0] != images.shape[0]:
        raise DataError(f"{part} has {images.shape[0]} pictures and {labels.shape[0]} labels", path, "fetch the file again")

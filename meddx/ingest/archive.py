"""A `.tar`, `.tar.gz`, `.tar.xz` or `.zip` in, a temporary folder with its files out; bombs and escapes are refused."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from meddx.errors import DataError
from meddx.storage import FileInfo, StoragePath

ENDINGS = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar", ".zip")
MAX_ENTRIES = 1_000_000
MAX_BYTES = 200 << 30
MAX_RATIO = 1_000  # no real data packs tighter than this; bombs do
FREE_RATIO_BYTES = 64 << 20  # small archives of zeros are harmless
PIECE = 1 << 20
DAMAGED = (pa.ArrowInvalid, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


class Unpacked:
    """The files of an archive in `folder`, which is named as the archive and is removed with this object."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder = StoragePath.of(os.path.join(folder, name))
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def is_archive(path: StoragePath) -> bool:
    """By its ending."""
    return path.name.lower().endswith(ENDINGS)


def unpack(file: FileInfo) -> Unpacked:
    """The archive's files in a fresh temporary folder.

    Raises DataError for a damaged archive, one with more than 1,000,000 entries or 200 GiB (or more than 1,000 times its own
    size), a path that leads outside, and anything that is neither file nor folder.
    """
    base = tempfile.mkdtemp(prefix="meddx-archive-")
    name = file.path.name[: -len(next(one for one in ENDINGS if file.path.name.lower().endswith(one)))] or "archive"
    made = Unpacked(base, name)
    os.mkdir(made.folder.uri)
    with _explained(file):
        if file.path.name.lower().endswith(".zip"):
            _unzip(file, Path(made.folder.uri))
        else:
            _untar(file, Path(made.folder.uri))
    return made


class _Budget:
    """What may still be written."""

    def __init__(self, file: FileInfo) -> None:
        self.where = str(file.path)
        self.entries = MAX_ENTRIES
        self.bytes = min(MAX_BYTES, max(FREE_RATIO_BYTES, file.size * MAX_RATIO))

    def entry(self) -> None:
        self.entries -= 1
        if self.entries < 0:
            raise DataError(f"the archive holds more than {MAX_ENTRIES:,} entries", self.where, "unpack it yourself and name the folder")

    def take(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise DataError("the archive unpacks to far more than its size allows", self.where, "unpack it yourself and name the folder")


def _untar(file: FileInfo, folder: Path) -> None:
    budget = _Budget(file)
    with file.path.open() as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
        for member in archive:
            budget.entry()
            if member.isdir():
                continue
            _must_be_plain(member.isreg(), file)
            target = _inside(folder, member.name, file)
            stream = archive.extractfile(tarfile.data_filter(member, str(folder)))  # Python's own guard behind ours
            assert stream is not None
            _write(stream, target, budget)


def _unzip(file: FileInfo, folder: Path) -> None:
    budget = _Budget(file)
    with file.path.open() as raw, zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            budget.entry()
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            _must_be_plain(kind in (0, stat.S_IFREG), file)
            if member.flag_bits & 1:
                raise DataError("the archive is locked with a password", str(file.path), "unpack it yourself and name the folder")
            with archive.open(member) as stream:
                _write(stream, _inside(folder, member.filename, file), budget)


def _must_be_plain(plain: bool, file: FileInfo) -> None:
    if not plain:
        what = "the archive holds a link or a device, which is no data"
        raise DataError(what, str(file.path), "unpack it yourself and name the folder")


def _inside(folder: Path, name: str, file: FileInfo) -> Path:
    target = Path(os.path.normpath(folder / name))
    if not target.is_relative_to(folder) or target == folder or os.path.isabs(name):
        raise DataError("a path in the archive leads outside of it", str(file.path), "do not use this archive: it was made to harm")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write(stream: IO[bytes] | Any, target: Path, budget: _Budget) -> None:
    """Piece by piece: what an archive says of its sizes is not believed."""
    with target.open("wb") as out:
        while piece := stream.read(PIECE):
            budget.take(len(piece))
            out.write(piece)


@contextmanager
def _explained(file: FileInfo) -> Iterator[None]:
    try:
        yield
    except tarfile.FilterError as error:
        what = "a path in the archive leads outside of it"
        raise DataError(what, str(file.path), "do not use this archive: it was made to harm") from error
    except DAMAGED as error:
        raise DataError(f"the archive is damaged ({type(error).__name__})", str(file.path), "copy it again from its origin") from error
    except OSError as error:
        if error.errno is not None and not isinstance(error, FileExistsError | IsADirectoryError | NotADirectoryError):
            raise  # a fault of the storage, or no room
        raise DataError("the archive is damaged", str(file.path), "copy it again from its origin") from error

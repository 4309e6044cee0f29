"""One path type for a folder and for `s3://bucket/prefix`: list, read, replace, publish once.

What is asked of S3 stands in `s3.py`, with its retries.  Directories are never state: on object stores they do not exist.
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from meddx import failpoints, s3, s3_client
from meddx.errors import StorageError

T = TypeVar("T")
KINDS = {
    "missing": (errno.ENOENT,),
    "permission": (errno.EACCES, errno.EPERM, errno.EROFS),
    "full": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "busy": (errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ESTALE),  # a network file system
}
WORDS = {
    "missing": ("there is no such file", "check the path"),
    "permission": ("no permission: {}", "check who owns it, and how it is mounted"),
    "full": ("no space is left: {}", "make room or raise the quota, then run the same command again: what is published stays"),
    "busy": ("storage did not answer: {}", "run the same command again when it does"),
}
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class FileInfo:
    """One listed file: where, how many bytes, and a version that changes when the content does (on S3 the ETag)."""

    path: StoragePath
    size: int
    version: str


@dataclass(frozen=True)
class StoragePath:
    """An absolute folder path or an `s3://bucket/key`.  Make one with `StoragePath.of`."""

    uri: str

    @classmethod
    def of(cls, place: str | Path | StoragePath) -> StoragePath:
        """`s3://...` as it is; `package://name/inner/path` inside an installed package; else a path, made absolute."""
        if isinstance(place, StoragePath):
            return place
        text = str(place)
        if text.startswith("s3://"):
            return cls(text.rstrip("/"))
        if text.startswith("package://"):
            package, _, inner = text.removeprefix("package://").partition("/")
            return cls(str(package_files(package) / inner))
        if "://" in text:
            raise StorageError(f"storage of the kind {text.split('://')[0]}:// is not known", "", "use a folder or s3://bucket/prefix")
        return cls(os.path.abspath(os.path.expanduser(text)))

    def __truediv__(self, name: str) -> StoragePath:
        return StoragePath(f"{self.uri.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()

    @property
    def parent(self) -> StoragePath:
        return StoragePath(self.uri.rstrip("/").rsplit("/", 1)[0] or "/")

    @property
    def on_s3(self) -> bool:
        return self.uri.startswith("s3://")

    @property
    def key(self) -> str:
        """The path as the file system knows it: `bucket/key` on S3."""
        return self.uri.removeprefix("s3://")

    @property
    def filesystem(self) -> pafs.FileSystem:
        """For what writes as a stream; reading goes through `open`, which asks a busy store again."""
        return s3_client.filesystem() if self.on_s3 else pafs.LocalFileSystem()

    def relative_to(self, root: StoragePath) -> str:
        return self.uri.removeprefix(root.uri).lstrip("/") or self.name

    def exists(self) -> bool:
        if self.on_s3:
            return s3.about(self.place) is not None or s3.has_below(self.place)
        with _named(self):
            return bool(self.filesystem.get_file_info(self.uri).type != pafs.FileType.NotFound)

    def is_file(self) -> bool:
        """Whether there is a file of this name; on S3 one cheap request, where `exists` may have to look for a folder, too."""
        return s3.about(self.place) is not None if self.on_s3 else os.path.isfile(self.uri)

    def is_dir(self) -> bool:
        """Whether there is a folder, or on S3 anything below this prefix."""
        if self.on_s3:
            return s3.has_below(self.place)
        with _named(self):
            return bool(self.filesystem.get_file_info(self.uri).type == pafs.FileType.Directory)

    def list(self, suffix: str = "", recursive: bool = True) -> Iterator[FileInfo]:
        """Files below, sorted by path, none where there is no such folder; the rubbish of desktops (`.DS_Store`) is listed too."""
        found = self._list_bucket(recursive) if self.on_s3 else self._list_folder(recursive)
        yield from (info for info in found if info.path.uri.endswith(suffix))

    def info(self) -> FileInfo:
        if self.on_s3:
            if (there := s3.about(self.place)) is None:
                raise missing(self)
            return FileInfo(self, there.size, there.version)
        with _named(self):
            info = self.filesystem.get_file_info(self.uri)
            if info.type != pafs.FileType.File:
                raise missing(self)
            return FileInfo(self, info.size, _version(info))

    def open(self, listed: FileInfo | None = None) -> pa.NativeFile:
        """A seekable binary file for reading.  On S3 a read is repeated while the store is busy, and fails as StorageError; `listed`
        saves the question for size and version.  In a folder it is pyarrow's own file, which fails as OSError."""
        if self.on_s3:
            known = s3.About.of_version(self.place.key, listed.version) if listed else None
            return pa.PythonFile(s3.RemoteFile(self.place, known), mode="r")
        with _named(self):
            return self.filesystem.open_input_file(self.uri)

    def parsed(self, parse: Callable[[pa.NativeFile], T], failures: tuple[type[Exception], ...]) -> T:
        """What `parse` makes of the file.  On S3 it is read afresh once where that raises one of `failures`: on the way a byte may
        flip that no checksum covers, and a file must not be called damaged for that."""
        if self.on_s3:
            with suppress(*failures), self.open() as stream:
                return parse(stream)
        with self.open() as stream:
            return parse(stream)

    def read_bytes(self) -> bytes:
        if self.on_s3:
            return s3.get(self.place)
        with _named(self), self.open() as stream:
            return bytes(stream.read())

    def read_text(self) -> str:
        return self.read_bytes().decode("utf-8")

    def digest(self) -> str:
        """SHA-256 of the content, read in pieces."""
        sha = hashlib.sha256()
        with _named(self), self.open() as stream:
            while piece := stream.read(1 << 22):
                sha.update(piece)
        return sha.hexdigest()

    def make_dir(self) -> None:
        if not self.on_s3:
            with _named(self):
                os.makedirs(self.uri, exist_ok=True)

    def replace(self, data: bytes) -> None:
        """Write the whole file; a reader sees the old or the new content, never a torn one."""
        if self.on_s3:
            s3.put(self.place, data)
            return
        with _named(self), _temporary(self, data) as written:
            os.replace(written, self.uri)
            _sync_folder(self.parent)

    def create_once(self, data: bytes, *, alone: bool = False) -> bool:
        """Publish the file in one step.  True: this call made it.  False: it was there already and stays as it is.

        `alone`: for storage where `probe` found no conditional write: look, then write.  Of two jobs both may then win, so it is
        right only where this job is the only one; the job's record must say so.
        """
        if alone:
            if self.is_file():
                return False
            self.replace(data)
            failpoints.reach("reply_lost")
            return True
        if self.on_s3:
            made = s3.put_if_absent(self.place, data)
        else:
            with _named(self):
                made = self._link_if_absent(data)
        if made:
            failpoints.reach("reply_lost")
        return made

    def delete(self) -> None:
        """Remove one file; a missing file is no error."""
        if self.on_s3:
            s3.delete(self.place)
            return
        with _named(self), suppress(FileNotFoundError):
            os.unlink(self.uri)

    @property
    def place(self) -> s3_client.Place:
        """Bucket and key of a path on S3."""
        bucket, _, key = self.key.partition("/")
        return s3_client.Place(bucket, key)

    def _list_bucket(self, recursive: bool) -> Iterator[FileInfo]:
        for one in sorted(s3.list_below(self.place, recursive), key=lambda one: one.key):
            yield FileInfo(StoragePath(f"s3://{self.place.bucket}/{one.key}"), one.size, one.version)

    def _list_folder(self, recursive: bool) -> Iterator[FileInfo]:
        if not self.is_dir():
            return
        with _named(self):
            selector = pafs.FileSelector(self.uri, allow_not_found=True, recursive=recursive)
            found = sorted(self.filesystem.get_file_info(selector), key=lambda info: str(info.path))
            for info in (info for info in found if info.type == pafs.FileType.File):
                try:
                    version = _version(info)
                except FileNotFoundError:  # taken away since: markers and temporary files of other jobs come and go
                    continue
                yield FileInfo(StoragePath(info.path), info.size, version)

    def _link_if_absent(self, data: bytes) -> bool:
        with _temporary(self, data) as written:
            failpoints.reach("temp_written")
            try:
                os.link(written, self.uri)
            except FileExistsError:
                return False
            _sync_folder(self.parent)
        return True


def missing(path: StoragePath) -> StorageError:
    return StorageError("there is no such file", str(path), "check the path", "missing")


def _version(info: pafs.FileInfo) -> str:
    stat = os.stat(info.path)
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"


@contextmanager
def _temporary(path: StoragePath, data: bytes) -> Iterator[str]:
    """A whole and synced file beside `path`; gone after the block, also when the disk was full."""
    path.parent.make_dir()
    temporary = str(path.parent / f".tmp-{uuid.uuid4().hex}")
    try:
        with Path(temporary).open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):  # it was moved into place
            os.unlink(temporary)


def _sync_folder(folder: StoragePath) -> None:
    """A name survives a power cut only once its folder is synced."""
    handle = os.open(folder.uri, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot sync a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def _named(path: StoragePath) -> Iterator[None]:
    """Turn what the file system raises into a StorageError that names the path and the cause."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        kind = next((kind for kind, numbers in KINDS.items() if error.errno in numbers), "")
        what, next_step = WORDS.get(kind, ("storage failed: {}", ""))
        raise StorageError(what.format(reason), str(path), next_step, kind) from error

"""One path type for a folder and for `s3://bucket/prefix`: list, read, replace, publish once.

Data goes through pyarrow.fs (it retries faults in mid-body and gives up on a hang in seconds); boto3 serves only the
conditional PUT that makes `create_once` atomic on S3.  Directories are never state: on object stores they do not exist.
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.fs as pafs

from meddx.errors import StorageError

JUNK = (".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class FileInfo:
    """One listed file: where, how many bytes, and a version that changes when the content does."""

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
        return _s3() if self.on_s3 else pafs.LocalFileSystem()

    def relative_to(self, root: StoragePath) -> str:
        return self.uri.removeprefix(root.uri).lstrip("/") or self.name

    def exists(self) -> bool:
        with _named(self):
            return bool(self.filesystem.get_file_info(self.key).type != pafs.FileType.NotFound)

    def is_dir(self) -> bool:
        """Whether there is a folder, or on S3 anything below this prefix."""
        with _named(self):
            return bool(self.filesystem.get_file_info(self.key).type == pafs.FileType.Directory)

    def list(self, suffix: str = "", recursive: bool = True) -> Iterator[FileInfo]:
        """Files below, sorted by path; the rubbish that desktops leave behind (`.DS_Store`) is listed too."""
        with _named(self):
            selector = pafs.FileSelector(self.key, allow_not_found=True, recursive=recursive)
            found = sorted(self.filesystem.get_file_info(selector), key=lambda info: str(info.path))
        scheme = "s3://" if self.on_s3 else ""
        for info in found:
            if info.type == pafs.FileType.File and info.path.endswith(suffix):
                yield FileInfo(StoragePath(scheme + info.path), info.size, _version(scheme, info))

    def info(self) -> FileInfo:
        with _named(self):
            info = self.filesystem.get_file_info(self.key)
        if info.type != pafs.FileType.File:
            raise StorageError("there is no such file", str(self), "check the path")
        return FileInfo(self, info.size, _version("s3://" if self.on_s3 else "", info))

    def open(self) -> pa.NativeFile:
        """A seekable binary file for reading."""
        with _named(self):
            return self.filesystem.open_input_file(self.key)

    def read_bytes(self) -> bytes:
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
        with _named(self):
            if self.on_s3:
                _client().put_object(Bucket=self._bucket, Key=self._object, Body=data)
                return
            temporary = _write_temporary(self, data)
            os.replace(temporary, self.uri)
            _sync_folder(self.parent)

    def create_once(self, data: bytes) -> bool:
        """Publish the file in one step.  True: this call made it.  False: it was there already and stays as it is."""
        with _named(self):
            return self._put_if_absent(data) if self.on_s3 else self._link_if_absent(data)

    def delete(self) -> None:
        """Remove one file; a missing file is no error."""
        with _named(self):
            if self.exists():
                self.filesystem.delete_file(self.key)

    @property
    def _bucket(self) -> str:
        return self.key.partition("/")[0]

    @property
    def _object(self) -> str:
        return self.key.partition("/")[2]

    def _link_if_absent(self, data: bytes) -> bool:
        temporary = _write_temporary(self, data)
        try:
            os.link(temporary, self.uri)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        _sync_folder(self.parent)
        return True

    def _put_if_absent(self, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        token = uuid.uuid4().hex
        try:
            _client().put_object(Bucket=self._bucket, Key=self._object, Body=data, IfNoneMatch="*", Metadata={"meddx-token": token})
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                raise
            # boto3 repeats a PUT whose reply was lost and then gets 412 although the first one won: ask who owns the object.
            head = _client().head_object(Bucket=self._bucket, Key=self._object)
            return bool(head["Metadata"].get("meddx-token") == token)
        return True


def _version(scheme: str, info: pafs.FileInfo) -> str:
    if scheme:
        return f"{info.size}-{info.mtime_ns}"
    stat = os.stat(info.path)
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"


def _write_temporary(path: StoragePath, data: bytes) -> str:
    path.parent.make_dir()
    temporary = str(path.parent / f".tmp-{uuid.uuid4().hex}")
    with Path(temporary).open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return temporary


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
    """Turn what libraries raise into a StorageError that names the path; a missing file says so."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError("there is no such file", str(path), "check the path") from error
    except PermissionError as error:
        raise StorageError("no permission", str(path), "check who owns it, or the credentials") from error
    except _failures(path) as error:
        raise StorageError(f"storage failed: {type(error).__name__}: {str(error)[:200]}", str(path)) from error


def _failures(path: StoragePath) -> tuple[type[Exception], ...]:
    """What storage libraries raise; looked up only once something was raised, for botocore is slow to import."""
    if not path.on_s3:
        return (OSError,)
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError)


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _s3() -> pafs.S3FileSystem:
    """Rebuilt when the environment changes; credentials come from the usual chain only."""
    return _s3_for(_endpoint(), os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))


@lru_cache(maxsize=8)
def _s3_for(endpoint: str | None, region: str | None) -> pafs.S3FileSystem:
    where = urlparse(endpoint) if endpoint else None
    return pafs.S3FileSystem(
        endpoint_override=where.netloc if where else None,
        scheme=where.scheme if where else "https",
        region=region or ("us-east-1" if endpoint else None),
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=8),
        request_timeout=10,
        connect_timeout=3,
    )


def _client() -> Any:
    return _client_for(_endpoint(), os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))


@lru_cache(maxsize=8)
def _client_for(endpoint: str | None, region: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 8, "mode": "standard"})
    return boto3.client("s3", endpoint_url=endpoint, region_name=region or ("us-east-1" if endpoint else None), config=config)

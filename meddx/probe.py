"""An output folder in, what its storage can be trusted with out: some stores spoil what is written and say nothing."""

from __future__ import annotations

import errno
import os
import random
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from meddx import s3
from meddx.errors import StorageError
from meddx.storage import StoragePath

SMALL, LARGE, STREAMED = 1000, 6_000_000, 11_000_000  # pyarrow sends a stream above 10 MB in parts
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
OLDER = "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required (on every node): older stores do not know uploads in chunks"


@dataclass(frozen=True)
class Probe:
    """`conditional`: of two writers of one name the second loses.  Else `why` says what the storage lacks: one job only may write."""

    conditional: bool
    why: str = ""


def probe(out: StoragePath, *, streams: bool = False) -> Probe:
    """Write, read back and compare bytes; let a second writer try; clean up.  `streams`: write as a stream, too, as ingest does.

    StorageError: kind `damaged` where other bytes came back, or what went wrong (permission, full, busy).
    """
    with ExitStack() as stack:
        small, large = (out / "_meddx" / f"probe-{uuid.uuid4().hex}" for _ in range(2))
        for path in (small, large):
            stack.callback(path.delete)
        _compare(small, SMALL, StoragePath.replace)
        _compare(large, LARGE, StoragePath.replace)
        if streams:
            _compare(large, STREAMED, _stream)
        if out.on_s3:
            return Probe(True) if s3.honours_condition(small.place) else Probe(False, "the store ignores or refuses a conditional PUT")
        return Probe(True) if _links(small) else Probe(False, "the file system has no hard links")


def _compare(path: StoragePath, size: int, write: Callable[[StoragePath, bytes], None]) -> None:
    data = random.randbytes(size)
    write(path, data)
    with path.open() as stream:  # not `read_bytes`: botocore would compare a checksum that spoiled data may share
        same = stream.read() == data
    if not same:
        raise StorageError(f"the storage spoils what is written: {size} bytes came back changed", str(path.parent), OLDER, "damaged")


def _stream(path: StoragePath, data: bytes) -> None:
    path.delete()
    try:
        with path.filesystem.open_output_stream(path.key) as stream:
            stream.write(data)
    except OSError as error:
        what = f"the storage does not take data as a stream ({type(error).__name__})"
        raise StorageError(what, str(path.parent), OLDER, "damaged") from error


def _links(path: StoragePath) -> bool:
    """Whether a hard link can be made, and refuses a name that is taken."""
    other = f"{path.uri}-link"
    try:
        os.link(path.uri, other)
        try:
            os.link(path.uri, other)
        except FileExistsError:
            return True
        finally:
            os.unlink(other)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise StorageError("a hard link could not be made", str(path.parent), "check how it is mounted") from error
    return False

"""A bucket and a key in, bytes and facts out: what storage asks of an S3 store.

Everything but the streams of writers goes through botocore: it names causes where pyarrow has prose only, a read can demand the
version that was opened, and it is as fast (docs/design.md).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from meddx.errors import StorageError
from meddx.s3_client import Place, client, missing, patiently, status

WINDOW = 1 << 20  # a small read fetches this much: headers, archives and lists of small members are read in small steps
PIECE = 64 << 20  # and a large one is several, so that a broken one costs no more than this
TOKEN = "meddx-token"


@dataclass(frozen=True)
class About:
    """What a store says of an object; `version` changes when the content does."""

    key: str
    size: int
    etag: str
    token: str = ""

    @property
    def version(self) -> str:
        return f"{self.size}-{self.etag.strip(chr(34))}"

    @classmethod
    def of_version(cls, key: str, version: str) -> About:
        size, _, etag = version.partition("-")
        return cls(key, int(size), f'"{etag}"')


def about(place: Place) -> About | None:
    """The object's size and version; None where there is none."""
    return patiently(place, lambda: _head(place)) if place.key else None


def has_below(place: Place) -> bool:
    """Whether any object lies below; a bucket counts as a folder even when it is empty."""

    def ask() -> bool:
        page = client().list_objects_v2(Bucket=place.bucket, Prefix=_folder(place.key), MaxKeys=1)
        return bool(page.get("Contents")) or not place.key

    try:
        return patiently(place, ask)
    except StorageError as error:
        if error.kind != "missing":
            raise
        return False


def list_below(place: Place, recursive: bool) -> Iterator[About]:
    """All objects below, in pages of the store's size; names that end with a slash are no files, only the look of a folder."""
    more: dict[str, str] = {} if recursive else {"Delimiter": "/"}
    while True:
        page = patiently(place, lambda: client().list_objects_v2(Bucket=place.bucket, Prefix=_folder(place.key), **more))
        for one in page.get("Contents", []):
            if not one["Key"].endswith("/"):
                yield About(one["Key"], one["Size"], one["ETag"])
        if not page.get("IsTruncated"):
            return
        more["ContinuationToken"] = page["NextContinuationToken"]


def get(place: Place) -> bytes:
    """The whole object; where the store keeps a checksum, it is compared."""
    return patiently(place, lambda: bytes(client().get_object(Bucket=place.bucket, Key=place.key)["Body"].read()))


def put(place: Place, data: bytes) -> None:
    patiently(place, lambda: client().put_object(Bucket=place.bucket, Key=place.key, Body=data))


def put_if_absent(place: Place, data: bytes) -> bool:
    """Whether this call made the object.  A repeat after a lost answer finds it there although it won: the token tells."""
    token = uuid.uuid4().hex

    def ask() -> bool:
        while not _put_conditionally(place, data, token):
            if (there := _head(place)) is not None:  # None: it was deleted meanwhile
                return there.token == token
        return True

    return patiently(place, ask)


def honours_condition(place: Place) -> bool:
    """Whether the store refuses a conditional PUT on `place`, an object that is there."""
    from botocore.exceptions import ClientError

    def ask() -> bool:
        try:
            return not _put_conditionally(place, b"second", "")
        except ClientError as error:
            if status(error) == 501:
                return False
            raise

    return patiently(place, ask)


def delete(place: Place) -> None:
    patiently(place, lambda: client().delete_object(Bucket=place.bucket, Key=place.key))


class RemoteFile:
    """A binary file for `pyarrow.PythonFile`: each read is a ranged GET that is repeated while the store is busy.

    Small reads on and on share one GET; going back asks the store again, for who reads twice may have met a flipped byte.
    The object must stay what it was when it was opened; a read of another version is a StorageError.
    """

    closed = False

    def __init__(self, place: Place, known: About | None = None) -> None:
        found = known or about(place)
        if found is None:
            raise missing(place)
        self._place, self._about, self._at = place, found, 0
        self._window, self._begin, self._next = b"", 0, 0

    def read(self, count: int = -1) -> bytes:
        start, size = self._at, self._about.size
        stop = size if count < 0 else min(start + count, size)
        if stop <= start:
            return b""
        going_on = max(self._begin, self._next) <= start and stop <= self._begin + len(self._window)
        self._at = self._next = stop
        if stop - start >= WINDOW:
            pieces = [self._fetch(at, min(at + PIECE, stop)) for at in range(start, stop, PIECE)]
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not going_on:
            self._window, self._begin = self._fetch(start, min(start + WINDOW, size)), start
        return self._window[start - self._begin : stop - self._begin]

    def _fetch(self, start: int, stop: int) -> bytes:
        wanted = {"Bucket": self._place.bucket, "Key": self._place.key, "IfMatch": self._about.etag}
        return patiently(self._place, lambda: bytes(client().get_object(**wanted, Range=f"bytes={start}-{stop - 1}")["Body"].read()))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._about.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self.closed, self._window = True, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


def _head(place: Place) -> About | None:
    from botocore.exceptions import ClientError

    try:
        head = client().head_object(Bucket=place.bucket, Key=place.key)
    except ClientError as error:
        if status(error) == 404:
            return None
        if status(error) in (400, 403):  # the answer to a HEAD has no room to say why; the answer to a GET has
            client().get_object(Bucket=place.bucket, Key=place.key, Range="bytes=0-0")["Body"].close()
        raise
    return About(place.key, head["ContentLength"], head["ETag"], head.get("Metadata", {}).get(TOKEN, ""))


def _put_conditionally(place: Place, data: bytes, token: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client().put_object(Bucket=place.bucket, Key=place.key, Body=data, IfNoneMatch="*", Metadata={TOKEN: token})
    except ClientError as error:
        if status(error) != 412:
            raise
        return False
    return True


def _folder(key: str) -> str:
    return f"{key.rstrip('/')}/" if key else ""

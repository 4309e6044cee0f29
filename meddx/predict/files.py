"""A bundle's folder in, its files as checked bytes out; and the other way round, published at once.

`digests.json` is the one list of what belongs to a bundle: canonical JSON, name to SHA-256.  Every file is read once; what
is parsed later are the very bytes that were checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping

from meddx.errors import BundleError, OutputError
from meddx.storage import JUNK, StoragePath
from meddx.yamlconf import canonical

DIGESTS = "digests.json"
UNLISTED = ("record.json", *JUNK)  # beside a bundle, never part of it, never read by it
TEMPORARY = ".tmp-"  # what a crash of `StoragePath.replace` may leave
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
MAX_BYTES = 8 << 30
RACE = "another job wrote a bundle here at the same time"
AGAIN = "copy the bundle again, or make it again; never edit its files"


def read_files(path: StoragePath) -> tuple[dict[str, bytes], str]:
    """(name to bytes of every listed file, digest of the bundle).

    Raises BundleError where anything is missing, extra, too large, or differs from its digest by one bit.
    """
    sizes = _sizes(path)
    if DIGESTS not in sizes:
        raise BundleError("there is no finished bundle here: no digests.json", str(path), "check the path; a bundle is a whole folder")
    if sum(sizes.values()) > MAX_BYTES:
        raise BundleError(f"the bundle is larger than {MAX_BYTES >> 30} GiB", str(path))
    raw = (path / DIGESTS).read_bytes()
    listed = _parse(raw, path)
    found = set(sizes) - {DIGESTS}
    if missing := sorted(set(listed) - found):
        raise BundleError(f"the bundle is damaged: {', '.join(missing)} is missing", str(path), AGAIN)
    if extra := sorted(found - set(listed)):
        raise BundleError(f"the bundle holds files that it does not list: {', '.join(extra[:5])}", str(path), "remove them")
    files = {name: (path / name).read_bytes() for name in listed}
    if changed := [name for name, data in files.items() if _sha(data) != listed[name]]:
        raise BundleError(f"the bundle is damaged: {', '.join(changed)} differs from its digest", str(path), AGAIN)
    return files, _sha(raw)[:16]


def publish(path: StoragePath, files: Mapping[str, bytes], *, replace: bool = False) -> str:
    """Write the files and their digests so that a reader finds the whole bundle or none; the bundle's digest.

    In a folder: written beside, moved into place.  On S3: files first, `digests.json` last.  The same bundle is left as it
    is.  Raises OutputError where another bundle stands (unless `replace`), or anything that is not a bundle (always).
    """
    if wrong := [name for name in files if not NAME.fullmatch(name) or name in (DIGESTS, *UNLISTED)]:
        raise BundleError(f"a file of a bundle cannot have the name {wrong[0]!r}", str(path), "letters, digits, - _ and . only")
    raw = canonical({name: _sha(data) for name, data in files.items()}).encode()
    digest = _sha(raw)[:16]
    before = _sizes(path)
    if DIGESTS in before and _intact(path) == digest:
        return digest
    _refuse_foreign(path, set(before), set(files), replace)
    if path.on_s3:
        _publish_s3(path, files, raw, set(before))
    else:
        _publish_folder(path, {**files, DIGESTS: raw})
    return digest


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sizes(path: StoragePath) -> dict[str, int]:
    """Name to size of the files below, without those that are never part of a bundle."""
    if not path.is_dir():
        return {}
    found = {info.path.relative_to(path): info.size for info in path.list()}
    return {name: size for name, size in found.items() if name not in UNLISTED and not name.startswith(TEMPORARY)}


def _parse(raw: bytes, path: StoragePath) -> dict[str, str]:
    try:
        listed = json.loads(raw)
        same = canonical(listed).encode() == raw
    except (ValueError, RecursionError) as error:
        raise BundleError("the bundle is damaged: digests.json is not readable", str(path), AGAIN) from error
    if not same or not isinstance(listed, dict):
        raise BundleError("the bundle is damaged: digests.json is not as it was written", str(path), AGAIN)
    for name, digest in listed.items():
        if not NAME.fullmatch(name) or not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BundleError("the bundle is damaged: digests.json lists what cannot be a file of a bundle", str(path), AGAIN)
    return listed


def _intact(path: StoragePath) -> str | None:
    """The digest of the bundle that stands here, or None where it is damaged."""
    try:
        return read_files(path)[1]
    except BundleError:
        return None


def _refuse_foreign(path: StoragePath, before: set[str], new: set[str], replace: bool) -> None:
    if not before:
        return
    if DIGESTS in before:
        if not replace:
            raise OutputError("another bundle stands here", str(path), "choose another folder, or say that it is to be replaced")
        try:
            new = new | set(_parse((path / DIGESTS).read_bytes(), path))
        except BundleError:
            new = new | before  # a damaged list cannot name its files
    # an upload to S3 that was cut short leaves files without digests.json: those may be written over
    if foreign := sorted(before - new - {DIGESTS}) or (sorted(before) if DIGESTS not in before and not path.on_s3 else []):
        raise OutputError(f"the folder holds something that is not a bundle: {foreign[0]}", str(path), "choose another folder")


def _publish_s3(path: StoragePath, files: Mapping[str, bytes], raw: bytes, before: set[str]) -> None:
    for name in sorted(before, key=lambda one: one != DIGESTS):  # digests.json goes first: from here on there is no bundle
        (path / name).delete()
    for name, data in files.items():
        (path / name).replace(data)
    if not (path / DIGESTS).create_once(raw):
        raise OutputError(RACE, str(path), "choose another folder, or run again")


def _publish_folder(path: StoragePath, files: Mapping[str, bytes]) -> None:
    path.parent.make_dir()
    token = uuid.uuid4().hex
    fresh, old = path.parent / f"{TEMPORARY}{token}", path.parent / f"{TEMPORARY}{token}-old"
    try:
        for name, data in files.items():
            (fresh / name).replace(data)
        if path.exists():
            os.rename(path.uri, old.uri)
        try:
            os.rename(fresh.uri, path.uri)
        except OSError as error:
            raise OutputError(RACE, str(path), "choose another folder, or run again") from error
        _sync(path.parent)
    finally:
        shutil.rmtree(fresh.uri, ignore_errors=True)
        shutil.rmtree(old.uri, ignore_errors=True)


def _sync(folder: StoragePath) -> None:
    """The new name survives a power cut only once its folder is synced; some network file systems cannot."""
    handle = os.open(folder.uri, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)

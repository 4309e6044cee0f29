"""A listing in, what the footers of its files say out; from a former look, kept beside the plan, for files that are still the same.

`--check` reads all footers of an archive, and so does the first plan.  They say nothing of a bundle or of rules, so unlike a plan
they may be kept before anybody has decided anything: the check's listing becomes the plan of whichever run comes next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from meddx.errors import StorageError
from meddx.score.plan import FOLDER
from meddx.score.sources import PARQUET, Broken, Listing, SourceFile, Tell, read_footers
from meddx.storage import FileInfo, StoragePath

NAME = "footers.json"
FORMAT = 1
FROM_FILES = 100  # fewer are read again sooner than it takes to explain what lies in the output


def footers_of(
    out: StoragePath, listing: Listing, wanted: Mapping[str, FileInfo], tell: Tell | None = None
) -> tuple[list[SourceFile], list[Broken]]:
    """Of the files `wanted`, in the order of their paths.  A kept footer counts only where path and version are the same."""
    if listing.family != PARQUET:
        return read_footers(listing.root, wanted, listing.family, tell)
    kept = _read(out) if len(wanted) >= FROM_FILES else {}
    known = [kept[path] for path, info in wanted.items() if path in kept and kept[path].version == info.version]
    paths = {one.path for one in known}
    files, broken = read_footers(listing.root, {path: info for path, info in wanted.items() if path not in paths}, PARQUET, tell)
    return sorted([*known, *files], key=lambda one: one.path), broken


def keep_footers(out: StoragePath, files: Sequence[SourceFile]) -> bool:
    """Keep them for the plan.  False where there are few, or where nothing can be written: then they are read again."""
    if len(files) < FROM_FILES or files[0].family != PARQUET:
        return False
    columns = sorted({one.columns for one in files})
    places = {one: place for place, one in enumerate(columns)}
    rows = {one.path: [one.version, one.size, one.groups, places[one.columns]] for one in files}
    try:
        _place(out).replace(json.dumps({"format": FORMAT, "columns": columns, "files": rows}).encode())
    except StorageError:
        return False
    return True


def drop_footers(out: StoragePath) -> None:
    """The plan says it now."""
    with suppress(StorageError):
        if _place(out).is_file():
            _place(out).delete()


def _read(out: StoragePath) -> dict[str, SourceFile]:
    place = _place(out)
    try:
        page: dict[str, Any] = json.loads(place.read_bytes()) if place.is_file() else {}
        if page.get("format") != FORMAT:
            return {}
        columns = [tuple(one) for one in page["columns"]]
        return {
            path: SourceFile(path, version, size, tuple((rows, weight) for rows, weight in groups), columns[which])
            for path, (version, size, groups, which) in page["files"].items()
        }
    except (StorageError, ValueError, KeyError, TypeError, IndexError):
        return {}  # it only saves time


def _place(out: StoragePath) -> StoragePath:
    return out / FOLDER / NAME

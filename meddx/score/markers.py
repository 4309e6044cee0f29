"""A unit that is begun in, a marker on storage out, so that a later attempt knows that this one did not end in order.

A marker changes only how a unit is decoded, never what is written: a killed driver leaves markers of healthy units too.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress

from meddx import failpoints
from meddx.errors import StorageError
from meddx.score.plan import FOLDER
from meddx.storage import StoragePath

PREFIX = "open-"


def marker_path(out: StoragePath, unit_id: str) -> StoragePath:
    return out / FOLDER / f"{PREFIX}{unit_id}"


def found(out: StoragePath) -> set[str]:
    """The units of attempts that have not ended, from one listing."""
    names = (info.path.name for info in (out / FOLDER).list(recursive=False))
    return {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}


def begin(out: StoragePath, unit_id: str, token: str) -> None:
    """An attempt begins.  What it says, job and process, is for people."""
    about = {"job": token, "node": socket.gethostname(), "process": os.getpid()}
    marker_path(out, unit_id).replace(json.dumps(about).encode())
    failpoints.reach("marker")


def of_another(out: StoragePath, unit_id: str, token: str) -> bool:
    """Whether another job began this unit and has not ended it, alive or not."""
    try:
        place = marker_path(out, unit_id)
        return place.is_file() and bool(json.loads(place.read_bytes())["job"] != token)
    except (StorageError, ValueError, KeyError, TypeError):  # it has just ended, or it says nothing
        return False


def end(out: StoragePath, unit_id: str) -> None:
    """An attempt has ended in order.  A marker that cannot be removed costs a careful attempt at most, or nothing: finishing sweeps."""
    with suppress(StorageError):
        marker_path(out, unit_id).delete()


def sweep(out: StoragePath) -> None:
    """Remove every marker of a finished run; one of another job's live attempt too, for its unit is published."""
    for unit_id in found(out):
        end(out, unit_id)

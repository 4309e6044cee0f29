"""Each opening of a test part in, one more line of its log out; nothing here ever removes a line."""

from __future__ import annotations

import getpass
import json
import os
import uuid
from datetime import UTC, datetime

from meddx.dataset.open import Dataset
from meddx.storage import StoragePath

NAME = "test_opened"


def open_test(dataset: Dataset, *, job: str, why: str) -> int:
    """Write down that the test part is looked at; returns how often it was opened, this time included.

    A folder: one appended line in `split/test_opened.jsonl`, safe for several processes (one O_APPEND write).
    S3 cannot append: one object an opening below `split/test_opened/`.
    """
    now = datetime.now(UTC)
    line = json.dumps({"when": now.isoformat(timespec="seconds"), "by": getpass.getuser(), "job": job, "why": why}) + "\n"
    place = dataset.path / "split"
    if dataset.path.on_s3:
        (place / NAME / f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex}.json").create_once(line.encode())
        return times_opened(dataset)
    place.make_dir()
    handle = os.open((place / f"{NAME}.jsonl").uri, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    return times_opened(dataset)


def times_opened(dataset: Dataset | StoragePath) -> int:
    """How often the test part was opened; 0 where there is no log.  A damaged dataset is named by its path."""
    root = dataset if isinstance(dataset, StoragePath) else dataset.path
    place = root / "split"
    if root.on_s3:
        return sum(1 for _ in (place / NAME).list(suffix=".json"))
    log = place / f"{NAME}.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0

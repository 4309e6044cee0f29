"""What was done in, `record.json` out: inputs with digests, fingerprint, versions, counts, seconds, peak memory."""

from __future__ import annotations

import getpass
import json
import platform
import re
import resource
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from meddx import __version__
from meddx.errors import DataError
from meddx.storage import StoragePath

NAME = "record.json"
PACKAGES = (
    "ray",
    "torch",
    "pyarrow",
    "numpy",
    "pandas",
    "scikit-learn",
    "monai",
    "opencv-python-headless",
    "pydicom",
    "nibabel",
    "transformers",
)


class Recorder:
    """Times one stage and writes its record beside its output.

    `job` is the stage's name, `fingerprint` the recipe's; `inputs` maps a role to {"path", "digest", ...}.
    """

    def __init__(self, job: str, fingerprint: str) -> None:
        self.job, self.fingerprint = job, fingerprint
        self.inputs: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}
        self.more: dict[str, Any] = {}
        self._start = time.monotonic()
        self._started = datetime.now(UTC)

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return round(time.monotonic() - self._start, 3)

    def add_input(self, role: str, path: StoragePath | str, digest: str, **more: Any) -> None:
        self.inputs[role] = {"path": str(path), "digest": digest, **more}

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values; `peak_memory_mb`: MiB of this process, or of its largest ended child, so far."""
        peak = max(own_peak_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
        return {
            "job": self.job,
            "meddx": __version__,
            "fingerprint": self.fingerprint,
            "inputs": self.inputs,
            "counts": self.counts,
            **self.more,
            "versions": versions(),
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": self.seconds,
            "peak_memory_mb": peak,
            "made_by": getpass.getuser(),
            "machine": f"{platform.machine()} {platform.system()}",
        }

    def write(self, folder: StoragePath) -> dict[str, Any]:
        record = self.as_dict()
        (folder / NAME).replace((json.dumps(record, indent=1, sort_keys=False) + "\n").encode())
        return record


def own_peak_mb() -> int:
    """The most memory that this process had at a time, MiB.

    From VmHWM where there is one: getrusage's number is handed down from the process that started this one.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return (int(found.group(1)) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) // 1024


def versions() -> dict[str, str]:
    """Python and the installed packages that can change a number; read from metadata, nothing is imported."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read(folder: StoragePath) -> dict[str, Any] | None:
    """The record beside an output, or None where none was written (the job did not finish)."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise DataError("the record is not readable as JSON", str(path), "make the output again") from error
    return record

"""Seconds and bytes that decoding may take in, and the end of a process that takes more out."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

GB = 1 << 30


def _asked(name: str, default: float) -> Callable[[], float]:
    return lambda: float(os.environ.get(name) or default)


@dataclass(frozen=True)
class Limits:
    """`patience_s`: a batch in normal work; `row_patience_s`: a row, where each is tried; `memory_gb`: above what the loaded bundle needs.

    They do not belong to the scoring rules: they change what becomes of a row that hangs, never the values of one that does not.
    """

    patience_s: float = field(default_factory=_asked("MEDDX_PATIENCE_S", 900))
    row_patience_s: float = field(default_factory=_asked("MEDDX_ROW_PATIENCE_S", 60))
    memory_gb: float = field(default_factory=_asked("MEDDX_MEMORY_GB", 3))

    def cap_memory(self) -> None:
        """From now on a request for more is a MemoryError.

        Not where CUDA is in use, which reserves far more than it takes; nor on a system without /proc.
        """
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            return
        held = _data_bytes()
        if held:
            limit = held + int(self.memory_gb * GB)
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


class Watchdog:
    """Ends this process when nobody comes by in time: it works where a decoder holds the GIL, and no thread of Python runs."""

    def __init__(self) -> None:
        self._sink = Path(os.devnull).open("w")  # noqa: SIM115  (a stack has no values, but nobody reads it either)

    def arm(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._sink)

    def rest(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process: private writable memory."""
    status = Path("/proc/self/status")
    found = re.search(r"VmData:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found.group(1)) << 10 if found else 0

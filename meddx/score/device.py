"""This process in; on what kind of device it works, and what is there, out."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from meddx.errors import RecipeError
from meddx.predict import gpus

DEVICES = ("auto", "cpu", "cuda")
CPU = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@cache
def processor() -> str:
    """The processor's name, as its maker writes it."""
    page = Path("/proc/cpuinfo")
    found = CPU.search(page.read_text()) if page.exists() else None
    return " ".join((found[1] if found else platform.processor() or platform.machine()).split())


def cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked(wish: str) -> str:
    """RecipeError for a word that is no device."""
    if wish not in DEVICES:
        raise RecipeError(f"{wish!r} is no device", "--device", f"say one of {', '.join(DEVICES)}")
    return wish


def asked(wish: str) -> str:
    """cpu or cuda; `auto` is a GPU where this machine has one.  RecipeError for a word that is no device."""
    return checked(wish) if wish != "auto" else "cuda" if gpus.names() else "cpu"


def kind(threads: int | None = None, engine: Mapping[str, Any] | None = None) -> str:
    """What a rate holds for: the GPU, or the processor and the threads of one forward.  Ray gives its workers one thread
    (OMP_NUM_THREADS)."""
    if (engine or {}).get("device") == "cuda":
        return (gpus.names() or ["GPU"])[0]
    given = os.environ.get("OMP_NUM_THREADS", "")
    count = threads or (int(given) if given.isdigit() and int(given) else cpus())
    return f"{processor()}, {count} thread{'s' if count > 1 else ''}"


def memory_gb() -> tuple[float, float]:
    """(free, whole) of this machine, in GB; zeros where that is not told."""
    page = Path("/proc/meminfo")
    if not page.exists():
        return 0.0, 0.0
    found = {name: int(kb) / 1e6 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", page.read_text(), re.MULTILINE)}
    return found.get("MemAvailable", 0.0), found.get("MemTotal", 0.0)

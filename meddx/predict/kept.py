"""A bundle and a plan in, the bytes of its graph out: made once on a machine by a child process, kept in the user's cache.

A graph is not part of the bundle.  The bundle stays one truth, the weights, whatever was installed where it was made; and its graph
belongs to the versions and the batch of the machine that runs it.  Making one may crash in native code (measured: gated fusion in
OpenVINO 2026.4 does), so a child does it, runs it, and only then is it kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from meddx.errors import BundleError
from meddx.predict import gpus
from meddx.predict.engine import EnginePlan
from meddx.predict.graph import Graph, NotAGraph, check_obeyed, threads_here, unpack
from meddx.storage import StoragePath

PACKAGES = ("torch", "openvino", "monai", "transformers", "numpy")
SECONDS = 900  # a child that makes a graph or tries one; the largest networks here take one minute


def graph_of(path: StoragePath, digest: str, plan: EnginePlan) -> Graph:
    """The graph of the bundle at `path`, compiled; from the cache, or made now.  BundleError where this machine cannot."""
    check_obeyed(plan)
    data = read_kept(digest, plan)
    if data is None:
        with _alone(place_of(digest, plan)):  # the workers of a machine start together: one makes it, the others read it
            data = read_kept(digest, plan) or _made(path, digest, plan)
            keep(digest, plan, data)
    return Graph(data, plan)


def _made(path: StoragePath, digest: str, plan: EnginePlan) -> bytes:
    with Apart("make", torch=True) as apart, tempfile.TemporaryDirectory(prefix="meddx-") as folder:
        made = Path(folder) / "graph"
        apart.run({"bundle": str(path), "digest": digest, "plan": plan.page(), "graph": str(made)})
        if made.exists():
            return made.read_bytes()
    what = "the network could not be made a graph here, as the plan of these predictions wants it"
    raise BundleError(what, "engine", "use the versions of the machine that began them, or score into another folder")


@contextlib.contextmanager
def _alone(place: Path | None) -> Iterator[None]:
    """Only one process of this machine at a time; the system lets go of what a killed one held."""
    try:
        import fcntl
    except ImportError:  # not Unix
        place = None
    if place is None:
        yield
        return
    with place.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_kept(digest: str, plan: EnginePlan) -> bytes | None:
    """The kept bytes; None where there are none, or damaged ones (they go), or where others could have written them."""
    place = place_of(digest, plan)
    if place is None:
        return None
    try:
        data = place.read_bytes()
        unpack(data)
    except OSError:
        return None
    except (NotAGraph, ValueError, KeyError):
        with contextlib.suppress(OSError):
            place.unlink()
        return None
    return data


def keep(digest: str, plan: EnginePlan, data: bytes) -> None:
    """Keep them for the next process, whole or not at all; without a cache the next one makes them again."""
    _keep(place_of(digest, plan), data)


def read_trial(digest: str, plan: EnginePlan) -> dict[str, Any] | None:
    """What the first trial of a bundle on this kind of processor found; None where there was none."""
    place = _trial_place(digest, plan)
    try:
        found = json.loads(place.read_bytes()) if place else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep_trial(digest: str, plan: EnginePlan, found: dict[str, Any]) -> None:
    _keep(_trial_place(digest, plan), json.dumps(found).encode())


def _trial_place(digest: str, plan: EnginePlan) -> Path | None:
    """Beside the graph; a home folder may be shared by machines of several kinds."""
    place = place_of(digest, plan)
    return place.with_suffix(f".{_machine()}.trial") if place else None


@cache
def _machine() -> str:
    """What can differ between two machines that share a home: name, abilities and number of the processors, and the GPUs."""
    lines: set[str] = set()
    with contextlib.suppress(OSError):
        lines = {line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags", "Features"))}
    return hashlib.sha256(json.dumps([sorted(lines), platform.processor(), threads_here(), gpus.names()]).encode()).hexdigest()[:8]


def _keep(place: Path | None, data: bytes) -> None:
    if place is None:
        return
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".tmp-")  # 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            Path(name).replace(place)
        finally:
            Path(name).unlink(missing_ok=True)


def place_of(digest: str, plan: EnginePlan) -> Path | None:
    """Where the graph of a bundle is kept; None where no folder is this user's alone."""
    folder = _folder()
    if folder is None or not digest:
        return None
    found = _versions() | {"rows": plan.batch_rows}
    return folder / f"{digest}-{hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]}.graph"


def _folder() -> Path | None:
    """`$XDG_CACHE_HOME/meddx/engine`, 0700 and this user's own."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "meddx" / "engine"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
    except (OSError, RuntimeError):
        return None
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return folder if mine and not folder.is_symlink() and not found.st_mode & 0o022 else None


@cache
def _versions() -> dict[str, Any]:
    """What a graph hangs on besides weights and shape: versions, and the very lines of code that say what the networks do."""
    code = hashlib.sha256()
    for file in sorted((Path(__file__).parents[1] / "models").rglob("*.py")):
        code.update(file.read_bytes())
    found: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version(), "code": code.hexdigest()[:16]}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


class Apart:
    """`meddx.predict.child` as a process for one task, where a crash does no harm.  It starts before the task is known, and imports
    meanwhile, with `torch` that too.  Not a fork: threads of torch and Arrow do not live through one."""

    def __init__(self, what: str, *, torch: bool) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
        command = [sys.executable, "-m", "meddx.predict.child", what, *(["torch"] if torch else [])]
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env=environment)

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def run(self, task: dict[str, Any], seconds: float = SECONDS) -> bool:
        """Whether the task came to its end.  A crash there is only this one word."""
        if self._process is None:
            return False
        try:
            self._process.communicate(json.dumps(task).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return self._process.returncode == 0

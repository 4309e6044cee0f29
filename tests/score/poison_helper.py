"""A bundle whose rows do to a decoder what broken files do to real ones; and archives with such rows."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scoring_helper as helper

from meddx.score.bundles import BundleFolders
from meddx.storage import StoragePath

GB = 1 << 30


def _raise() -> None:
    raise ValueError("patient Smith")


ACTS: dict[str, Callable[[], Any]] = {
    "raise": _raise,
    "exit": lambda: sys.exit(3),
    "end": lambda: os._exit(3),
    "hang": lambda: ctypes.PyDLL(None).sleep(1000),  # PyDLL keeps the GIL: no thread of Python runs meanwhile
    "memory": lambda: np.ones(4 * GB, np.uint8),
    "segfault": lambda: ctypes.string_at(0),
}
REASONS = {
    "raise": "decoder_raised",
    "exit": "decoder_raised",
    "end": "decoder_crashed",
    "hang": "decoder_overran",
    "memory": "decoder_memory",
    "segfault": "decoder_crashed",
}


@dataclass
class PoisonBundle(helper.PlainBundle):
    """As the plain one, but a row with an `act` does that first."""

    columns: tuple[str, ...] = ("x", "act")

    def predict(self, rows: pa.Table, **wishes: Any) -> pa.Table:
        for act in rows["act"].to_pylist():
            if act:
                ACTS[act]()
        return super().predict(rows, **wishes)


@dataclass(frozen=True)
class PoisonBundles(helper.PlainBundles):
    def load(self, path: StoragePath, engine: Any = None) -> PoisonBundle:
        return PoisonBundle(digest=path.name)


def archive(folder: Path, acts: Mapping[int, str], *, files: int = 3, rows: int = 200) -> Path:
    """Files of 200 rows, each more than half a unit of 1 MB; row `n` of the whole archive does `acts[n]`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(files):
        act = [acts.get(number * rows + row) for row in range(rows)]
        path = folder / f"f{number}.parquet"
        helper.write_file(path, rng, f"f{number}", rows, 8000, 100, act=pa.array(act, pa.string()))
    return folder


def poisoned(table: pa.Table) -> dict[str, str]:
    """case_id -> reason of the rows in quarantine."""
    bad = table.filter(pc.equal(table["status"], "quarantined"))
    return dict(zip(bad["case_id"].to_pylist(), bad["error"].to_pylist(), strict=True))


def case(row: int, rows: int = 200) -> str:
    return f"f{row // rows}-{row % rows:05d}"


def healthy(table: pa.Table) -> pa.Table:
    return table.filter(pc.not_equal(table["status"], "quarantined"))


@dataclass(frozen=True)
class AngryBundle:
    """A real bundle, but what a `deadly` case holds crashes its decoder."""

    bundle: Any
    deadly: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bundle, name)

    def predict(self, rows: pa.Table, **wishes: Any) -> pa.Table:
        if any(case in self.deadly for case in rows["case_id"].to_pylist()):
            ACTS["segfault"]()
        return self.bundle.predict(rows, **wishes)


@dataclass(frozen=True)
class AngryBundles(BundleFolders):
    deadly: tuple[str, ...] = ()

    def load(self, path: StoragePath, engine: Any = None) -> Any:
        return AngryBundle(super().load(path), self.deadly)

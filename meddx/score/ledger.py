"""Scored rows in, published parts out; and the parts of an output back as facts.

The part is the commit: `part-<unit>.parquet` is built whole in memory and published in one create-once step.  No
writer is ever opened on a final name, for a Parquet writer left by an exception closes a short but valid file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meddx.errors import OutputError, StorageError
from meddx.score import failpoints
from meddx.score.plan import Plan
from meddx.score.units import Unit
from meddx.storage import StoragePath

KEY = b"meddx"
PREFIX, SUFFIX = "part-", ".parquet"
FOOTER_THREADS = 8
STATUSES = {"scored": "scored", "quarantined": "quarantined", "outside": "outside_cohort"}


@dataclass(frozen=True)
class Counts:
    """Rows of a part or of a whole output, by status; `reasons` counts the quarantined by code."""

    rows: int = 0
    scored: int = 0
    quarantined: int = 0
    outside: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        reasons = {key: self.reasons.get(key, 0) + other.reasons.get(key, 0) for key in sorted({*self.reasons, *other.reasons})}
        return Counts(
            self.rows + other.rows, self.scored + other.scored, self.quarantined + other.quarantined, self.outside + other.outside, reasons
        )


@dataclass(frozen=True)
class Stamp:
    """What every part of a job says of its origin."""

    plans: tuple[str, ...]
    bundle: str
    rules: str
    token: str
    engine: dict[str, Any] | None = None


@dataclass(frozen=True)
class Part:
    """A published part as its footer tells it.  `rows` is Parquet's own count, `counts` the writer's."""

    unit: str
    rows: int
    counts: Counts
    token: str


def part_path(out: StoragePath, unit_id: str) -> StoragePath:
    return out / f"{PREFIX}{unit_id}{SUFFIX}"


def count(table: pa.Table) -> Counts:
    """The statuses and the reasons in a table of predictions."""
    found = {one["values"]: one["counts"] for one in pc.value_counts(table["status"]).to_pylist()}
    bad = table.filter(pc.equal(table["status"], STATUSES["quarantined"]))["error"]
    reasons = {str(one["values"]): one["counts"] for one in pc.value_counts(bad).to_pylist()}
    by_status = {name: found.get(status, 0) for name, status in STATUSES.items()}
    return Counts(table.num_rows, **by_status, reasons=dict(sorted(reasons.items())))


def encode(table: pa.Table, unit: Unit, stamp: Stamp) -> tuple[bytes, Counts]:
    """The bytes of a part: the rows, and in the metadata the counts, the plan and the versions that were read."""
    counts = count(table)
    about = {**asdict(stamp), "unit": unit.id, "counts": asdict(counts)}
    about["sources"] = [[piece.version, piece.start, piece.rows] for piece in unit.pieces]  # in the plan's order; no paths
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({KEY: json.dumps(about, sort_keys=True).encode()})
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes(), counts


def publish(out: StoragePath, unit_id: str, data: bytes) -> bool:
    """Commit a unit.  False: another attempt won; its rows stand and ours are dropped."""
    failpoints.reach("before_publish")
    made = part_path(out, unit_id).create_once(data)
    failpoints.reach("published")
    return made


def list_parts(out: StoragePath) -> list[str]:
    """The ids of all published units, from one listing.  List before the plan is loaded: then the plan knows them all."""
    names = (info.path.name for info in out.list(SUFFIX, recursive=False))
    return [name.removeprefix(PREFIX).removesuffix(SUFFIX) for name in names if name.startswith(PREFIX)]


def read_parts(out: StoragePath, plan: Plan, unit_ids: Iterable[str]) -> dict[str, Part]:
    """The footers of parts.  StorageError names a damaged one; OutputError one that this plan and bundle did not make."""
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        parts = pool.map(lambda unit_id: _read_part(out, plan, unit_id), unit_ids)
        return {part.unit: part for part in parts}


def _read_part(out: StoragePath, plan: Plan, unit_id: str) -> Part:
    path = part_path(out, unit_id)
    try:
        with path.open() as stream:
            footer = pq.read_metadata(stream)
        about: dict[str, Any] = json.loads((footer.metadata or {})[KEY])
        part = Part(about["unit"], footer.num_rows, Counts(**about["counts"]), about["token"])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise StorageError(
            f"a published part is damaged ({type(error).__name__})", str(path), "delete this part and run the same command again"
        ) from error
    known = about["bundle"] == plan.owner.bundle and about["rules"] == plan.owner.rules and about["plans"][0] == plan.digests[0]
    if not known or part.unit != unit_id or unit_id not in plan.units:
        raise OutputError("a part does not belong to this output's plan", str(path), "move it away and run the same command again")
    return part

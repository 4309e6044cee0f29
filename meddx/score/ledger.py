"""Scored rows in, published parts out; and the parts of an output back as facts.

The part is the commit: `part-<unit>.parquet` is built whole in memory and published in one create-once step.  No
writer is ever opened on a final name, for a Parquet writer left by an exception closes a short but valid file.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meddx import failpoints
from meddx.errors import OutputError, StorageError
from meddx.predict import spans, spread
from meddx.predict.options import BETWEEN, WARNING
from meddx.score.plan import Generation, Plan, place_of
from meddx.score.units import Unit
from meddx.storage import StoragePath

KEY = b"meddx"
NIGHT = b"meddx.night"  # what the summary tells of a part; nothing hangs on it, and older parts have none
PREFIX, SUFFIX = "part-", ".parquet"
FOOTER_THREADS = 8
SHOWN = 5  # codes of warnings in a line
IDS = ("case_id", "patient_id")
MEMBER = re.compile(r"list<\w+: ")
STATUSES = {"scored": "scored", "quarantined": "quarantined", "outside": "outside_cohort"}


@dataclass(frozen=True)
class Counts:
    """Rows of a part or of a whole output, by status; `reasons` counts the quarantined by code, `warnings` the `warned`, of which one may
    have several."""

    rows: int = 0
    scored: int = 0
    quarantined: int = 0
    outside: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    warned: int = 0
    warnings: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.scored + other.scored,
            self.quarantined + other.quarantined,
            self.outside + other.outside,
            _sum(self.reasons, other.reasons),
            self.warned + other.warned,
            _sum(self.warnings, other.warnings),
        )

    @property
    def warning_line(self) -> str:
        """How many rows are not as those of train, and the most frequent of why; empty where none is."""
        most = sorted(self.warnings.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]
        return f"warned {self.warned:,} ({', '.join(f'{code} {n:,}' for code, n in most)})" if self.warned else ""


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


@dataclass(frozen=True)
class Stamp:
    """What every part of a job says of its origin."""

    plans: tuple[str, ...]
    bundle: str
    rules: str
    token: str
    engine: dict[str, Any] | None = None
    scale: spread.Scale | None = None  # in which a regression's values are counted


@dataclass(frozen=True)
class Part:
    """A published part as its footer tells it.  `rows` is Parquet's own count, `counts` the writer's; `night` is for the summary."""

    unit: str
    rows: int
    counts: Counts
    token: str
    columns: tuple[str, ...] = ()
    night: bytes = b""


def part_name(unit_id: str) -> str:
    return f"{PREFIX}{unit_id}{SUFFIX}"


def part_path(out: StoragePath, unit_id: str) -> StoragePath:
    return out / part_name(unit_id)


def count(table: pa.Table) -> Counts:
    """The statuses and the reasons in a table of predictions."""
    found = {one["values"]: one["counts"] for one in pc.value_counts(table["status"]).to_pylist()}
    bad = table["error"].filter(pc.equal(table["status"], STATUSES["quarantined"]))
    reasons = {str(one["values"]): one["counts"] for one in pc.value_counts(bad).to_pylist()}
    by_status = {name: found.get(status, 0) for name, status in STATUSES.items()}
    return Counts(table.num_rows, **by_status, reasons=dict(sorted(reasons.items())), **_warnings(table))


def _warnings(table: pa.Table) -> dict[str, Any]:
    """Of a bundle that states its contract; others have no such column."""
    if WARNING not in table.column_names or table[WARNING].null_count == table.num_rows:
        return {}
    warned, found = 0, Counter[str]()
    for one in pc.value_counts(pc.drop_null(table[WARNING])).to_pylist():
        warned += one["counts"]
        found.update(dict.fromkeys(one["values"].split(BETWEEN), one["counts"]))
    return {"warned": warned, "warnings": dict(sorted(found.items()))}


def columns_of(schema: pa.Schema) -> tuple[str, ...]:
    """Names and types, as a part says them a second time: pages have checksums, a footer has none.

    Parquet calls the member of a list `element`, whatever it was called before.
    """
    return tuple(f"{field.name}: {MEMBER.sub('list<element: ', str(field.type))}" for field in schema)


def encode(table: pa.Table, unit: Unit, stamp: Stamp, seconds: float = 0.0) -> tuple[bytes, Counts]:
    """The bytes of a part: the rows, and in the metadata the counts, the plan and the versions that were read.

    `seconds` that scoring took; with the time of day and the answers by band it is kept for the summary.
    """
    counts = count(table)
    about = {**asdict(stamp), "unit": unit.id, "counts": asdict(counts)}
    about["sources"] = [[piece.version, piece.start, piece.rows] for piece in unit.pieces]  # in the plan's order; no paths
    about["columns"] = columns_of(table.schema)
    sink = pa.BufferOutputStream()
    night = {"ended": round(time.time(), 2), "seconds": round(seconds, 3), "answers": spread.count_table(table, stamp.scale)}
    pages = {KEY: json.dumps(about, sort_keys=True), NIGHT: json.dumps(night)}
    table = table.replace_schema_metadata({key: page.encode() for key, page in pages.items()})
    few, ordered = _words(table.schema), [name for name in table.column_names if name not in IDS]
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, use_dictionary=few, write_statistics=ordered)
    return sink.getvalue().to_pybytes(), counts


def _words(schema: pa.Schema) -> list[str]:
    """The columns of few words.  A dictionary of ids or of numbers is given up when it is full, after half of the writer's time."""
    words = [field.name for field in schema if pa.types.is_string(field.type) and field.name not in IDS]
    return [*words, f"{spans.COLUMN}.list.element.label"]


class Watch:
    """Whether a unit left the plan since a job loaded it.  Plans only grow, so one look for the next name answers it."""

    def __init__(self, out: StoragePath, known: int) -> None:
        self._out, self._known = out, known
        self._retired: set[str] = set()

    def retired(self, unit_id: str) -> bool:
        while (place := place_of(self._out, self._known)).is_file():
            self._retired.update(Generation.decode(place.read_bytes()).leaving.retired)
            self._known += 1
        return unit_id in self._retired


def publish(out: StoragePath, unit_id: str, data: bytes, watch: Watch | None = None, *, alone: bool = False) -> bool:
    """Commit a unit.  False: another attempt won, or the unit left the plan; our rows are dropped.

    The look after publishing is the one that counts.  Whoever retires a unit writes the generation first and lists the
    parts after it: a part that this listing missed was published later, and then we see the generation.
    """
    failpoints.reach("before_publish")
    if watch is not None and watch.retired(unit_id):
        return False
    made = part_path(out, unit_id).create_once(data, alone=alone)
    failpoints.reach("published")
    if watch is not None and watch.retired(unit_id):
        part_path(out, unit_id).delete()
        return False
    return made


def retire(out: StoragePath, plan: Plan, published: Collection[str]) -> set[str]:
    """Delete the parts of units that left the plan; what stays.  Needed at each start too: a job may have died before or in it.

    OutputError for a part that no generation knows: it is not ours to delete, and readers of the folder would count it.
    """
    strange = sorted(set(published) - plan.units.keys() - plan.retired)
    if strange:
        more = f" (and {len(strange) - 1} more)" if len(strange) > 1 else ""
        raise _foreign(part_path(out, strange[0]), more)
    for unit_id in sorted(plan.retired.intersection(published)):
        part_path(out, unit_id).delete()
        failpoints.reach("half_retired")
    return set(published) - plan.retired


def list_parts(out: StoragePath) -> list[str]:
    """The ids of all published units, from one listing.  List before the plan is loaded: then the plan knows them all."""
    names = (info.path.name for info in out.list(SUFFIX, recursive=False))
    return [name.removeprefix(PREFIX).removesuffix(SUFFIX) for name in names if name.startswith(PREFIX)]


def read_parts(out: StoragePath, plan: Plan, unit_ids: Iterable[str]) -> dict[str, Part]:
    """The footers of parts; one that has gone since it was listed is left out.

    StorageError names a damaged one; OutputError one that this plan and bundle did not make.
    """
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        parts = pool.map(lambda unit_id: _read_part(out, plan, unit_id), unit_ids)
        return {part.unit: part for part in parts if part is not None}


def _parse_footer(stream: pa.NativeFile) -> tuple[int, dict[str, Any], bytes]:
    footer = pq.read_metadata(stream)
    pages = footer.metadata or {}
    return footer.num_rows, json.loads(pages[KEY]), pages.get(NIGHT, b"")


def _read_part(out: StoragePath, plan: Plan, unit_id: str) -> Part | None:
    path = part_path(out, unit_id)
    try:
        rows, about, night = path.parsed(_parse_footer, (OSError, pa.ArrowException, KeyError, ValueError))
        part = Part(about["unit"], rows, Counts(**about["counts"]), about["token"], tuple(about.get("columns", ())), night)
        plans, owner = tuple(about["plans"]), (about["bundle"], about["rules"])
        sources = [tuple(one) for one in about["sources"]]
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise StorageError(
            f"a published part is damaged ({type(error).__name__})", str(path), "delete this part and run the same command again"
        ) from error
    except StorageError:
        if path.is_file():
            raise
        return None
    known = owner == (plan.owner.bundle, plan.owner.rules) and plans and plans == plan.digests[: len(plans)]
    if not known or part.unit != unit_id or unit_id not in plan.units:
        raise _foreign(path)
    if sources != [(piece.version, piece.start, piece.rows) for piece in plan.units[unit_id].pieces]:
        raise _foreign(path)
    return part


def _foreign(path: StoragePath, more: str = "") -> OutputError:
    return OutputError(f"a part does not belong to this output's plan{more}", str(path), "move it away and run the same command again")

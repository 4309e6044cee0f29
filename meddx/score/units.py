"""Footers in, commit units out: what is scored, published and repeated as one.

Small files are grouped by hash(path) % buckets, a large file is cut between its row groups, and a row group too large
to hold is cut into fixed row ranges that one task streams through once.  Nothing depends on the order of a listing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from meddx.score.sources import PARQUET, SourceFile

MB = 1 << 20
STREAM_BYTES = 64 * MB  # a row group above this is streamed, never held
BYTES_A_ROW = 64  # a row weighs at least this much: a constant column of a billion rows has almost no bytes

Task = tuple["Unit", ...]


class UnitFailed(Exception):
    """The unit stays undone; `kind` is a short code, the same for the same cause."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Piece:
    """Rows [start, start + rows) of one version of one file."""

    path: str
    version: str
    start: int
    rows: int

    @property
    def stop(self) -> int:
        return self.start + self.rows


@dataclass(frozen=True)
class Unit:
    """The commit unit.  `weight`: bytes before compression; units with the same non-empty `stream` are one task; `family`: of its files."""

    id: str
    pieces: tuple[Piece, ...]
    weight: int
    stream: str = ""
    family: str = PARQUET

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


def digest(*words: object) -> str:
    """16 hex digits that are the same on every machine and in every process."""
    return hashlib.sha256("\t".join(map(str, words)).encode()).hexdigest()[:16]


def count_buckets(files: Iterable[SourceFile], unit_bytes: int) -> int:
    """How many groups the small files of a first plan need; later plans keep the number, so that a new file touches one unit."""
    small = sum(weight for file in files if (weight := _weigh(file)) < unit_bytes)
    return max(1, math.ceil(small / unit_bytes))


def make_units(files: Sequence[SourceFile], *, unit_bytes: int, buckets: int) -> list[Unit]:
    """All units of these files, sorted by id; empty files have none."""
    grouped: dict[tuple[str, int], list[tuple[Piece, int]]] = {}
    units: list[Unit] = []
    for file in sorted(files, key=lambda one: one.path):
        weight = _weigh(file)
        if not file.rows:
            continue
        if weight < unit_bytes or file.family != PARQUET:
            bucket = int(digest(file.path), 16) % buckets
            grouped.setdefault((file.family, bucket), []).append((Piece(file.path, file.version, 0, file.rows), weight))
        else:
            units += _cut(file, unit_bytes)
    for (family, _), members in grouped.items():
        units += (replace(unit, family=family) for unit in _pack(members, 2 * unit_bytes))
    return sorted(units, key=lambda unit: unit.id)


def make_tasks(units: Iterable[Unit], done: Collection[str], token: str) -> list[Task]:
    """What is left to do, largest first.  Equal ones are ordered by the job's token, so that two jobs seldom meet."""
    streams: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.id not in done:
            streams.setdefault(unit.stream or unit.id, []).append(unit)
    tasks = [tuple(sorted(members, key=lambda unit: unit.pieces[0].start)) for members in streams.values()]
    return sorted(tasks, key=lambda task: (-sum(unit.weight for unit in task).bit_length(), digest(token, task[0].id)))


def _weigh_rows(rows: int, size: int) -> int:
    return max(size, rows * BYTES_A_ROW)


def _weigh(file: SourceFile) -> int:
    return sum(_weigh_rows(rows, size) for rows, size in file.groups)


def _unit(pieces: Iterable[Piece], weight: int, stream: str = "") -> Unit:
    """The id names the rows and the version: when a file changes, its units are other units."""
    pieces = tuple(pieces)
    return Unit(digest(*(word for p in pieces for word in (p.path, p.version, p.start, p.rows))), pieces, weight, stream)


def _pack(members: list[tuple[Piece, int]], limit: int) -> Iterator[Unit]:
    """One unit of a bucket; more when later nights put far more into it than was planned."""
    held: list[Piece] = []
    total = 0
    for piece, weight in members:
        if held and total + weight > limit:
            yield _unit(held, total)
            held, total = [], 0
        held.append(piece)
        total += weight
    yield _unit(held, total)


def _cut(file: SourceFile, unit_bytes: int) -> Iterator[Unit]:
    """Runs of whole row groups of about a unit; a row group too large to hold becomes a stream of row ranges."""
    start = end = total = 0
    for rows, size in file.groups:
        weight = _weigh_rows(rows, size)
        if end > start and total + weight > unit_bytes:
            yield _unit([Piece(file.path, file.version, start, end - start)], total)
            start, total = end, 0
        if weight > max(STREAM_BYTES, unit_bytes):
            yield from _stream(file, end, rows, weight, unit_bytes)
            start = end = end + rows
        else:
            end, total = end + rows, total + weight
    if end > start:
        yield _unit([Piece(file.path, file.version, start, end - start)], total)


def _stream(file: SourceFile, start: int, rows: int, weight: int, unit_bytes: int) -> Iterator[Unit]:
    step = max(1, math.ceil(rows * unit_bytes / weight))
    stream = digest("stream", file.path, file.version, start)
    for first in range(start, start + rows, step):
        count = min(step, start + rows - first)
        yield _unit([Piece(file.path, file.version, first, count)], weight * count // rows, stream)

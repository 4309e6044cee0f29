"""What passes between a reader and the writer: blocks of typed rows, and rejects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.storage import FileInfo, StoragePath


@dataclass(frozen=True)
class Reject:
    """One row, or one file, that could not be read: where it was and why; never a value, never a path."""

    source: str
    reason: str
    detail: str = ""
    row: int | None = None
    path_digest: str | None = None


@dataclass(frozen=True)
class Unit:
    """One file, or one run of files of a folder, that can be read on its own; `offset` rows come before it in the source."""

    name: str
    offset: int
    files: tuple[FileInfo, ...]


@dataclass(frozen=True)
class Block:
    """Some typed rows under the source's own column names.

    `rows` int64 [n]: 1-based row number in the unit.  `path_digests`: one a row where a row is a file, else empty.
    """

    table: pa.Table
    source: str
    rows: np.ndarray
    rejects: list[Reject] = field(default_factory=list)
    path_digests: Sequence[str] = ()

    def keep(self, mask: np.ndarray, rejects: list[Reject]) -> Block:
        """The block with only the rows where `mask` (bool [n]) is true, and `rejects` added."""
        table = self.table.filter(pa.array(mask))
        digests = [digest for digest, kept in zip(self.path_digests, mask, strict=False) if kept]
        return Block(table, self.source, self.rows[mask], [*self.rejects, *rejects], digests)

    def reject(self, index: int, reason: str, detail: str = "") -> Reject:
        """A reject for the row at position `index` of this block."""
        digest = self.path_digests[index] if self.path_digests else None
        return Reject(self.source, reason, detail, int(self.rows[index]), digest)


class Reader(Protocol):
    """An opened source.  `read_unit` is a pure generator: units may be read in any order, on any machine."""

    @property
    def schema(self) -> pa.Schema: ...

    units: Sequence[Unit]
    expected: int  # rows and files to account for, counted independently of read_unit
    rejects: Sequence[Reject]  # found while opening; part of `expected`
    facts: dict[str, Any]
    notes: list[str]

    def read_unit(self, unit: Unit) -> Iterator[Block]: ...


class Damaged(DataError):
    """A file whose content cannot be read; quarantined when it is one of many, refused when it is the only one."""

    reason = "file_unreadable"


class Empty(Damaged):
    reason = "file_empty"


def path_digest(root: StoragePath, path: StoragePath) -> str:
    """16 hex digits that name a file without showing its path."""
    return hashlib.sha256(path.relative_to(root).encode()).hexdigest()[:16]

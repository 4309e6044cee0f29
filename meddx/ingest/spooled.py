"""One joined source in; its rows on local disk, with their keys and times in memory, out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError
from meddx.ingest import keys
from meddx.ingest.block import Block, Reader, Reject, path_digest
from meddx.ingest.cases import must_exist, not_finite
from meddx.ingest.columns import NUMBER, matches
from meddx.ingest.find import Found
from meddx.ingest.instants import Stamps
from meddx.ingest.opened import open_reader
from meddx.ingest.options import SourceOptions
from meddx.ingest.pivot import LONG, Pivot
from meddx.ingest.spool import Spool

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
KEY, STAMP, ROW = "@key", "@stamp", "@row"


@dataclass
class Spooled:
    """The rows of one joined source.

    `codes` int64 [n]: which of `digests` (sorted S16) a row's key is.  `times`: int64 [n] microseconds of UTC, or float64 [n] hours
    since the case's zero where `time_unit` is given, or None without `time`.  `there` bool [n]: the row has a time.
    `read` = `rows` + what `rejects` counts + `counts["other_variables"]`.
    """

    name: str
    source: SourceOptions
    kept: pa.Schema
    spool: Spool
    pivot: Pivot | None
    digests: np.ndarray
    codes: np.ndarray
    times: np.ndarray | None
    there: np.ndarray
    read: int
    rejects: list[Reject]
    counts: Counter[str]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def fields(self) -> list[pa.Field]:
        """Of the struct: `@time` where there is a time, then the variables of a pivot or the kept columns."""
        first = [pa.field("@time", pa.float64())] if self.times is not None else []
        return [*first, *(self.pivot.fields if self.pivot else self.kept)]


def read_joined(name: str, source: SourceOptions, found: Found, zone: str | None) -> Spooled:
    """Read the whole source once.  `zone`: case.zone, for stamps of a source that names none.

    Raises DataError when a key, the time or a kept column is not there, or when no row can be used.
    """
    reader, where = _open(source, found), str(found.root)
    pivot = Pivot(source, reader.schema, str(reader.facts.get("decimal") or "."), where) if source.pivot else None
    kept = pa.schema([]) if pivot else _kept(source, reader.schema, where)
    reading = _Reading(name, source, kept, pivot)
    lying_by = [Reject(found.root.name, "not_of_format", "", None, path_digest(found.root, one.path)) for one in found.others]
    rejects = [*reader.rejects, *lying_by]
    read = reader.expected + len(lying_by)
    for unit in reader.units:
        for block in reader.read_unit(unit):
            rejects += reading.take(block)
    reading.spool.close()
    if not reading.spool.rows:
        raise DataError(f"no row of the joined source {name!r} can be used", where, "check the keys of the source and the archive")
    digests, codes = reading.index()
    stamps = Stamps(source.time, source.zone or zone, source.dates.get(source.time)) if source.time and not source.time_unit else None
    times, there, unreadable = reading.times(stamps)
    if source.time and not there.any():
        raise DataError(f"no row of the joined source {name!r} has a readable time in {source.time!r}", where, "check the key `time`")
    counts = reading.counts
    counts["time_unreadable"] = int(unreadable.sum())
    counts["without_time"] = int((~there).sum()) - counts["time_unreadable"]
    notes = [*reader.notes, *(stamps.notes() if stamps else [])]
    facts = {key: value for key, value in reader.facts.items() if value} | ({"doubtful_times": dict(stamps.counts)} if stamps else {})
    rejects += reading.rejects_of(unreadable)
    named = [replace(one, source=f"{name}/{one.source}") for one in rejects]
    return Spooled(name, source, kept, reading.spool, pivot, digests, codes, times, there, read, named, counts, facts, notes)


def _open(source: SourceOptions, found: Found) -> Reader:
    """The source's own reader; keys, stamps and variables are text from the first byte, and a numeric time is a number or a reject."""
    texts = [*source.text, *source.join, *([source.pivot.variable] if source.pivot else [])]
    own = source
    if source.time and not source.time_unit:
        texts.append(source.time)
        own = source.model_copy(update={"dates": {name: order for name, order in source.dates.items() if name != source.time}})
    reader = open_reader(found, own, texts, {source.time: "number"} if source.time and source.time_unit else {})
    for column in (*source.join, *([source.time] if source.time else [])):
        must_exist(column, reader.schema, str(found.root))
    for column in source.join:
        if not pa.types.is_string(reader.schema.field(column).type):
            raise DataError(f"the join key {column!r} is no text", str(found.root), "join by another column")
    return reader


def _kept(source: SourceOptions, schema: pa.Schema, where: str) -> pa.Schema:
    gone = {*source.join, source.time}
    for pattern in source.keep:
        if not any(matches([pattern], name) for name in schema.names):
            must_exist(pattern, schema, where)
    kept = [one for one in schema if one.name not in gone and matches(source.keep, one.name)]
    if not kept:
        raise DataError("no column is kept beside the join keys and the time", where, "check the key `keep`")
    if any(one.name.startswith("@") for one in kept):
        raise DataError("a column's name begins with @, which is kept for meddx's own", where, "rename it, or leave it out with `keep`")
    return pa.schema(kept)


class _Reading:
    """Blocks of a joined source to the spool, and what must stay in memory of them."""

    def __init__(self, name: str, source: SourceOptions, kept: pa.Schema, pivot: Pivot | None) -> None:
        self.name, self.source, self.kept, self.pivot = name, source, kept, pivot
        self.counts: Counter[str] = Counter()
        self._distinct: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._hours: list[np.ndarray] = []
        self._origins: list[tuple[str, int]] = []  # (file, first row in the spool) of each block, to name a row that is rejected late
        own = [pa.field(KEY, pa.string()), pa.field(ROW, pa.int64())]
        own += [pa.field(STAMP, pa.string())] if source.time and not source.time_unit else []
        self.spool = Spool(pa.schema([*own, *(LONG if pivot else kept)]))
        self._rows = self._base = 0

    def take(self, block: Block) -> list[Reject]:
        """Spool one block; returns its rejects."""
        found = list(block.rejects)
        block = replace(block, rejects=[])
        for check in (self._keyed, self._finite, self._timed):
            block = check(block)
        if self.pivot:
            block, others = self.pivot.long(block)
            self.counts["other_variables"] += others
        texts = keys.key_texts(block.table, tuple(self.source.join))
        coded = texts.dictionary_encode()
        self._codes.append(coded.indices.to_numpy() + self._base)
        self._distinct.append(keys.digests(coded.dictionary))
        self._base += len(coded.dictionary)
        columns = {KEY: texts, ROW: pa.array(block.rows)}
        if self.source.time_unit:
            self._hours.append(block.table.column(self.source.time).to_numpy() * SECONDS[self.source.time_unit] / 3600)
        elif self.source.time:
            columns[STAMP] = block.table.column(self.source.time)
        columns |= {name: block.table.column(name) for name in self.spool.schema.names if name not in columns}
        self._origins.append((block.source, self._rows))
        self._rows += len(texts)
        self.spool.add(pa.table(columns).cast(self.spool.schema))
        return found + block.rejects

    def _keyed(self, block: Block) -> Block:
        texts = keys.key_texts(block.table, tuple(self.source.join))
        keyed = texts.is_valid().to_numpy(zero_copy_only=False)
        return block if keyed.all() else block.keep(keyed, [block.reject(int(i), "join_key_missing") for i in np.flatnonzero(~keyed)])

    def _finite(self, block: Block) -> Block:
        wrong = not_finite(block.table)
        if not wrong:
            return block
        mask = np.ones(block.table.num_rows, bool)
        mask[list(wrong)] = False
        return block.keep(mask, [block.reject(i, reason) for i, reason in sorted(wrong.items())])

    def _timed(self, block: Block) -> Block:
        """A numeric time as float64; one that is written as text and no number is a reject."""
        name = self.source.time
        if not self.source.time_unit or pa.types.is_floating(block.table.schema.field(name).type):
            return block
        texts = block.table.column(name).cast(pa.string())
        numeric = pc.fill_null(pc.match_substring_regex(texts, NUMBER["."]), True).to_numpy()
        place = block.table.schema.names.index(name)
        numbers = pc.utf8_ltrim(pc.if_else(pa.array(numeric), texts, None), "+").cast(pa.float64())
        block = replace(block, table=block.table.set_column(place, name, numbers))
        return block.keep(numeric, [block.reject(int(i), "time_unreadable") for i in np.flatnonzero(~numeric)])

    def index(self) -> tuple[np.ndarray, np.ndarray]:
        """(sorted distinct digests S16 [k], int64 [n] which of them each row has)."""
        distinct, inverse = np.unique(np.concatenate(self._distinct), return_inverse=True)
        return distinct, inverse[np.concatenate(self._codes)].astype(np.int64)

    def times(self, stamps: Stamps | None) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """(times or None, bool [n] there is one, bool [n] it cannot be read)."""
        nothing = np.zeros(self._rows, bool)
        if stamps is None:
            hours = np.concatenate(self._hours) if self._hours else None
            return hours, ~np.isnan(hours) if hours is not None else ~nothing, nothing
        for batch in self.spool.batches:
            stamps.see(batch.column(STAMP))
        stamps.settle()
        parts = [stamps.micros(batch.column(STAMP)) for batch in self.spool.batches]
        times, there, unreadable = (np.concatenate(list(one)) for one in zip(*parts, strict=True))
        return times, there, unreadable

    def rejects_of(self, flags: np.ndarray) -> list[Reject]:
        """A reject for each spooled row that `flags` marks: its time is no time."""
        rows = np.flatnonzero(flags)
        numbers = self.spool.take(rows).column(ROW).to_pylist()
        starts = np.array([start for _, start in self._origins])
        homes = np.searchsorted(starts, rows, side="right") - 1
        return [Reject(self._origins[home][0], "time_unreadable", "", number) for home, number in zip(homes, numbers, strict=True)]

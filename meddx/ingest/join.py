"""Cases and one joined source in, its rows as a `list<struct>` column out, and the books of the join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.duration import hours
from meddx.errors import BooksError, DataError
from meddx.ingest import keys
from meddx.ingest.cases import CaseMaker, must_exist
from meddx.ingest.options import CaseOptions, PatientUnknown
from meddx.ingest.spooled import Spooled

SAMPLE = 100_000  # keys of cases that are kept to explain why none meets
MICROS_AN_HOUR = 3_600_000_000


class Joined:
    """One joined source: finds the rows of each case, and counts."""

    def __init__(self, spooled: Spooled, case: CaseOptions, cases: CaseMaker) -> None:
        self.name, self.spooled, self.case = spooled.name, spooled, case
        self.columns = [column_after(case, column) for column in spooled.source.join.values()]
        self.field = pa.field(self.name, pa.list_(pa.struct(spooled.fields)))
        self._order, self._starts = _sorted(spooled)
        self._met = np.zeros(len(spooled.digests), bool)
        self._tally: Counter[str] = Counter()
        self._most = 0
        self._unmet_cases: list[str] = []
        self._several: list[str] = []
        self._sample: list[str] = []
        window = spooled.source.window
        self._window = (hours(window[0]), hours(window[1])) if window else None
        for column in self.columns:
            must_exist(column, cases.schema, f"the source of the cases, for the join of {self.name!r}")
            if not pa.types.is_string(cases.schema.field(column).type):
                raise DataError(f"the column {column!r} is no text, so {self.name!r} cannot be joined by it", "", "join by another column")

    def look_up(self, cases: pa.Table) -> np.ndarray:
        """int64 [n]: the place of each case's key among the source's keys, -1 for none.  Counts and remembers examples."""
        texts = keys.key_texts(cases, self.columns)
        wanted, known = keys.digests(texts), self.spooled.digests
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        has_key = texts.is_valid().to_numpy(zero_copy_only=False)
        codes = np.where(has_key & (known[places] == wanted), places, -1)
        self._met[codes[codes >= 0]] = True
        self._tally["cases"] += len(codes)
        self._tally["matched"] += int((codes >= 0).sum())
        unmet = np.flatnonzero((codes < 0) & has_key)
        self._unmet_cases += _some(texts, unmet, keys.EXAMPLES - len(self._unmet_cases))
        if not self._tally["matched"]:
            self._sample += _some(texts, unmet, SAMPLE - len(self._sample))
        self._tally["without_key"] += int((~has_key).sum())
        return codes

    def weights(self, codes: np.ndarray) -> np.ndarray:
        """float64 [n]: about how many bytes the rows of each case take."""
        counts = np.where(codes >= 0, self._starts[codes + 1] - self._starts[codes], 0)
        return counts * (self.spooled.spool.bytes / self.spooled.spool.rows)

    def column(self, cases: pa.Table, codes: np.ndarray) -> pa.Array:
        """The list column of these cases: their rows in time order, none that was known later than predict_at."""
        starts = self._starts[codes]
        counts = np.where(codes >= 0, self._starts[codes + 1] - starts, 0)
        owners = np.repeat(np.arange(len(codes)), counts)
        offsets = np.cumsum(counts) - counts
        rows = self._order[np.arange(counts.sum()) - np.repeat(offsets - starts, counts)]
        self._tally["pairs"] += len(rows)
        at = None
        if self.spooled.times is not None:
            at, kept = self._in_time(cases, rows, owners)
            rows, owners, at = rows[kept], owners[kept], at[kept]
        return self._lists(rows, owners, at, len(codes), keys.key_texts(cases, self.columns))

    def _in_time(self, cases: pa.Table, rows: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(hours from predict_at to each row's time, bool of the rows that were known by then and lie in the window)."""
        assert self.spooled.times is not None
        times = self.spooled.times[rows]
        if self.spooled.source.time_unit:
            after = self.case.predict_after
            assert after is not None
            decided = np.ones(len(rows), bool)
            at, late = times - hours(after), times > hours(after)
        else:
            column = cases.column("predict_at").combine_chunks().cast(pa.int64())
            decided = column.is_valid().to_numpy(zero_copy_only=False)[owners]
            instants = pc.fill_null(column, 0).to_numpy()[owners]
            at, late = (times - instants) / MICROS_AN_HOUR, times > instants
        late &= decided
        fits = decided & ~late
        self._tally["undecided"] += int((~decided).sum())
        self._tally["too_late"] += int(late.sum())
        if self._window:
            inside = (at >= self._window[0]) & (at <= self._window[1])
            self._tally["outside_window"] += int((fits & ~inside).sum())
            fits &= inside
        return at, fits

    def _lists(self, rows: np.ndarray, owners: np.ndarray, at: np.ndarray | None, n: int, texts: pa.Array) -> pa.Array:
        self._tally["joined"] += len(rows)
        table = self.spooled.spool.take(rows)
        if self.spooled.pivot:
            times = self.spooled.times[rows] if self.spooled.times is not None else np.zeros(len(rows))
            new = np.ones(len(rows), bool)
            new[1:] = (owners[1:] != owners[:-1]) | (times[1:] != times[:-1])
            arrays = self.spooled.pivot.wide(table, np.cumsum(new) - 1, int(new.sum()))
            owners, at = owners[new], at[new] if at is not None else None
        else:
            arrays = [_one_chunk(table.column(name)) for name in self.spooled.kept.names]
        if at is not None:
            arrays = [pa.array(at), *arrays]
        counts = np.bincount(owners, minlength=n)
        self._most = max(self._most, int(counts.max(initial=0)))
        several = np.flatnonzero(counts > 1)
        self._tally["several"] += len(several)
        self._tally["with_rows"] += int((counts > 0).sum())
        self._several += _some(texts, several, keys.EXAMPLES - len(self._several))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        children = pa.StructArray.from_arrays(arrays, fields=list(self.field.type.value_type))
        return pa.ListArray.from_arrays(offsets, children, type=self.field.type)

    def finish(self) -> dict[str, Any]:
        """The block of the record.  Raises DataError when no key of the two sides meets, BooksError when a row was lost."""
        tally, mine = self._tally, self.spooled
        if not tally["matched"]:
            self._refuse_no_match()
        sizes = np.diff(self._starts)
        untimed = mine.counts["without_time"] + mine.counts["time_unreadable"]
        block = {
            "read": mine.read, "rejected": len(mine.rejects), "other_variables": mine.counts["other_variables"],
            "without_time": mine.counts["without_time"], "rows": mine.spool.rows - untimed,
            "rows_matched": int(sizes[self._met].sum()), "rows_unmatched": int(sizes[~self._met].sum()),
            "cases": tally["cases"], "matched": tally["matched"], "unmatched": tally["cases"] - tally["matched"],
            "several": tally["several"], "most": self._most, "with_rows": tally["with_rows"],
            "pairs": tally["pairs"], "too_late": tally["too_late"], "outside_window": tally["outside_window"],
            "undecided": tally["undecided"], "joined": tally["joined"],
        }  # fmt: skip
        _check(self.name, block)
        reasons = Counter(one.reason for one in mine.rejects)
        examples = {"unmatched": self._unmet_cases, "several": self._several, "without_case": self._keys_without_case()}
        shown = {what: [keys.pseudonym(key) for key in found] for what, found in examples.items()}
        return {
            **block,
            "key": dict(mine.source.join),
            "reasons": dict(reasons),
            "examples": shown,
            "facts": mine.facts,
            "notes": mine.notes,
        }

    def _keys_without_case(self) -> list[str]:
        alone = np.flatnonzero(~self._met)[: keys.EXAMPLES]
        first = self._starts[alone]
        first = first[first < self._starts[alone + 1]]
        found: list[str] = self.spooled.spool.take(self._order[first]).column("@key").to_pylist()
        return found

    def _refuse_no_match(self) -> None:
        theirs = self.spooled.spool.batches
        distinct = {key for batch in theirs for key in pc.unique(batch.column("@key")).to_pylist()}
        cause = keys.cause_of_no_match(self._sample, distinct)
        by = ", ".join(f"{a} = {b}" for a, b in self.spooled.source.join.items())
        shapes = f"a key there: {keys.shape(min(distinct))}" + (f"; of a case: {keys.shape(min(self._sample))}" if self._sample else "")
        raise DataError(
            f"no case has a row in the joined source {self.name!r} ({by})" + (f"; likely cause: {cause[0]}" if cause else f" ({shapes})"),
            self.spooled.source.path,
            cause[1] if cause else "check `join`: is it the same number, of the same registry?",
        )


def column_after(case: CaseOptions, column: str) -> str:
    """What a column of the case source is called in the dataset."""
    if column == case.id:
        return "case_id"
    patient = None if isinstance(case.patient, PatientUnknown) else case.patient
    if column == patient:
        return "patient_id"
    return "predict_at" if column == case.predict_column else column


def _sorted(spooled: Spooled) -> tuple[np.ndarray, np.ndarray]:
    """(rows with a time, by key, then time, then file order; int64 [k + 1] where each key starts and the last one ends)."""
    rows = np.flatnonzero(spooled.there)
    codes = spooled.codes[rows]
    by = (codes,) if spooled.times is None else (spooled.times[rows], codes)
    order = rows[np.lexsort(by)]  # lexsort is stable, so rows of one time stay in the order of the file
    return order, np.searchsorted(spooled.codes[order], np.arange(len(spooled.digests) + 1))


def _check(name: str, block: Mapping[str, int]) -> None:
    """Each row and each pair of case and row is in exactly one count."""
    sums = (
        ("read", "rejected + other_variables + without_time + rows"),
        ("rows", "rows_matched + rows_unmatched"),
        ("pairs", "too_late + outside_window + undecided + joined"),
    )
    for whole, parts in sums:
        if block[whole] != sum(block[part] for part in parts.split(" + ")):
            numbers = " + ".join(f"{part} {block[part]:,}" for part in parts.split(" + "))
            raise BooksError(f"{whole} {block[whole]:,} is not {numbers}", f"sources.{name}", "report this: no row may be lost")


def _some(texts: pa.Array, places: np.ndarray, limit: int) -> list[str]:
    found: list[str] = texts.take(pa.array(places[: max(limit, 0)])).to_pylist()
    return found


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined

"""Stamps as written in, UTC microseconds at which a row was surely known out; doubtful hours are counted.

Three choices are made so that nothing counts as known too early: a date without an hour is known at its end, a stamp in the
hour that a clock shows twice is the second one, and a stamp in the hour that a clock leaves out is the end of that gap.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError
from meddx.ingest import dates
from meddx.ingest.columns import Learner, MissingCodes, words_of

PLAIN = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?$"
END_OF_DAY = timedelta(hours=23, minutes=59, seconds=59, microseconds=999_999)
MICROS = pa.timestamp("us")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  naive local stamps are counted from a naive zero


@dataclass
class Stamps:
    """How one column of stamps is read.  `learner` has seen every value before `micros` is first called.

    `zone` is for stamps that have none; `counts`: date_only, ambiguous, nonexistent, unreadable.
    """

    name: str
    zone: str | None
    order: dates.Order | None = None
    learner: Learner = field(default_factory=Learner)
    counts: Counter[str] = field(default_factory=Counter)

    def see(self, texts: pa.Array) -> None:
        """Learn from one batch in which order day and month stand."""
        self.learner.see(words_of(texts, MissingCodes(())))

    def settle(self) -> None:
        """Fix the order of day and month.  Raises DataError where it is open."""
        one = self.learner
        if self.order is not None or not one.day_month:
            self.order = self.order or "ymd"
            return
        if one.first_over_12 == one.second_over_12:
            what = f"the time {self.name!r} holds dates such as 03/04/2020 and " + (
                "days stand before months and months before days" if one.first_over_12 else "no value tells day from month"
            )
            raise DataError(what, self.name, f"declare `dates: {{{self.name}: dmy}}` or mdy in the source")
        self.order = "dmy" if one.first_over_12 else "mdy"

    def micros(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(int64 [n] microseconds of UTC, bool [n] a time is there, bool [n] text that is no time)."""
        coded = texts.dictionary_encode()
        words = coded.dictionary
        local, zoned, fine = self._read(words)
        instants = local.copy()
        naive = fine & ~zoned
        times = np.bincount(coded.indices.drop_null().to_numpy(), minlength=len(words))
        if naive.any():
            instants[naive] = self._to_utc(local[naive], times[naive])
        self.counts["unreadable"] += int(times[~fine].sum())
        places = coded.indices.fill_null(-1).to_numpy()
        if not len(words):
            nothing = np.zeros(len(texts), bool)
            return np.zeros(len(texts), np.int64), nothing, nothing
        there = (places >= 0) & fine[places]
        return np.where(there, instants[places], 0), there, (places >= 0) & ~fine[places]

    def _read(self, words: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each text: (int64 microseconds, local where it has no zone; bool it has a zone; bool it is a time)."""
        local, zoned, fine = np.zeros(len(words), np.int64), np.zeros(len(words), bool), np.zeros(len(words), bool)
        quick = pc.match_substring_regex(words, PLAIN).to_numpy(zero_copy_only=False).astype(bool)
        try:
            local[quick] = words.filter(pa.array(quick)).cast(MICROS).cast(pa.int64()).to_numpy()
            fine[quick] = True
        except pa.ArrowInvalid:  # one of them is no real date, such as 30 February: each by itself
            quick[:] = False
        for i in np.flatnonzero(~quick):
            text = words[int(i)].as_py()
            found = dates.parse(text, self.order or "ymd")
            if found is None:
                continue
            if not dates.has_hour(text):
                found += END_OF_DAY
                self.counts["date_only"] += 1
            fine[i], zoned[i] = True, found.tzinfo is not None
            plain = found.astimezone(UTC).replace(tzinfo=None) if zoned[i] else found
            local[i] = (plain - _EPOCH) // timedelta(microseconds=1)
        return local, zoned, fine

    def _to_utc(self, local: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Local microseconds to those of UTC, the latest they can mean; `times` says how many rows hold each."""
        if self.zone is None:
            raise DataError(f"the stamps of {self.name!r} have no time zone", self.name, "declare `zone` in the source, or case.zone")
        column = pa.array(local, pa.int64()).cast(MICROS)
        latest, earliest, before_gap = (
            _assumed(column, self.zone, ambiguous, gap)
            for ambiguous, gap in (("latest", "latest"), ("earliest", "latest"), ("latest", "earliest"))
        )
        self.counts["ambiguous"] += int(times[latest != earliest].sum())
        self.counts["nonexistent"] += int(times[latest != before_gap].sum())
        return latest

    def notes(self) -> list[str]:
        """What a user should know of how the stamps were read."""
        zone = self.zone or ""
        told = {
            "date_only": "different dates without an hour count as known at the end of the day",
            "ambiguous": f"stamps lie in an hour that clocks in {zone} show twice: the second is taken",
            "nonexistent": f"stamps lie in an hour that clocks in {zone} leave out: the end of the gap is taken",
        }
        return [f"time {self.name!r}: {self.counts[key]:,} {text}" for key, text in told.items() if self.counts[key]]


def _assumed(column: pa.Array, zone: str, ambiguous: str, gap: str) -> np.ndarray:
    try:
        found = pc.assume_timezone(column, zone, ambiguous=ambiguous, nonexistent=gap)
    except pa.ArrowInvalid as error:
        raise DataError(f"the time zone {zone!r} is not known", zone, "use a name such as Europe/Berlin or UTC") from error
    values: np.ndarray = found.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return values

"""Texts of dates in, instants out; the order of day and month is never guessed from one value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError

Order = Literal["ymd", "dmy", "mdy"]
_TIME = r"(?:[T ]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?\s?(?P<half>[AaPp][Mm])?)?"
_ZONE = r"(?P<zone>Z|[+-]\d{2}:?\d{2})?"
ISO = rf"(?P<year>\d{{4}})[-/](?P<a>\d{{1,2}})[-/](?P<b>\d{{1,2}}){_TIME}{_ZONE}"
DAY_FIRST_OR_MONTH_FIRST = rf"(?P<a>\d{{1,2}})[-/.](?P<b>\d{{1,2}})[-/.](?P<year>\d{{4}}){_TIME}{_ZONE}"
_COMPACT = rf"(?P<year>\d{{4}})(?P<a>\d{{2}})(?P<b>\d{{2}}){_TIME}{_ZONE}"
_ISO_RE, _DM_RE, _COMPACT_RE = re.compile(ISO), re.compile(DAY_FIRST_OR_MONTH_FIRST), re.compile(_COMPACT)


def parse(text: str, order: Order) -> datetime | None:
    """The instant, or None when `text` is no date in this order.  ISO is read whatever the order; 8 digits only as ymd."""
    match = _ISO_RE.fullmatch(text) or (_COMPACT_RE.fullmatch(text) if order == "ymd" else _DM_RE.fullmatch(text))
    if match is None:
        return None
    part = match.groupdict()
    day, month = (part["a"], part["b"]) if order == "dmy" and match.re is _DM_RE else (part["b"], part["a"])
    hour = int(part["hour"] or 0)
    if part["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (part["half"].lower() == "pm")
    micro = int((part["fraction"] or "0").ljust(6, "0")[:6])
    try:
        return datetime(
            int(part["year"]), int(month), int(day), hour, int(part["minute"] or 0), int(part["second"] or 0), micro, _zone(part["zone"])
        )
    except (ValueError, OverflowError):
        return None


def has_hour(text: str) -> bool:
    """Whether a text that `parse` reads says an hour; a bare date does not."""
    match = _ISO_RE.fullmatch(text) or _DM_RE.fullmatch(text) or _COMPACT_RE.fullmatch(text)
    return match is not None and match["hour"] is not None


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    if text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=minutes if text[0] == "+" else -minutes))


def first_two(text: str) -> tuple[int, int]:
    """The two numbers before the year of a text that DAY_FIRST_OR_MONTH_FIRST matches."""
    match = _DM_RE.fullmatch(text)
    return (int(match["a"]), int(match["b"])) if match else (0, 0)


def to_instants(texts: Sequence[str | None], order: Order, zoned: bool) -> pa.Array:
    """timestamp[us] (UTC when `zoned`) with null for a missing text and for one that is no such date."""
    parsed = [None if text is None else parse(text, order) for text in texts]
    kept = [one if one is not None and (one.tzinfo is not None) == zoned else None for one in parsed]
    return pa.array(kept, pa.timestamp("us", tz="UTC" if zoned else None))


def to_utc(column: pa.ChunkedArray, zone: str | None, name: str) -> pa.ChunkedArray:
    """A column of instants or ISO texts as timestamp[us, UTC].  Stamps without a zone need `zone`; a doubled hour counts as the first."""
    if pa.types.is_string(column.type):
        column = _from_texts(column, name)
    if not pa.types.is_timestamp(column.type):
        raise DataError(f"predict_at: the column {name!r} is not a date", "case.predict_at", "declare its order under `dates`")
    if column.type.tz is not None:
        return column.cast(pa.timestamp("us", tz="UTC"))
    if zone is None:
        raise DataError(f"the stamps of {name!r} have no time zone", "case.predict_at", "declare case.zone, such as Europe/Berlin or UTC")
    try:
        local = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="latest")
    except pa.ArrowInvalid as error:
        raise DataError(f"the time zone {zone!r} is not known", "case.zone", "use a name such as Europe/Berlin or UTC") from error
    return local.cast(pa.timestamp("us", tz="UTC"))


def doubtful(column: pa.ChunkedArray, zone: str) -> tuple[int, int]:
    """Of naive instants in `zone`: (how many lie in an hour that clocks show twice, how many in one that they leave out)."""
    first, last, before_gap = (
        pc.assume_timezone(column, zone, ambiguous=twice, nonexistent=never)
        for twice, never in (("earliest", "latest"), ("latest", "latest"), ("earliest", "earliest"))
    )
    return tuple(int(pc.sum(pc.not_equal(first, other)).as_py() or 0) for other in (last, before_gap))  # type: ignore[return-value]


def _from_texts(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    texts = column.to_pylist()
    found = {one.tzinfo is not None for text in texts if text is not None and (one := parse(text, "ymd")) is not None}
    if len(found) > 1:
        raise DataError(f"some stamps of {name!r} have a time zone and some have none", "case.predict_at", "mend the column in the archive")
    instants = to_instants(texts, "ymd", zoned=found == {True})
    if instants.null_count > column.null_count:
        raise DataError(
            f"predict_at: {instants.null_count - column.null_count} values of {name!r} are no dates", "case.predict_at", "write YYYY-MM-DD"
        )
    return pa.chunked_array([instants])

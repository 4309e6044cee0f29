"""A path with `{date}` in, the path of tonight's folder out."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meddx.errors import RecipeError

FIELD = re.compile(r"\{([^{}]*)\}")
DATE = re.compile(r"date(?:-(\d{1,4}))?")


def today(zone: str | None, now: datetime | None = None) -> date:
    """The local date in `zone`, or without one where this process runs (TZ); at `now`, an instant with a zone."""
    now = now or datetime.now(UTC)
    if zone is None:
        return now.astimezone().date()
    try:
        return now.astimezone(ZoneInfo(zone)).date()
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RecipeError(f"there is no time zone {zone!r}", "scoring.zone", "write a name such as Asia/Shanghai or UTC") from error


def fill(place: str, day: date) -> str:
    """`{date}` is the day in ISO form, `{date-1}` the day before.  RecipeError for any other field in braces."""

    def one(found: re.Match[str]) -> str:
        known = DATE.fullmatch(found[1])
        if known is None:
            raise RecipeError(f"unknown field {found[0]} in a path", place, "known here: {date}, {date-1}")
        return (day - timedelta(days=int(known[1] or 0))).isoformat()

    filled = FIELD.sub(one, place)
    if "{" in filled or "}" in filled:
        raise RecipeError("a brace without its partner in a path", place, "known here: {date}, {date-1}")
    return filled

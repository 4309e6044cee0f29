"""`48h`, `30d`, `15min` in the recipe; a timedelta in the code."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
DURATION = re.compile(r"^([+-]?\d+(?:\.\d+)?)\s*(s|min|h|d|w)$")


def is_duration(text: str) -> bool:
    """Whether a text is a duration and not, say, the name of a column."""
    return DURATION.match(text.strip()) is not None


def parse_duration(value: Any) -> Any:
    """The timedelta of `48h`; a timedelta stays itself.  ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    found = DURATION.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a duration is a number and a unit: 30s, 15min, 48h, 30d, 4w")
    return timedelta(seconds=float(found[1]) * UNITS[found[2]])


def show_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back."""
    seconds = value.total_seconds()
    unit = next((name for name in ("d", "h", "min") if seconds % UNITS[name] == 0), "s")
    return f"{seconds / UNITS[unit]:g}{unit}"


def hours(value: timedelta) -> float:
    return value.total_seconds() / 3600


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(show_duration)]

"""A fitted input in; what the contract of a bundle states of its columns (units, ranges, spacing, categories, missing) out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meddx.inputs.normal import Ends, Normal, Range
from meddx.inputs.types import Preparation


def of_column(one: Preparation, name: str) -> dict[str, Any]:
    """One column of a table: the words that the manifest's Column has for it."""
    levels = _levels(one)
    category = name in levels
    facts: dict[str, Any] = {"missing": "optional" if one.optional else "own_category" if category else "filled"}
    if category:
        facts["categories"] = levels[name]
    if one.normal is None:
        return facts
    facts["complete"] = name in one.normal.complete
    found = one.normal.ranges.get(f"range:{name}")
    if found is not None:
        facts |= {"seen": found.seen, "range": found.limits}
    return facts | {"units": one.normal.units.get(name)}


def of_input(one: Preparation) -> dict[str, Any]:
    """A column that holds more than one number: a picture, a signal, the rows of a source."""
    filled = one.spec()["kind"] in ("table", "events")
    facts: dict[str, Any] = {"missing": "optional" if one.optional else "filled" if filled else "refused"}
    if levels := _levels(one):
        facts["categories"] = levels
    if one.normal is None:
        return facts
    (place,) = one.columns
    facts |= {
        "range": _named(one.normal, "range", place, lambda one: one.limits),
        "seen": _named(one.normal, "range", place, lambda one: one.seen),
        "spacing": _named(one.normal, "spacing", place, lambda one: one.limits),
        "channels_seen": _named(one.normal, "channels", place, lambda one: one.seen),
        "bits_seen": _named(one.normal, "bits", place, lambda one: one.seen),
        "rates": _named(one.normal, "rate", place, lambda one: one.limits),
    }
    units = {name.removeprefix(f"{place}."): unit for name, unit in one.normal.units.items()}
    return facts | {"units": units.get(place) or units or None}


def _levels(one: Preparation) -> dict[str, tuple[str, ...]]:
    return {str(name): tuple(levels) for name, levels in one.state().get("categories", [])}


def _named(normal: Normal, kind: str, place: str, what: Callable[[Range], Ends | None]) -> Any:
    """One value where the code is of the place itself, name to value where it is of parts of it; None for nothing."""
    codes = {code.removeprefix(f"{kind}:"): what(one) for code, one in normal.ranges.items() if code.startswith(f"{kind}:")}
    found = {name: value for name, value in codes.items() if value is not None}
    return found.get(place) or {name.removeprefix(f"{place}."): value for name, value in found.items()} or None

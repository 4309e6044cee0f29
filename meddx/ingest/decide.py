"""What was learned of all columns in, one type a column and the decimal mark out; what stays open is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meddx.errors import DataError
from meddx.ingest.columns import MOSTLY, ColumnType, Kind, Learner, matches
from meddx.ingest.options import SourceOptions


@dataclass(frozen=True)
class Plan:
    """The types of all columns of a source, what was detected, and what a user should know."""

    types: dict[str, ColumnType]
    decimal: str
    notes: list[str]
    date_orders: dict[str, str]


def decide(
    learned: Mapping[str, Learner], source: SourceOptions, text: Sequence[str], comma_parts: bool, known: Mapping[str, Kind], where: str
) -> Plan:
    """The plan for columns as `learned`.  `text`: names and patterns kept as text; `known`: types fixed by whoever asks.

    Raises DataError where the decimal mark, or the order of day and month, is open.
    """
    free = {name: one for name, one in learned.items() if not matches(text, name) and name not in source.dates and name not in known}
    decimal = source.decimal if source.decimal != "auto" else _decimal(free, comma_parts, where)
    types: dict[str, ColumnType] = {}
    notes: list[str] = []
    for name, one in learned.items():
        if name in source.dates:
            types[name] = ColumnType("date", source.dates[name], zoned=one.values > 0 and one.zoned == one.values)
        elif name in free or known.get(name) == "date":
            types[name] = _of(name, one, decimal, notes, where)
        else:
            types[name] = ColumnType(known.get(name, "text") if not matches(text, name) else "text")
    orders: dict[str, str] = {name: one.order for name, one in types.items() if one.kind == "date"}
    return Plan(types, decimal, notes, orders)


def _decimal(learned: Mapping[str, Learner], comma_parts: bool, where: str) -> str:
    """`,` when some column is a number only so.  Where commas part the values they are never a decimal mark."""
    commas = [
        name
        for name, one in learned.items()
        if not comma_parts and one.comma_marks and one.numbers[","] == one.values and not one.code_like
    ]
    if not commas:
        return "."
    dots = [name for name, one in learned.items() if one.dot_marks and one.numbers["."] == one.values and not one.code_like]
    surely = [name for name in commas if learned[name].thousands < learned[name].comma_marks]
    if surely and dots:
        what = f"numbers are written with a comma in {surely[0]!r} and with a dot in {dots[0]!r}"
        raise DataError(what, where, "declare `decimal`, or keep one of the columns as `text`")
    if not surely and not dots:
        what = f"1,234 in the column {commas[0]!r} may be a thousand or a fraction"
        raise DataError(what, where, 'declare `decimal: ","`, or `decimal: "."` and the column as `text`')
    return "," if surely else "."


def _of(name: str, one: Learner, decimal: str, notes: list[str], where: str) -> ColumnType:
    numbers = one.numbers[decimal]
    if not one.values:
        notes.append(f"column {name!r} is empty")
        return ColumnType("number")
    if numbers == one.values:
        if one.code_like:
            notes.append(f"column {name!r} holds digits with leading zeros or beyond 15 digits: kept as text")
        return ColumnType("text" if one.code_like else "number")
    if one.iso == one.values:
        return _date(name, one, "ymd", notes)
    if one.day_month == one.values:
        if one.first_over_12 and one.second_over_12:
            notes.append(f"column {name!r} holds days before months and months before days: kept as text")
            return ColumnType("text")
        if not one.first_over_12 and not one.second_over_12:
            what = f"the column {name!r} holds dates such as 03/04/2020 and no value tells day from month"
            raise DataError(what, where, f"declare `dates: {{{name}: dmy}}` or mdy, or keep it as `text`")
        return _date(name, one, "dmy" if one.first_over_12 else "mdy", notes)
    if numbers >= MOSTLY * one.values:
        notes.append(
            f"column {name!r}: {one.values - numbers:,} of {one.values:,} values are no numbers, so it is text; is one a `missing` code?"
        )
    if max(one.iso, one.day_month) >= MOSTLY * one.values:
        notes.append(f"column {name!r}: some values are no dates, so it is text; is one a `missing` code?")
    return ColumnType("text")


def _date(name: str, one: Learner, order: str, notes: list[str]) -> ColumnType:
    if 0 < one.zoned < one.values:
        notes.append(f"column {name!r}: some stamps have a time zone and some have none: kept as text")
        return ColumnType("text")
    return ColumnType("date", order, zoned=one.zoned > 0)  # type: ignore[arg-type]

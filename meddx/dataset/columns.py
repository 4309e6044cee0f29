"""Names and patterns in, the columns that a model may look at out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from meddx.dataset.options import TimingOptions
from meddx.dataset.values import RESERVED, Kind, kind_of, listing, need_columns
from meddx.errors import LeakError, RecipeError
from meddx.inputs.options import EventsInput, InputOptions, TableInput

WIDE = 50
HOLDS: Mapping[str, tuple[Kind, str]] = {
    "image": ("binary", "pictures"),
    "signal": ("other", "signals"),
    "text": ("text", "texts"),
    "tokens": ("text", "texts"),
    "volume": ("binary", "volumes"),
}


def is_pattern(text: str, names: Iterable[str]) -> bool:
    """Whether `text` has wildcards; a text that is itself a column's name, such as `dose [mg]`, is a name."""
    return any(sign in text for sign in "*?[") and text not in set(names)


def match(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that equal or match one of the patterns (`*`, `?`, `[ab]`; case counts), in the order of `names`."""
    literal = set(patterns)
    wild = [pattern for pattern in patterns if any(sign in pattern for sign in "*?[")]
    return [name for name in names if name in literal or any(fnmatchcase(name, pattern) for pattern in wild)]


def need_match(patterns: Iterable[str], names: Sequence[str], where: str) -> None:
    """RecipeError for the first pattern or name that stands for no column, with the nearest name."""
    for pattern in patterns:
        if not match([pattern], names):
            if is_pattern(pattern, names):
                raise RecipeError(f"the pattern {pattern!r} matches no column", where, listing(names))
            need_columns([pattern], names, where)


def wide_columns(options: TableInput, names: Sequence[str]) -> set[str]:
    """Columns that a pattern such as `g*` brought in among 50 or more: an assay, whose columns nobody declares one by one."""
    found: set[str] = set()
    for pattern in options.columns:
        if pattern.strip("*") and is_pattern(pattern, names):
            matched = match([pattern], names)
            if len(matched) >= WIDE:
                found.update(matched)
    return found


def table_columns(options: TableInput, schema: Any, *, after_outcome: Sequence[str] = (), never: Sequence[str] = ()) -> list[str]:
    """The columns of one table input, in the order of `schema`.

    Patterns never reach case_id, patient_id, predict_at, pictures, signals, joined rows, dates, the columns of `never` (target, split
    column, prior scores) and those declared `after_outcome`.  A date may be named outright, a picture not.  Raises LeakError when one of
    the others is, RecipeError for an unknown name.
    """
    names = list(schema.names)
    need_match(after_outcome, names, "timing.after_outcome")
    need_match(options.columns, names, "inputs: columns")
    need_match(options.drop, names, "inputs: drop")
    need_match(options.category, names, "inputs: category")
    dropped = set(match(options.drop, names))
    late = set(match(after_outcome, names))
    named = [name for name in options.columns if not is_pattern(name, names) and name not in dropped]
    for name in named:
        _refuse_named(name, schema.field(name).type, late, never)
    barred = {*RESERVED, *never, *late, *dropped} | {field.name for field in schema if kind_of(field.type) in ("binary", "time", "other")}
    barred -= {name for name in named if kind_of(schema.field(name).type) == "time"}  # a calendar date drifts: only on demand
    found = [name for name in match(options.columns, names) if name not in barred]
    if not found:
        raise RecipeError("the input has no column left", "inputs: columns", "name columns that are neither dropped nor barred")
    return found


def _refuse_named(name: str, arrow_type: Any, late: set[str], never: Sequence[str]) -> None:
    if name in late:
        raise LeakError(
            f"the input names {name!r}, which the page declares as written after the outcome",
            "inputs: columns",
            "take it out of the input, or out of timing.after_outcome",
        )
    if name in never or name in RESERVED:
        raise LeakError(
            f"{name!r} is the target, the split, a prior score or an id: it is never an input",
            "inputs: columns",
            "take it out of the input",
        )
    if kind_of(arrow_type) == "binary":
        raise RecipeError(f"{name!r} holds pictures: a table input cannot use it", "inputs: columns", "give it its own input of kind image")


def resolve_columns(
    inputs: Mapping[str, InputOptions], schema: Any, *, timing: TimingOptions, never: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Input name -> its columns of the dataset; of an input from a joined source that is the source's one column.

    LeakError for a column declared after_outcome (in a joined source `source.column`), RecipeError for a name or pattern that
    matches nothing.
    """
    names = [*schema.names, *(f"{field.name}.{inner}" for field in schema for inner in inner_names(field.type))]
    need_match(timing.after_outcome, names, "timing.after_outcome")
    need_match(timing.known_at, names, "timing.known_at")
    late = set(match(timing.after_outcome, names))
    found: dict[str, list[str]] = {}
    for key, one in inputs.items():
        inner = inner_names(schema.field(one.source).type) if one.source in schema.names else []
        if inner and one.source in never:
            raise LeakError(f"the input {key!r} looks at the target", f"inputs.{key}.from", "give the source of the cases another name")
        if inner:
            found[key] = [_joined_column(key, one, inner, schema, late)]
        elif isinstance(one, TableInput):
            found[key] = table_columns(one, schema, after_outcome=[name for name in late if name in schema.names], never=never)
        elif isinstance(one, EventsInput):
            raise RecipeError("events come from a source that is joined to the cases", f"inputs.{key}.from", "name it, and give it `join`")
        else:
            need_columns([one.column], schema.names, f"inputs.{key}.column")
            _check_holds(key, one.kind, one.column, schema.field(one.column).type, late)
            found[key] = [one.column]
    return found


def inner_names(arrow_type: Any) -> list[str]:
    """The columns of a joined source, which lies in the dataset as a list of rows; empty for any other column."""
    if not (pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)) or not pa.types.is_struct(arrow_type.value_type):
        return []
    return [field.name for field in arrow_type.value_type]


def _joined_column(key: str, one: InputOptions, inner: Sequence[str], schema: Any, late: set[str]) -> str:
    """The column of the joined source, after a look at the names inside that the input asks for."""
    source = str(one.source)
    row = schema.field(source).type.value_type
    if isinstance(one, TableInput):
        need_match([*one.columns, *one.drop, *one.category], inner, f"inputs.{key}")
        used = [name for name in match(one.columns, inner) if name not in match(one.drop, inner)]
    elif isinstance(one, EventsInput):
        used = [name for name in (one.variable, one.value, one.unit) if name]
    else:
        used = [one.column]
    need_columns(used, inner, f"inputs.{key}")
    for name in used:
        if f"{source}.{name}" in late:
            raise LeakError(
                f"the input looks at {source}.{name}, which the page declares as written after the outcome", f"inputs.{key}", "drop it"
            )
    if not isinstance(one, TableInput | EventsInput):
        _check_holds(key, one.kind, one.column, row.field(one.column).type, late)
    return source


def _check_holds(key: str, kind: str, column: str, arrow_type: Any, late: set[str]) -> None:
    wanted, words = HOLDS[kind]
    is_bare_signal = kind == "signal" and pa.types.is_list(arrow_type)
    if kind_of(arrow_type) != wanted and not is_bare_signal:
        raise RecipeError(f"{column!r} does not hold {words}", f"inputs.{key}.column", f"name the column with the {words}")
    if column in late:
        raise LeakError(f"the input is {column!r}, which the page declares as written after the outcome", f"inputs.{key}.column")

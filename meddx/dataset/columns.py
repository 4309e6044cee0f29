"""Names and patterns in, the columns that a model may look at out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from meddx.dataset.values import RESERVED, kind_of, listing, need_columns
from meddx.errors import LeakError, RecipeError
from meddx.inputs.options import TableInput

WIDE = 50


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

    Patterns never reach case_id, patient_id, predict_at, pictures, dates, the columns of `never` (target, split column, prior scores) and
    those declared `after_outcome`.  A date may be named outright, a picture not.  Raises LeakError when one of the others is, RecipeError
    for an unknown name.
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
    barred = {*RESERVED, *never, *late, *dropped} | {field.name for field in schema if kind_of(field.type) in ("binary", "time")}
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

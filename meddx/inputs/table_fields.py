"""A table, or a joined source of it, in; the types of its columns, and those that a recipe's names and patterns mean, out."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import pyarrow as pa

from meddx.errors import RecipeError
from meddx.inputs.cells import is_plain_number, is_text
from meddx.inputs.fold import TIME
from meddx.inputs.options import TableInput


def kinds_of(table: pa.Table, source: str | None) -> dict[str, pa.DataType]:
    """Column to type (of its values, where it is coded by a dictionary); of the joined rows where there is a source."""
    fields = table.schema if source is None else table.schema.field(source).type.value_type
    if source is not None and pa.types.is_null(fields):  # no case has a row
        return {}
    return {field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in fields}


def matched(name: str, options: TableInput, kinds: Mapping[str, pa.DataType]) -> list[str]:
    """The fields of joined rows that the recipe's names and patterns mean, in the rows' order; a pattern reaches texts and numbers only."""
    for pattern in options.columns:
        if pattern != "*" and not any(fnmatchcase(field, pattern) or field == pattern for field in kinds):
            raise RecipeError(f"{pattern!r} stands for no column of {options.source!r}", f"inputs.{name}", f"there are: {', '.join(kinds)}")
    plain = [field for field, kind in kinds.items() if field != TIME and (is_text(kind) or is_plain_number(kind) or pa.types.is_null(kind))]
    wanted = [
        field
        for field in kinds
        if field in options.columns or (field in plain and any(fnmatchcase(field, pattern) for pattern in options.columns))
    ]
    return [field for field in wanted if field not in options.drop and not any(fnmatchcase(field, pattern) for pattern in options.drop)]

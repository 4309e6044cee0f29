"""Rows as a user has them (Arrow table, DataFrame, dicts) in, an Arrow table with just the columns that a bundle needs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from meddx.dataset.values import text_of, texts
from meddx.errors import DataError
from meddx.predict.manifest import Column
from meddx.predict.nested import column_of, records_a_case
from meddx.yamlconf import nearest

if TYPE_CHECKING:
    import pandas as pd

IDS = ("case_id", "patient_id")
SHOWN = 5


def as_table(rows: pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> pa.Table:
    """The columns of the contract that are there, with `case_id` and `patient_id` as text in front; others are left behind.

    A missing `case_id` is the row's number as text.  A joined column is a list of records a case (dicts, or list<struct>).
    Raises DataError for a needed column that is not there (naming it and the nearest one), a column that stands twice, a
    joined one that holds something else, or rows that are none of the three kinds.
    """
    names = _names(rows)
    need(columns, names)
    wanted = dict.fromkeys([*IDS, *(column.name for column in columns)])
    shapes = {column.name: "records" if column.joined else "nested" for column in columns if column.joined or column.use == "signal"}
    found = {name: _column(rows, name, shapes.get(name, "flat")) for name in wanted if name in names}
    count = _count(rows)
    found["case_id"] = _case_ids(found.get("case_id"), count)
    found["patient_id"] = _as_text(found["patient_id"]) if "patient_id" in found else pa.nulls(count, pa.string())
    return pa.table({name: found[name] for name in wanted if name in found})


def need(columns: Sequence[Column], names: Iterable[str]) -> None:
    """Raises DataError naming the required columns that are not among `names`, with the nearest one there is."""
    names = list(names)
    missing = [column.name for column in columns if column.required and column.name not in names]
    if not missing:
        return
    shown = []
    for name in missing[:SHOWN]:
        guess = nearest(name, names)
        shown.append(f"{name!r} (is it {guess!r}?)" if guess else repr(name))
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    raise DataError(
        f"the rows lack {len(missing)} column(s) that the bundle needs: {', '.join(shown)}{more}",
        "Bundle.predict",
        "give each column, with empty values where they are not known",
    )


def _is_frame(rows: Any) -> bool:
    return type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns")


def _names(rows: Any) -> list[str]:
    if isinstance(rows, pa.Table):
        names = list(rows.schema.names)
    elif _is_frame(rows):
        names = [str(name) for name in rows.columns]
    elif isinstance(rows, Sequence) and not isinstance(rows, str | bytes) and all(isinstance(row, Mapping) for row in rows):
        return list(dict.fromkeys(str(name) for row in rows for name in row))
    else:
        what = f"rows of the type {type(rows).__name__} are not known"
        raise DataError(what, "Bundle.predict", "give an Arrow table, a DataFrame or a list of dicts")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"the column {twice[0]!r} stands twice", "Bundle.predict", "rename or drop one of them")
    return names


def _count(rows: Any) -> int:
    return int(rows.num_rows) if isinstance(rows, pa.Table) else len(rows)


def _column(rows: Any, name: str, shape: str) -> Any:
    if isinstance(rows, pa.Table):
        return _plain(rows.column(name))
    if _is_frame(rows):
        values = rows.loc[:, [str(one) == name for one in rows.columns]].iloc[:, 0]
        as_list = values.tolist
        if hasattr(values.dtype, "pyarrow_dtype"):
            return _plain(_array(values, as_list))
    else:
        values = [row.get(name) for row in rows]
        as_list = values.copy
    if shape == "records":
        return records_a_case(as_list(), name, _flat)
    return column_of(as_list(), _flat) if shape == "nested" else _plain(_array(values, as_list))


def _flat(values: list[Any]) -> Any:
    return _plain(_array(values, values.copy))


def _array(values: Any, as_list: Any) -> Any:
    """An Arrow array; a column that mixes numbers and texts becomes text, and a number's place reads it again a row at a time."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([_text(value) for value in as_list()], pa.string())


def _text(value: Any) -> str | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes | list | dict | tuple):
        return ""  # no text, number or time: nothing that a column of mixed values could mean
    try:
        return text_of(value)
    except (TypeError, ValueError):
        return None


def _plain(column: Any) -> Any:
    """Without dictionaries, and without the string type that the filters do not know; inside records too."""
    kind = plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries, views of text or views of lists, at any depth."""
    types = pa.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    if types.is_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(plain_type(kind.value_type)))
    return kind


def _case_ids(column: Any, count: int) -> Any:
    given = pa.nulls(count, pa.string()) if column is None else _as_text(column)
    if not given.null_count:
        return given
    return pa.array([str(row) if one is None else one for row, one in enumerate(given.to_pylist())], pa.string())


def _as_text(column: Any) -> Any:
    return column if column.type == pa.string() else pa.array(texts(column), pa.string())

"""Values that are lists of records (one list a case) or records in; Arrow columns out.

A number and a text in one place make that place text for all, as in flat columns, and a number's place reads it again a row at
a time; so one odd value never costs more than its own case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError

Plain = Callable[[list[Any]], Any]


def is_nested(value: Any) -> bool:
    """Whether a value is a list, a record or an array of numbers."""
    return isinstance(value, list | tuple | Mapping | np.ndarray)


def records_a_case(values: Sequence[Any], name: str, plain: Plain) -> pa.Array:
    """list<struct> of one list of mappings a case; None and NaN are null.  `plain` makes a column of flat values.

    Raises DataError, with counts, where a case has something else: read as "no records" it would be scored in silence.
    """
    lists = [_as_list(value) for value in values]
    odd = sum(1 for one in lists if one is not None and not all(isinstance(record, Mapping) for record in one))
    if odd:
        raise DataError(
            f"the column {name!r} holds {odd:,} value(s) that are not lists of records, of {len(lists):,}",
            "Bundle.predict",
            "give each case a list of dicts, empty where there are none",
        )
    records = [record for one in lists for record in one or ()]
    offsets = np.concatenate([[0], np.cumsum([len(one or ()) for one in lists])]).astype(np.int32)
    inner = records_of(records, plain)
    missing = pa.array([one is None for one in lists], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner, mask=missing)


def records_of(records: Sequence[Mapping[Any, Any]], plain: Plain) -> pa.Array:
    """struct of mappings, with the fields of all of them in the order in which they are first seen."""
    names = list(dict.fromkeys(str(key) for record in records for key in record))
    if not names:
        return pa.nulls(len(records))
    return pa.StructArray.from_arrays([column_of([record.get(name) for record in records], plain) for name in names], names)


def column_of(values: list[Any], plain: Plain) -> Any:
    """One column: mostly lists, records or arrays: as Arrow reads them, null where a value does not fit the others; else `plain`."""
    nested = sum(1 for value in values if is_nested(value))
    if 2 * nested <= sum(1 for value in values if value is not None):
        column = plain(values)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = [_python(value) if is_nested(value) else None for value in values]
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return _fitting(values)


def _fitting(values: list[Any]) -> pa.Array:
    """Values of the type that most of them have, null in place of the others."""
    types = [None if value is None else _type_of(value) for value in values]
    known = [kind for kind in types if kind is not None]
    if not known:
        return pa.nulls(len(values))
    usual = max(dict.fromkeys(known), key=known.count)
    return pa.array([_fits(value, usual) for value in values], usual)


def _type_of(value: Any) -> pa.DataType | None:
    try:
        return pa.array([value], from_pandas=True).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None


def _fits(value: Any, kind: pa.DataType) -> Any:
    try:
        pa.array([value], kind, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    return value


def _as_list(value: Any) -> Sequence[Any] | None:
    """The records of a case; [value] for what is no list, so that it is counted as odd."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, np.ndarray):
        return list(value)
    return value if isinstance(value, list | tuple) else [value] if not isinstance(value, Mapping) else [None]


def _python(value: Any) -> Any:
    """Arrays as lists, at any depth: Arrow takes arrays of one dimension only."""
    if isinstance(value, np.ndarray):
        return value if value.ndim == 1 and value.dtype != object else [_python(one) if is_nested(one) else one for one in value]
    if isinstance(value, Mapping):
        return {str(key): _python(one) if is_nested(one) else one for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_python(one) if is_nested(one) else one for one in value]
    return value

"""The rows of a joined source (a column of lists, one list a case) in; their flat table, or one row a case, out.

Nothing here loops over cases.  What a case gets depends on its own rows only.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError

TIME = "@time"  # hours relative to predict_at; ingest leaves only values <= 0
_CHECK = "say `many: latest`, or give each case one row"


def is_joined(table: pa.Table, source: str | None) -> bool:
    """Whether `source` names a column of `table` that holds a list of rows a case."""
    if source is None:
        return False
    places = table.schema.get_all_field_indices(source)
    return len(places) == 1 and _is_rows(table.schema.field(places[0]).type)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_rows(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(pa.types.is_struct(kind.value_type) or pa.types.is_null(kind.value_type))


def rows_of(table: pa.Table, source: str) -> tuple[np.ndarray, pa.Table]:
    """(offsets int64 [n + 1], the rows of all cases beneath each other): case i has the rows offsets[i] to offsets[i + 1].

    Where the rows have a `@time` (hours, 0 = predict_at) they are ordered by it within a case, ties as they lay, and rows after
    predict_at or without a time are left out: ingest drops them, and a caller of predict may not have.  An empty or null list is a case
    without rows.  DataError where the column is not there or holds something else.
    """
    column = _lists(table, source)
    cases = len(column)
    parts, lengths = [], [np.zeros(0, np.int64)]
    for chunk in column.chunks:
        lengths.append(np.asarray(pc.fill_null(pc.list_value_length(chunk), 0)).astype(np.int64))
        parts.append(_children(chunk))
    parent = np.repeat(np.arange(cases), np.concatenate(lengths))
    whole = [part for part in parts if part is not None]
    if not whole:  # lists without a type: all are empty
        return np.zeros(cases + 1, np.int64), pa.table({})
    valid = np.concatenate([mask for _, mask in whole])
    rows = pa.concat_tables([rows for rows, _ in whole], promote_options="permissive").combine_chunks()
    _once(rows.column_names, source)
    order = _order(rows, parent, valid, source)
    if order is not None:
        rows, parent = rows.take(order), parent[order]
    return np.searchsorted(parent, np.arange(cases + 1)), rows


def _lists(table: pa.Table, source: str) -> pa.ChunkedArray:
    places = table.schema.get_all_field_indices(source)
    if len(places) != 1:
        state = "is not in the table" if not places else f"stands {len(places)} times in the table"
        raise DataError(f"the joined source {source!r} {state}", "inputs", "give its rows as a list a case, empty where there are none")
    column = table.column(places[0])
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.list_(pa.null()))])
    if not _is_rows(column.type):
        raise DataError(f"the column {source!r} holds {column.type}, not a list of rows a case", "inputs", "give a list of records a case")
    return column


def _children(chunk: pa.Array) -> tuple[pa.Table, np.ndarray] | None:
    """(rows, bool mask of those that are not null) of one chunk; None where the rows have no fields at all."""
    rows = chunk.flatten()
    if not pa.types.is_struct(rows.type):
        return None
    valid = np.asarray(rows.is_valid())
    flat = pa.Table.from_arrays(rows.flatten(), names=[field.name for field in rows.type])
    return flat, valid


def _once(names: list[str], source: str) -> None:
    if len(set(names)) != len(names):
        raise DataError(f"a column of the joined source {source!r} stands twice", "inputs", "rename or drop one of them")


def _order(rows: pa.Table, parent: np.ndarray, valid: np.ndarray, source: str) -> np.ndarray | None:
    """The places of the rows that count, in their order; None where all count as they lie."""
    if TIME not in rows.column_names:
        return None if valid.all() else np.flatnonzero(valid)
    try:
        time = np.asarray(pc.fill_null(pc.cast(rows.column(TIME), pa.float64()), np.nan))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{TIME!r} of the joined source {source!r} holds no numbers", "inputs", "give hours, 0 at predict_at") from error
    keep = valid & (time <= 0)
    ordered = bool(np.all((np.diff(time) >= 0) | (np.diff(parent) > 0)))
    if ordered:
        return None if keep.all() else np.flatnonzero(keep)
    order = np.lexsort((time, parent))  # stable; NaN last
    return order[keep[order]]


def several_rows(offsets: np.ndarray) -> np.ndarray:
    """bool [n]: the case has more than one row."""
    return np.diff(offsets) > 1


def one_a_case(table: pa.Table, source: str, many: str | None) -> pa.Table:
    """The fields of the joined rows with one row a case, null where a case has none.

    many: None = at most one row a case, else DataError; latest/first = each column's last/first value that is there; mean/max = numbers
    folded, all else the latest.
    """
    offsets, rows = rows_of(table, source)
    _need_single(offsets, source, many)
    return fold_rows(offsets, rows, many)


def values_of(table: pa.Table, source: str, column: str, many: str | None) -> pa.Array:
    """One value a case of one field of the joined rows: `many` None (at most one row), latest or first.  DataError if not there."""
    offsets, rows = rows_of(table, source)
    _need_single(offsets, source, many)
    return pick(offsets, _field(rows, source, column), first=many == "first")


def _need_single(offsets: np.ndarray, source: str, many: str | None) -> None:
    found = int(several_rows(offsets).sum())
    if many is None and found:
        raise DataError(f"{found:,} case(s) have several rows in the source {source!r}", "inputs", _CHECK)


def _field(rows: pa.Table, source: str, column: str) -> pa.Array:
    if column in rows.column_names:
        return flat_column(rows, column)
    if rows.num_rows == 0:
        return pa.nulls(0)
    raise DataError(f"the rows of {source!r} have no column {column!r}", "inputs", "look at its spelling, and at `keep` of the source")


def flat_column(rows: pa.Table, name: str) -> pa.Array:
    """One column as one array without dictionary."""
    column = rows.column(name)
    column = (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    )
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def fold_rows(offsets: np.ndarray, rows: pa.Table, many: str | None, latest: Collection[str] = ()) -> pa.Table:
    """`one_a_case` of rows that are already flat; the columns `latest` (codes, say) are never averaged."""
    made = {}
    for name in rows.column_names:
        column = flat_column(rows, name)
        if many in ("mean", "max") and name not in latest and is_number(column.type):
            made[name] = _reduce(offsets, column, many)
        else:
            made[name] = pick(offsets, column, first=many == "first")
    return pa.table(made) if made else pa.table({"": pa.nulls(len(offsets) - 1)}).select([])


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def parents(offsets: np.ndarray) -> np.ndarray:
    """int64 [rows]: the case of each row."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _there(column: pa.Array) -> np.ndarray:
    """bool [rows]: neither null nor NaN."""
    found = np.asarray(column.is_valid())
    if pa.types.is_floating(column.type):
        found = found & ~np.asarray(pc.fill_null(pc.is_nan(column), True))
    return found


def pick(offsets: np.ndarray, column: pa.Array, *, first: bool) -> pa.Array:
    """Each case's last (or first) value that is there."""
    places = np.flatnonzero(_there(column))
    if first:
        places = places[::-1]
    chosen = np.full(len(offsets) - 1, -1, np.int64)
    chosen[parents(offsets)[places]] = places  # of repeated indices NumPy keeps the last
    return column.take(pa.array(chosen, mask=chosen < 0))


def _reduce(offsets: np.ndarray, column: pa.Array, many: str) -> pa.Array:
    """float64 a case: mean or maximum of its finite values."""
    values = np.asarray(pc.fill_null(pc.cast(column, pa.float64(), safe=False), np.nan))
    known = np.isfinite(values)
    case, values, cases = parents(offsets)[known], values[known], len(offsets) - 1
    count = np.bincount(case, minlength=cases)
    if many == "mean":
        folded = np.bincount(case, values, minlength=cases) / np.maximum(count, 1)
    else:
        folded = np.full(cases, -np.inf)
        np.maximum.at(folded, case, values)
    return pa.array(folded, mask=(count == 0) | ~np.isfinite(folded))

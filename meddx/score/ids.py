"""Rows as a foreign writer left them in, rows with ids as text out; and which of them cannot be used, with the reason."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ID, PATIENT = "case_id", "patient_id"
REASONS = {ID: "id_unreadable", PATIENT: "patient_unreadable"}


def with_text_ids(table: pa.Table) -> tuple[pa.Table, np.ndarray | None]:
    """(the table with both ids as text, reason object [n]: None, id_missing, id_unreadable, patient_unreadable or text_unreadable; or
    None where no row has one).

    An id that cannot be text is null in the table.  A table without patients gets null ones: they are needed for nothing here, but
    one that is there and cannot be read means that the row is not what it seems.  Parquet promises that text is UTF-8, and
    nobody checks it: what is not would end in our own files.
    """
    reasons, usable = np.full(table.num_rows, None, object), True
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name not in REASONS and not _is_valid(column):
            reasons[_invalid(column)], usable = "text_unreadable", False
    for name in REASONS:
        if table.column_names.count(name) > 1:  # which one is meant?
            others = [place for place, other in enumerate(table.column_names) if other != name]
            table = table.select(others).append_column(name, pa.nulls(table.num_rows, pa.string()))
            reasons[:], usable = REASONS[name], False
    if PATIENT not in table.column_names:
        table = table.append_column(PATIENT, pa.nulls(table.num_rows, pa.string()))
    for name in (PATIENT, ID):  # what is wrong with the case's own id is said last, and stands
        if name in table.column_names:
            texts, unreadable = _texts(_plain(table[name]))
            if name == ID:
                missing = np.asarray(pc.fill_null(pc.equal(texts, ""), True))
                if missing.any():
                    reasons[missing & (reasons != REASONS[ID])], usable = "id_missing", False
            if unreadable.any():
                reasons[unreadable], usable = REASONS[name], False
            table = table.set_column(table.column_names.index(name), name, texts)
    return table, None if usable else reasons


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # older pyarrow returns chunks for some types
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _texts(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(string [n], bool [n]: there, and yet no text)."""
    if array.type == pa.uuid():
        array = pa.array([None if one is None else str(UUID(bytes=one)) for one in array.storage.to_pylist()], pa.string())
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    try:
        found = array.cast(pa.string())
        found.validate(full=True)
        return found, np.zeros(len(array), bool)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are no UTF-8, or what is no single value
        found = pa.array([_text(one) for one in array], pa.string())
        return found, np.asarray(pc.and_(pc.is_null(found), pc.is_valid(array)))


def _text(value: pa.Scalar) -> str | None:
    try:
        found = value.as_py()
        return found.decode() if isinstance(found, bytes) else found if isinstance(found, str) else None
    except (UnicodeDecodeError, pa.ArrowException):
        return None


def _is_valid(column: pa.ChunkedArray) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _invalid(column: pa.ChunkedArray) -> np.ndarray:
    """bool [n]: values that hold text, at any depth, that is none."""
    return np.array([not _is_valid(column.slice(row, 1)) for row in range(len(column))], bool)

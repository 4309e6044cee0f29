"""Input columns of a dataset in, cases that are exact copies of a case in another part out.

A copy is a case whose input columns, pictures byte for byte, all equal another's; cases whose inputs are all missing are never copies.
A picture, a signal, MANY_ITEMS events or a text of LONG_TEXT characters is enough.  A row of a table alone may repeat by accident (two men
of 60 with the same three codes), so it counts only when at least MIN_VALUES of its values are each shared by at most half of all cases,
and when, were the columns independent, fewer than 2**-SAFE_BITS such accidental pairs were expected in the table (n cases, p_j the share
of the row's j-th value: n * n * prod p_j).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.dataset.open import Dataset
from meddx.dataset.values import coded, flat, kind_of, missing, numbers

MIN_VALUES = 8
SAFE_BITS = 10
LONG_TEXT = 50
MANY_ITEMS = 16


def row_digests(dataset: Dataset, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(16-byte digest of each case's content, dtype S16 [n]; whether any of the columns is present, bool [n])."""
    digests, present = [], []
    for batch in dataset.batches(columns, rows=5_000):
        gone = np.stack([_absent(batch.column(name)) for name in columns], axis=1)
        cells = [_cells(batch.column(name)) for name in columns]
        rows = np.ascontiguousarray(np.concatenate([gone.astype(np.uint8), *cells], axis=1))
        digests.append(b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in rows))
        present.append(~gone.all(axis=1))
    return np.frombuffer(b"".join(digests), dtype="S16"), np.concatenate(present) if present else np.zeros(0, dtype=bool)


def _cells(column: Any) -> np.ndarray:
    """uint8 [n, bytes]: equal cells give equal bytes; a missing one gives zeros."""
    if kind_of(column.type) == "number":
        values = np.nan_to_num(numbers(column), nan=0.0, posinf=np.inf, neginf=-np.inf) + 0.0  # -0.0 + 0.0 is 0.0
        return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), 8)
    if kind_of(column.type) == "binary":
        joined = b"".join(bytes(16) if one is None else hashlib.blake2b(one, digest_size=16).digest() for one in _buffers(column))
        return np.frombuffer(joined, dtype=np.uint8).reshape(len(column), 16)
    if pa.types.is_nested(column.type):
        return _nested_cells(flat(column))
    codes, levels = coded(column)
    joined = b"".join(hashlib.blake2b(level.encode(), digest_size=16).digest() for level in levels) + bytes(16)
    return np.take(np.frombuffer(joined, dtype=np.uint8).reshape(len(levels) + 1, 16), codes, axis=0, mode="wrap")


def _nested_cells(array: Any) -> np.ndarray:
    """uint8 [n, bytes] of lists and structs: of a struct its fields side by side, of a list the digest of its items."""
    if pa.types.is_struct(array.type):
        return np.concatenate([_cells(one) for one in array.flatten()] or [np.zeros((len(array), 1), np.uint8)], axis=1)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    items = np.ascontiguousarray(_cells(array.flatten()))
    digests = (
        hashlib.blake2b(items[end - count : end].tobytes(), digest_size=16).digest() for end, count in zip(ends, lengths, strict=True)
    )
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(array), 16)


def _absent(column: Any) -> np.ndarray:
    """bool [n]: missing, or a list without items."""
    array = flat(column)
    if not pa.types.is_list(array.type):
        return missing(array)
    empty: np.ndarray = pc.fill_null(pc.equal(pc.list_value_length(array), 0), True).to_numpy(zero_copy_only=False)
    return empty


def _particular(column: Any) -> np.ndarray:
    """bool [n]: there, and of a kind that does not repeat by accident."""
    array = flat(column)
    there = ~_absent(array)
    if kind_of(array.type) == "text":
        there &= pc.fill_null(pc.greater_equal(pc.utf8_length(array), LONG_TEXT), False).to_numpy(zero_copy_only=False)
    elif pa.types.is_list(array.type) and not _holds_bytes(array.type.value_type):
        there &= pc.fill_null(pc.greater_equal(pc.list_value_length(array), MANY_ITEMS), False).to_numpy(zero_copy_only=False)
    return there


def _holds_bytes(arrow_type: Any) -> bool:
    kinds = [field.type for field in arrow_type] if pa.types.is_struct(arrow_type) else [arrow_type]
    return any(kind_of(one) == "binary" for one in kinds)


def _buffers(column: Any) -> list[Any]:
    """The values of a binary column without copying them."""
    return [None if not one.is_valid else one.as_buffer() for one in flat(column)]


def meaningful(table: pa.Table, rows: np.ndarray) -> np.ndarray:
    """bool [len(rows)]: the content of these rows is too particular to repeat by accident (rule above); `table` holds all cases."""
    bits, values = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for name in table.schema.names:
        codes, _ = coded(table.column(name))
        counts = np.bincount(codes[codes >= 0], minlength=1)
        mine = codes[rows]
        own = np.where(mine >= 0, -np.log2(np.maximum(counts[mine], 1) / table.num_rows), 0.0)
        bits += own
        values += own >= 1
    result: np.ndarray = (values >= MIN_VALUES) & (bits >= 2 * np.log2(max(table.num_rows, 2)) + SAFE_BITS)
    return result


def copies_across_parts(
    dataset: Dataset,
    tables: Sequence[str],
    bodies: Sequence[str],
    parts: np.ndarray,
    eligible: np.ndarray,
    *,
    joined: Sequence[str] = (),
) -> list[np.ndarray]:
    """Groups of positions (int64 arrays) of equal content that lie in more than one part; only `eligible` rows (bool [n]) take part.

    `bodies`: columns of pictures, signals, events, texts; `joined`: rows of joined tables, which must be equal too but prove nothing.
    """
    columns = [*tables, *bodies, *joined]
    if not columns or (not bodies and len(tables) < MIN_VALUES):
        return []
    digests, present = row_digests(dataset, columns)
    rows = np.flatnonzero(eligible & present)
    _, group, counts = np.unique(digests[rows], return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[group.reshape(-1)] > 1)
    repeated = repeated[np.argsort(group.reshape(-1)[repeated], kind="stable")]
    edges = np.flatnonzero(np.diff(group.reshape(-1)[repeated])) + 1
    found = [rows[one] for one in np.split(repeated, edges) if len({str(part) for part in parts[rows[one]]}) > 1]
    if not found:
        return []
    first = np.array([one[0] for one in found])
    counted = np.zeros(len(first), dtype=bool)
    for name in bodies:
        counted |= _particular(dataset.table([name]).column(name).take(pa.array(first)))
    if tables and not counted.all():
        counted |= meaningful(dataset.table(tables), first)
    return [one for one, counts_as_copy in zip(found, counted, strict=True) if counts_as_copy]

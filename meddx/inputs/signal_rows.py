"""A column of signals in; which rows can be read, where in one flat buffer the wanted leads lie, and why others cannot, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError

_NEXT = "a signal is a record of rate, leads and samples (a list of numbers a lead), or one list of numbers"


@dataclass
class SignalRows:
    """Readable rows by (rate, samples a lead): `starts` int64 [rows, leads] into `flat` float32; `errors`: row to reason."""

    flat: np.ndarray
    starts: np.ndarray
    groups: dict[tuple[float, int], np.ndarray] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def values(self, rows: np.ndarray, count: int) -> np.ndarray:
        """float32 [rows, leads, count], contiguous, in the order of the wanted leads whatever their order in the file."""
        return np.asarray(self.flat[self.starts[rows][:, :, None] + np.arange(count)])


def read_rows(column: pa.ChunkedArray, leads: Sequence[str], rate: float, name: str) -> SignalRows:
    """Sort the rows.  A null row is in no group and has no error.  DataError where the column does not hold signals at all.

    Reasons, the first that applies: signal_empty (no sample at all), signal_unreadable (no rate, names and lists that do not match, a
    wanted lead twice), lead_missing, signal_empty (a wanted lead), signal_unreadable (wanted leads of different length).
    """
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    if pa.types.is_null(whole.type):
        return SignalRows(np.zeros(0, np.float32), np.zeros((len(whole), len(leads)), np.int64))
    if pa.types.is_struct(whole.type):
        return _structs(whole, leads, name)
    if _is_list(whole.type) and len(leads) == 1:
        return _plain(whole, rate, name)
    unnamed = " without names of leads" if _is_list(whole.type) else ""
    raise DataError(f"the column with the signals holds {whole.type}{unnamed}", f"input {name}", _NEXT)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _cast(values: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    try:
        return pc.cast(values, kind, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"a part of the signals holds {values.type}, not {kind}", f"input {name}", _NEXT) from error


def _numbers(values: pa.Array, name: str) -> np.ndarray:
    """float32, NaN for null; a number beyond float32 is infinite, and so not finite."""
    if values.type != pa.float32():
        values = _cast(values, pa.float64(), name)
    with np.errstate(over="ignore"):
        return np.asarray(pc.fill_null(values, pa.scalar(np.nan, values.type))).astype(np.float32, copy=False)


def _lists(values: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """(int64 [n + 1] offsets, the flat children); a null list is empty."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0)).astype(np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), values.flatten()


def _plain(whole: pa.Array, rate: float, name: str) -> SignalRows:
    offsets, children = _lists(whole)
    rows = SignalRows(_numbers(children, name), offsets[:-1, None])
    there, lengths = np.asarray(whole.is_valid()), np.diff(offsets)
    rows.errors = {int(row): "signal_empty" for row in np.flatnonzero(there & (lengths == 0))}
    _group(rows, np.flatnonzero(there & (lengths > 0)), np.full(len(whole), rate), lengths)
    return rows


def _structs(whole: pa.Array, leads: Sequence[str], name: str) -> SignalRows:
    fields = [one.name for one in whole.type]
    if any(fields.count(one) != 1 for one in ("rate", "leads", "samples")):
        raise DataError(f"the signals have the fields {fields}, not rate, leads and samples", f"input {name}", _NEXT)
    rates = np.asarray(pc.fill_null(_cast(pc.struct_field(whole, "rate"), pa.float64(), name), np.nan))
    named, names = _lists(_cast(pc.struct_field(whole, "leads"), pa.list_(pa.string()), name))
    outer, lists = _lists(_cast_outer(pc.struct_field(whole, "samples"), name))
    inner, children = _lists(lists) if len(lists) else (np.zeros(1, np.int64), pa.nulls(0, pa.float32()))
    found = _places(pc.index_in(names, value_set=pa.array(list(leads), pa.string())), named, len(leads))
    rows = SignalRows(_numbers(children, name), np.zeros((len(whole), len(leads)), np.int64))
    counts = np.diff(outer)
    # a place beyond the lists is told by `mismatch`, so it may point anywhere here
    at = np.minimum(outer[:-1, None] + np.maximum(found, 0), max(len(lists) - 1, 0))
    lengths = np.diff(inner)[at] if len(lists) else np.zeros_like(at)
    rows.starts = inner[:-1][at] if len(lists) else np.zeros_like(at)
    reasons = np.full(len(whole), "", object)
    reasons[(lengths != lengths[:, :1]).any(1)] = "signal_unreadable"
    reasons[(lengths == 0).any(1)] = "signal_empty"
    reasons[(found == -1).any(1)] = "lead_missing"
    total = inner[outer[1:]] - inner[outer[:-1]]
    reasons[(found == -2).any(1) | (np.diff(named) != counts) | ~(np.isfinite(rates) & (rates > 0))] = "signal_unreadable"
    reasons[total == 0] = "signal_empty"
    there = np.asarray(whole.is_valid())
    rows.errors = {int(row): reasons[row] for row in np.flatnonzero(there & (reasons != ""))}
    _group(rows, np.flatnonzero(there & (reasons == "")), rates, lengths[:, 0])
    return rows


def _cast_outer(samples: pa.Array, name: str) -> pa.Array:
    """The lists of lists as they are, once that is what they are; a column of nulls or of empty lists has no inner type."""
    kind = samples.type
    if pa.types.is_null(kind) or (_is_list(kind) and pa.types.is_null(kind.value_type)):
        return _cast(samples, pa.list_(pa.list_(pa.float32())), name)
    if not _is_list(kind) or not _is_list(kind.value_type):
        raise DataError(f"the samples of the signals are {kind}", f"input {name}", _NEXT)
    return samples


def _places(codes: pa.Array, offsets: np.ndarray, count: int) -> np.ndarray:
    """int64 [rows, wanted leads]: which of a row's leads it is; -1 there is none, -2 there are several."""
    found = np.full((len(offsets) - 1, count), -1, np.int64)
    code = np.asarray(pc.fill_null(codes, -1)).astype(np.int64)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    place = np.arange(len(code)) - offsets[row]
    wanted = code >= 0
    found[row[wanted], code[wanted]] = place[wanted]
    times = np.zeros_like(found)
    np.add.at(times, (row[wanted], code[wanted]), 1)
    found[times > 1] = -2
    return found


def _group(rows: SignalRows, good: np.ndarray, rates: np.ndarray, lengths: np.ndarray) -> None:
    """Sort the good rows by rate and length: each group is worked on as one array."""
    keys = np.stack([rates[good], lengths[good].astype(np.float64)], 1)
    distinct, member = np.unique(keys, axis=0, return_inverse=True)
    member = member.reshape(-1)
    for i, (rate, length) in enumerate(distinct):
        rows.groups[(float(rate), int(length))] = good[member == i]

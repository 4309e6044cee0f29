"""The bytes of a WFDB signal file in, samples as int32 and a mask of the invalid ones out.

Formats: WFDB Applications Guide, signal(5).  Each format has one value that means "no valid sample"; format 8 has none.
"""

from __future__ import annotations

import numpy as np

from meddx.ingest.headers import Unreadable

INVALID = {"16": -(1 << 15), "24": -(1 << 23), "32": -(1 << 31), "61": -(1 << 15), "80": -(1 << 7), "160": -(1 << 15), "212": -(1 << 11)}
KNOWN = (*INVALID, "8")
_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2}


def bytes_of(code: str, count: int) -> int:
    """How many bytes `count` samples take.  Raises Unreadable(format_unsupported) for an unknown code."""
    if code not in KNOWN:
        raise Unreadable("format_unsupported", f"signal format {code}")
    if code == "212":  # two samples in three bytes; a last single one needs two
        return count // 2 * 3 + count % 2 * 2
    return count * _BYTES[code]


def count_in(code: str, size: int) -> int:
    """How many whole samples `size` bytes hold."""
    if code == "212":
        return size // 3 * 2 + (1 if size % 3 == 2 else 0)
    return size // max(bytes_of(code, 1), 1)


def decode(code: str, data: bytes, count: int) -> np.ndarray:
    """int32 [count]: the stored numbers; of format 8 the differences, which `undo_differences` adds up."""
    if code == "212":
        return _decode_212(data, count)
    if code == "24":
        raw = np.frombuffer(data, np.uint8, count * 3).reshape(count, 3).astype(np.int32)
        value = raw[:, 0] | raw[:, 1] << 8 | raw[:, 2] << 16
        return np.where(value >= 1 << 23, value - (1 << 24), value).astype(np.int32)
    kinds = {"8": "<i1", "16": "<i2", "32": "<i4", "61": ">i2", "80": "<u1", "160": "<u2"}
    stored = np.frombuffer(data, kinds[code], count).astype(np.int32)
    return stored - {"80": 128, "160": 32768}.get(code, 0)


def _decode_212(data: bytes, count: int) -> np.ndarray:
    """Two 12-bit samples in three bytes: the first has its high bits in the low half of the middle byte, the second in its high half."""
    whole = -(-count // 2) * 3
    raw = np.frombuffer(data, np.uint8)[:whole]
    raw = np.pad(raw, (0, whole - len(raw))).reshape(-1, 3).astype(np.int32)
    out = np.empty((len(raw), 2), np.int32)
    out[:, 0] = raw[:, 0] | (raw[:, 1] & 0x0F) << 8
    out[:, 1] = raw[:, 2] | (raw[:, 1] & 0xF0) << 4
    out -= (out & 0x800) << 1  # two's complement of 12 bits
    return out.reshape(-1)[:count]


def undo_differences(stored: np.ndarray, initial: int) -> np.ndarray:
    """Format 8: int64 [n], the sum of the differences on top of the initial value."""
    return initial + np.cumsum(stored, dtype=np.int64)

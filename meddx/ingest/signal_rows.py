"""One record's samples in, the rows cut from it out: the whole record, a window a beat, or a window a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.ingest.options import SignalSource

SIGNAL = pa.struct([("rate", pa.float64()), ("leads", pa.list_(pa.string())), ("samples", pa.list_(pa.list_(pa.float32())))])
RR = ("rr_before", "rr_after", "rr_before_2", "rr_after_2", "rr_local", "rr_record", "rr_ratio")
LOCAL_BEATS = 10  # rr_local: the mean of so many intervals before the beat
BLOCK_BYTES = 16 << 20


def schema_of(rows: str) -> pa.Schema:
    """The columns: `sample` and `time_s` (seconds) say where in the record the row stands; intervals are in seconds."""
    first = [("record", pa.string()), ("case_key", pa.string()), ("sample", pa.float64()), ("time_s", pa.float64())]
    beats = [("symbol", pa.string()), *((name, pa.float64()) for name in RR)] if rows == "beats" else []
    return pa.schema([*first, *beats, ("signal", SIGNAL)])


def window_of(options: SignalSource, rate: float, samples: int) -> tuple[int, int]:
    """(samples before the row's place, samples of a window), at this record's rate."""
    if options.rows == "beats":
        before = round(options.before.total_seconds() * rate)
        return before, before + round(options.after.total_seconds() * rate)
    # a record shorter than a window is given as it is: repeating its edge for seconds would make up a signal
    return 0, min(samples, round(options.length.total_seconds() * rate)) if options.rows == "sliding" else samples


def starts_of(options: SignalSource, rate: float, samples: int) -> range:
    """Where the windows of a record start; a rest at its end that fills no window is left out."""
    width = window_of(options, rate, samples)[1]
    return range(0, samples - width + 1, max(1, round(options.step.total_seconds() * rate))) if options.rows == "sliding" else range(1)


def tables(
    record: str, rate: float, leads: Sequence[str], samples: np.ndarray, places: np.ndarray, window: tuple[int, int], more: dict[str, Any]
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """(places of the rows in `places`, their table), some 16 MB at a time; a window that leaves the record repeats its edge value.

    `samples` float32 [leads, n]; `places` int64 [rows], ascending, each within the record; `more`: further columns, one value a row.
    """
    before, width = window
    keys = keys_of(record, places)
    step = max(1, BLOCK_BYTES // max(1, width * len(leads) * 4))
    for start in range(0, len(places), step):
        chosen = np.arange(start, min(start + step, len(places)))
        at = places[chosen]
        columns = {
            "record": pa.array([record] * len(at), pa.string()),
            "case_key": pa.array([keys[i] for i in chosen], pa.string()),
            "sample": pa.array(at.astype(np.float64)),
            "time_s": pa.array(at / rate),
            **{
                name: pa.array(values[chosen], pa.string() if name == "symbol" else pa.float64(), from_pandas=True)
                for name, values in more.items()
            },
            "signal": signal_array(rate, leads, _cut(samples, at - before, width)),
        }
        yield chosen, pa.table(columns)


def _cut(samples: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """float32 [rows, leads, width]; the edge value where a window leaves the record."""
    if width == samples.shape[1] and len(starts) == 1 and starts[0] == 0:
        return samples[None]  # a whole record may be large: not copied
    index = np.clip(starts[:, None] + np.arange(width), 0, samples.shape[1] - 1)
    return np.asarray(samples[:, index].swapaxes(0, 1))


def signal_array(rate: float, leads: Sequence[str], windows: np.ndarray) -> pa.Array:
    """The struct column of float32 [rows, leads, n] windows that have the same leads and rate."""
    rows, count, width = windows.shape
    values = pa.array(np.ascontiguousarray(windows, np.float32).reshape(-1))
    each = pa.ListArray.from_arrays(np.arange(rows * count + 1, dtype=np.int32) * width, values)
    of_rows = np.arange(rows + 1, dtype=np.int32) * count
    names = pa.array(list(leads) * rows, pa.string())
    parts = [pa.array(np.full(rows, rate)), pa.ListArray.from_arrays(of_rows, names), pa.ListArray.from_arrays(of_rows, each)]
    return pa.StructArray.from_arrays(parts, fields=list(SIGNAL))


def keys_of(record: str, places: np.ndarray) -> list[str]:
    """`record:sample`, with a number behind it where several rows stand at one sample; `places` ascending."""
    keys, times = [], 0
    for i, place in enumerate(places):
        times = times + 1 if i and place == places[i - 1] else 1
        keys.append(f"{record}:{place}" if times == 1 else f"{record}:{place}:{times}")
    return keys


def intervals(beats: np.ndarray, rate: float) -> dict[str, np.ndarray]:
    """The RR intervals around each beat, float64 [beats] in seconds, NaN where there is no such beat.

    `rr_local` is the mean of the ten intervals before the beat (of those there are), `rr_record` the median of the record, `rr_ratio`
    the interval before by the local mean.  `beats` int64, ascending; sums of whole numbers, so nothing is rounded on the way.
    """
    count = len(beats)
    steps = np.diff(beats) / rate
    gaps = np.full(2, np.nan)
    padded = np.concatenate([gaps, steps, gaps])  # padded[i + 1] = the interval before beat i
    place = np.arange(count)
    first = np.maximum(place - LOCAL_BEATS, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        local = (beats - beats[first]) / (place - first) / rate
        ratio = padded[place + 1] / local
    median = np.full(count, np.median(steps) if count > 1 else np.nan)
    ratio[~np.isfinite(ratio)] = np.nan  # several beats at one sample
    found = (padded[place + 1], padded[place + 2], padded[place], padded[place + 3], local, median, ratio)
    return dict(zip(RR, found, strict=True))

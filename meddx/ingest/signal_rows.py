"""One record's samples in, the rows cut from it out: the whole record, a window a beat, or a window a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.ingest.options import SignalSource
from meddx.ingest.signal_shapes import APART, SHAPES, apart, chosen_for_median, shapes, usual_beat

SIGNAL = pa.struct([("rate", pa.float64()), ("leads", pa.list_(pa.string())), ("samples", pa.list_(pa.list_(pa.float32())))])
SECONDS = ("rr_before", "rr_after", "rr_before_2", "rr_after_2", "rr_local", "rr_record")
RATIOS = (
    "rr_ratio",
    "rr_ratio_after",
    "rr_ratio_record",
    "rr_ratio_record_after",
    "rr_ratio_around",
    "rr_ratio_around_after",
    "rr_ratio_spread",
)
RR = (*SECONDS, *RATIOS)
LOCAL_BEATS = 10  # rr_local: the mean of so many intervals before the beat; rr_ratio_around: so many on either side
BLOCK_BYTES = 16 << 20


def schema_of(rows: str) -> pa.Schema:
    """The columns: `sample` and `time_s` (seconds) say where in the record the row stands; intervals in seconds, ratios without a unit."""
    first = [("record", pa.string()), ("case_key", pa.string()), ("sample", pa.float64()), ("time_s", pa.float64())]
    beats = [("symbol", pa.string()), *((name, pa.float64()) for name in (*RR, *SHAPES))] if rows == "beats" else []
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
    record: str,
    rate: float,
    leads: Sequence[str],
    samples: np.ndarray,
    places: np.ndarray,
    window: tuple[int, int],
    more: dict[str, Any],
    *,
    with_apart: bool = False,
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """(places of the rows in `places`, their table), some 16 MB at a time; a window that leaves the record repeats its edge value.

    `samples` float32 [leads, n]; `places` int64 [rows], ascending, each within the record; `more`: further columns, one value a row;
    with a `symbol` the rows are beats, which get the columns SHAPES, and `with_apart` one lead more (`signal_shapes.apart`).
    """
    before, width = window
    keys = keys_of(record, places)
    usual = usual_beat(_cut(samples, places[chosen_for_median(len(places))] - before, width)) if "symbol" in more and len(places) else None
    step = max(1, BLOCK_BYTES // max(1, width * len(leads) * 4))
    for start in range(0, len(places), step):
        chosen = np.arange(start, min(start + step, len(places)))
        at = places[chosen]
        windows = _cut(samples, at - before, width)
        shaped = {} if usual is None else shapes(windows, usual)
        names = list(leads)
        if with_apart and usual is not None:
            windows, names = np.concatenate([windows, apart(windows, usual)], axis=1), [*leads, APART]
        columns = {
            "record": pa.array([record] * len(at), pa.string()),
            "case_key": pa.array([keys[i] for i in chosen], pa.string()),
            "sample": pa.array(at.astype(np.float64)),
            "time_s": pa.array(at / rate),
            **{
                name: pa.array(values[chosen], pa.string() if name == "symbol" else pa.float64(), from_pandas=True)
                for name, values in more.items()
            },
            **{name: pa.array(values, from_pandas=True) for name, values in shaped.items()},
            "signal": signal_array(rate, names, windows),
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

    `rr_local` is the mean of the ten intervals before the beat (of those there are), `rr_record` the median of the record.  The
    `rr_ratio*` compare with the patient's own rhythm, as de Chazal et al. (2004) and later work do, so that a fast heart is not taken
    for an early beat: the interval before (`_after`: behind) by the local mean, by `_record`, and by the median `_around`, of the
    intervals of ten beats on either side.  `rr_ratio_spread` says how irregular the heart is about the beat: where every interval differs
    from the last, as in atrial fibrillation, a short one is no early beat.  `beats` int64, ascending; sums of whole numbers, so nothing is
    rounded on the way.
    """
    count = len(beats)
    steps = np.diff(beats) / rate
    gaps = np.full(2, np.nan)
    padded = np.concatenate([gaps, steps, gaps])  # padded[i + 1] = the interval before beat i
    place = np.arange(count)
    first = np.maximum(place - LOCAL_BEATS, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        local = (beats - beats[first]) / (place - first) / rate
    median = np.full(count, np.median(steps) if count > 1 else np.nan)
    before, after = padded[place + 1], padded[place + 2]
    seconds = (before, after, padded[place], padded[place + 3], local, median)
    ratios = [_ratio(one, by) for by in (local, median, _around(steps)) for one in (before, after)]
    return dict(zip(RR, (*seconds, *ratios, _spread(steps)[:count]), strict=True))


def _around(steps: np.ndarray) -> np.ndarray:
    """float64 [intervals + 1]: each beat's median of up to ten intervals before it and ten behind it; NaN of a beat alone."""
    return np.asarray(np.nanmedian(_windows(steps, LOCAL_BEATS), axis=1)) if len(steps) else np.full(1, np.nan)


def _spread(steps: np.ndarray) -> np.ndarray:
    """float64 [intervals + 1]: the median distance of the intervals around a beat from their median, as a share of it; without the two
    that touch the beat, for an early beat must not make its own surroundings look irregular.  NaN where fewer than two are left."""
    windows = np.delete(_windows(steps, LOCAL_BEATS + 1), [LOCAL_BEATS, LOCAL_BEATS + 1], axis=1)
    spread = np.full(len(windows), np.nan)
    some = np.isfinite(windows).sum(axis=1) > 1
    middle = np.nanmedian(windows[some], axis=1)
    spread[some] = _ratio(np.nanmedian(np.abs(windows[some] - middle[:, None]), axis=1), middle)
    return spread


def _windows(steps: np.ndarray, reach: int) -> np.ndarray:
    """float64 [intervals + 1, 2 * reach]: the intervals before and behind each beat, NaN where there are none."""
    gaps = np.full(reach, np.nan)
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([gaps, steps, gaps]), 2 * reach)


def _ratio(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by: several beats at one sample."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = values / by
    return np.where(np.isfinite(found), found, np.nan)

"""Windows of a record's beats in, how each differs from the record's usual beat out.

A beat of the ventricles looks unlike its neighbours, whatever these look like; what a heart's usual beat looks like differs from patient
to patient and from electrode to electrode.  So each beat is compared with the median beat of its own record.  No label is read.
"""

from __future__ import annotations

import numpy as np

SHAPES = ("shape_match", "shape_distance", "shape_size")
APART = "apart"  # the name of the lead that `apart` makes
MOST_BEATS = 2000  # so many, evenly over the record, make the median beat


def chosen_for_median(beats: int) -> np.ndarray:
    """int64: the places of at most MOST_BEATS beats, evenly over the record."""
    return np.unique(np.linspace(0, beats - 1, min(beats, MOST_BEATS)).astype(np.int64)) if beats else np.zeros(0, np.int64)


def usual_beat(windows: np.ndarray) -> np.ndarray:
    """float64 [leads, width]: the median beat of windows [beats, leads, width], at least one; each lead less its mean."""
    beats, leads, width = windows.shape
    return np.asarray(np.median(_centred(windows).reshape(beats, leads, width), axis=0))


def shapes(windows: np.ndarray, usual: np.ndarray) -> dict[str, np.ndarray]:
    """SHAPES, float64 [beats], of windows [beats, leads, width].

    All leads count as one vector, each lead less its own mean: x of the beat, u of the usual one.  `match` is their correlation
    x u / (|x| |u|), `distance` |x - u| / |u|, `size` |x| / |u|; NaN where one that is divided by is flat.  The same three of the parts
    before, of and after the QRS were tried as well: on MIT-BIH's DS1, held out by record, boosting found fewer early beats with them.
    """
    x, u = _centred(windows), _centred(usual[None])[0]
    size, usual_size = np.sqrt((x * x).sum(1)), float(np.sqrt((u * u).sum()))
    apart = np.sqrt(((x - u) ** 2).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = ((x * u).sum(1) / (size * usual_size), apart / usual_size, size / usual_size)
    return {name: np.where(np.isfinite(one), one, np.nan) for name, one in zip(SHAPES, values, strict=True)}


def apart(windows: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """float32 [beats, 1, width]: when in its window a beat is how far from the usual one, log(1 + |x(t) - u(t)| / rms(u)).

    The leads count as one vector at each instant, so neither their names, their order nor an electrode on the other side changes it:
    a network that sees this lead cannot learn what single patients' beats look like.  Zero where the usual beat is flat,
    NaN where a sample is not known.
    """
    beats, leads, width = windows.shape
    x, u = _centred(windows).reshape(beats, leads, width), _centred(usual[None]).reshape(leads, width)
    scale = float(np.sqrt((u * u).sum(0).mean()))
    far = np.sqrt(((x - u) ** 2).sum(1)) / scale if scale > 0 else np.zeros((beats, width))
    far[~np.isfinite(windows).all(axis=1)] = np.nan
    return np.log1p(far, dtype=np.float32, casting="same_kind")[:, None, :]


def _centred(windows: np.ndarray) -> np.ndarray:
    """float64 [beats, leads * width], each lead less its mean; an unknown sample counts as the mean."""
    values = np.ascontiguousarray(windows, np.float64)  # sums along memory: a row's does not depend on how many rows there are
    known = np.isfinite(values)
    count = known.sum(2, keepdims=True)
    mean = np.where(known, values, 0.0).sum(2, keepdims=True) / np.maximum(count, 1)
    return np.where(known, values - mean, 0.0).reshape(len(values), values.shape[1] * values.shape[2])

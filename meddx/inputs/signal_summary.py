"""Prepared signals in, a fixed number of plain features a lead out: what a baseline may look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SEGMENTS = 32
PLAIN = ("mean", "std", "min", "max", *(f"q{round(100 * one):02d}" for one in QUANTILES), "step", "skew", "kurtosis")
PIECE_VALUES = 2 << 20


def names_of(leads: Sequence[str], steps: int) -> list[str]:
    """The summary's columns: a lead's plain numbers, then the means of the segments of the window."""
    each = [*PLAIN, *(f"mean_{i:02d}" for i in range(min(SEGMENTS, steps)))]
    return [f"{lead}:{one}" for lead in leads for one in each]


def summarise(samples: np.ndarray, length: np.ndarray, leads: int) -> np.ndarray:
    """float32 [n, k] of samples float32 [n, leads, steps] and length int [n]; only valid samples count, NaN where there are none.

    A lead: mean, standard deviation, least, greatest, five quantiles, mean absolute step from sample to sample, skewness and excess
    kurtosis (0 of a flat lead), and the means of 32 equal segments of the window.
    """
    rows, _, steps = samples.shape
    segments = min(SEGMENTS, steps)
    out = np.full((rows, leads, len(PLAIN) + segments), np.nan, np.float32)
    size = max(1, PIECE_VALUES // max(1, leads * steps))
    for count in np.unique(length[length > 0]):
        chosen = np.flatnonzero(length == count)
        for start in range(0, len(chosen), size):
            some = chosen[start : start + size]
            values = samples[some, :, :count].astype(np.float64)
            out[some, :, : len(PLAIN)] = np.stack(_plain(values), -1)
            out[some, :, len(PLAIN) :] = _segments(values, steps, segments)
    return out.reshape(rows, out.shape[1] * out.shape[2])


def _plain(values: np.ndarray) -> list[np.ndarray]:
    """PLAIN of float64 [rows, leads, n]."""
    mean, deviation = values.mean(2), values.std(2)
    flat = deviation <= 1e-7 * np.abs(mean)
    scaled = (values - mean[..., None]) / np.where(flat, 1.0, deviation)[..., None]
    cubes = scaled * scaled * scaled
    skew, kurtosis = cubes.mean(2), (cubes * scaled).mean(2) - 3.0
    step = np.abs(np.diff(values, axis=2)).mean(2) if values.shape[2] > 1 else np.zeros_like(mean)
    quantiles = np.quantile(values, QUANTILES, axis=2)
    return [mean, deviation, values.min(2), values.max(2), *quantiles, step, np.where(flat, 0.0, skew), np.where(flat, 0.0, kurtosis)]


def _segments(values: np.ndarray, steps: int, segments: int) -> np.ndarray:
    """float64 [rows, leads, segments]: means of the valid samples of each segment of the window."""
    count = values.shape[2]
    edges = np.minimum(np.linspace(0, steps, segments + 1).astype(int), count)
    sums = np.concatenate([np.zeros((*values.shape[:2], 1)), np.cumsum(values, 2)], 2)[..., edges]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.diff(sums, axis=2) / np.diff(edges))

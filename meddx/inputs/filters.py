"""Signals in, signals band-passed without delay and brought to another rate out; one row never touches another."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

ORDER = 3  # of the Butterworth filter; forwards and backwards makes it six, with no delay
MAX_FACTOR = 5_000  # up or down: beyond it the two rates do not belong together


def band_pass(values: np.ndarray, rate: float, band: tuple[float, float]) -> np.ndarray:
    """float64 [..., n] from [..., n] at `rate` Hz: zero-phase Butterworth (scipy sosfiltfilt), low and high in Hz.

    A low edge of 0 or less passes all that is slow.  A high edge at or beyond half the rate passes all that is fast: there is nothing
    beyond.  ValueError where the low edge is beyond half the rate, or the edges are the wrong way round.
    """
    from scipy.signal import sosfiltfilt

    sections = _sections(rate, band)
    values = np.asarray(values, np.float64)
    if sections is None or values.shape[-1] < 2:
        return values
    usual = 3 * (2 * len(sections) + 1)
    # longer than scipy's own pad: a low edge of 0.5 Hz rings for seconds
    pad = max(usual, round(rate / band[0]) if band[0] > 0 else 0)
    return np.asarray(sosfiltfilt(sections, values, axis=-1, padlen=min(pad, values.shape[-1] - 1)))


def band_pass_gaps(values: np.ndarray, rate: float, band: tuple[float, float]) -> np.ndarray:
    """float64 [n]: `band_pass` of one lead with gaps: NaN is bridged by a line for the filter and is NaN again afterwards."""
    gaps = ~np.isfinite(values)
    if gaps.all():
        return np.asarray(values, np.float64)
    if gaps.any():
        places = np.arange(len(values))
        values = np.where(gaps, np.interp(places, places[~gaps], values[~gaps]), values)
    out = band_pass(values, rate, band)
    return np.where(gaps, np.nan, out) if gaps.any() else out


def _sections(rate: float, band: tuple[float, float]) -> Any:
    """The filter's second-order sections, None where nothing is filtered."""
    from scipy.signal import butter

    low, high = band
    half = rate / 2
    if low >= high or low >= half:
        raise ValueError("a band that the rate cannot hold")
    if low > 0 and high < half:
        return butter(ORDER, (low, high), "bandpass", fs=rate, output="sos")
    if low > 0:
        return butter(ORDER, low, "highpass", fs=rate, output="sos")
    return butter(ORDER, high, "lowpass", fs=rate, output="sos") if high < half else None


def factors(rate: float, wanted: float) -> tuple[int, int]:
    """(up, down): wanted / rate as a fraction with a denominator of at most 1,000.  ValueError where the rates do not belong together."""
    ratio = Fraction(wanted / rate).limit_denominator(1_000)
    if ratio <= 0 or max(ratio.numerator, ratio.denominator) > MAX_FACTOR:
        raise ValueError("rates that do not belong together")
    return ratio.numerator, ratio.denominator


def resample(values: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """[..., ceil(n * up / down)]: polyphase resampling (scipy resample_poly); the very same values where the rates are equal.

    The line from the first to the last sample is taken off first, so that the ends do not ring.
    """
    from scipy.signal import resample_poly

    up, down = factors(rate, wanted)
    if up == down:
        return values
    if values.shape[-1] == 1:  # no line goes through one sample
        return np.repeat(values, -(-up // down), axis=-1)
    return np.asarray(resample_poly(np.asarray(values, np.float64), up, down, axis=-1, padtype="line"))

"""What each source says of a stay in, the true probability out, also for somebody to whom some of the sources are hidden.

    logit P(died) = -1.6 + 1.2 table + 1.2 labs + 1.2 note + 1.2 film + 1.2 labs film

Each score has mean 0 and deviation 1, is independent of the others and stands in the archive without noise (up to rounding):
whoever knows how the archive was written can compute it from its source, so no best number here hangs on how well that is done.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from meddx.synth.multimodal_note import SCORES as NOTE_SCORES
from meddx.synth.truth import Floats

SOURCES = ("table", "labs", "note", "film")  # the columns of every array of scores
OPTIONAL = SOURCES[1:]
INTERCEPT, WEIGHTS, INTERACTION = -1.6, np.full(4, 1.2), 1.2
NODES = 21  # of Gauss and Hermite's rule: the third digit behind the point of a probability stands with 11


def chances(scores: Floats) -> Floats:
    """The true P(died) [n] of scores [n, 4], nothing hidden."""
    return np.asarray(expit(INTERCEPT + scores @ WEIGHTS + INTERACTION * scores[:, 1] * scores[:, 3]), np.float64)


def chances_seen(scores: Floats, seen: NDArray[np.bool_]) -> Floats:
    """P(died | the scores that are seen) [n]; `seen` is bool [n, 4], the table's column all true.

    The mean of `chances` over what the hidden scores may be, which does not hang on the others: labs and film are standard normal
    (Gauss-Hermite quadrature; Abramowitz and Stegun 25.4.46), the note has its own few values.
    """
    found = np.zeros(len(scores))
    for pattern in np.unique(seen, axis=0):
        rows = (seen == pattern).all(axis=1)
        places = np.flatnonzero(~pattern)
        filled = scores[rows].copy()
        for point in product(*(_points(SOURCES[place]) for place in places)):
            weight = 1.0
            for place, (value, share) in zip(places, point, strict=True):
                filled[:, place] = value
                weight *= share
            found[rows] += weight * chances(filled)
    return found


def _points(source: str) -> list[tuple[float, float]]:
    """(score, its probability) of a source; for a normal one the points and weights of the quadrature."""
    if source == "note":
        values, shares = NOTE_SCORES
    elif source in OPTIONAL:
        values, shares = np.polynomial.hermite_e.hermegauss(NODES)
        shares = shares / shares.sum()
    else:
        raise ValueError(f"{source} is never hidden")
    return list(zip(values.tolist(), shares.tolist(), strict=True))

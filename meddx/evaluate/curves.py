"""Labels and probabilities in, the points of three curves out: ROC, precision-recall, calibration with histogram.  Plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.calibration import bins
from meddx.evaluate.ranked import Cumulative, Ranking
from meddx.evaluate.types import Floats

MOST_POINTS = 300
HISTOGRAM_BINS = 20


def curves(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, Any]:
    """The three curves of one model on one yes-or-no question; at most 300 points each, and no case is recognisable by its id."""
    truth, said = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    ranking = Ranking.of(said)
    at = Cumulative.of(ranking, truth, said, np.ones((1, len(truth))))
    hits, everyone = at.positive[0], at.everyone[0]
    false = everyone - hits
    found: dict[str, Any] = {"calibration": bins(truth, said), "histogram": _histogram(truth, said), "rate": float(truth.mean())}
    if hits[-1] > 0 and false[-1] > 0:
        sensitivity, false_rate = np.append(0.0, hits / hits[-1]), np.append(0.0, false / false[-1])
        found["roc"] = _thin(false_rate, sensitivity)
        precision = hits / everyone  # drawn from recall 0, at the precision of the highest score
        found["pr"] = _thin(np.append(0.0, hits / hits[-1]), np.append(precision[0], precision))
    return found


def operating_point(labels: ArrayLike, decisions: ArrayLike) -> dict[str, float] | None:
    """Where the stored threshold lies on the curves; None where it is not on both."""
    truth, decided = np.asarray(labels, dtype=bool), np.asarray(decisions, dtype=bool)
    if truth.all() or not truth.any() or not decided.any():
        return None
    sensitivity, false_rate = float(decided[truth].mean()), float(decided[~truth].mean())
    return {"sensitivity": sensitivity, "false_positive_rate": false_rate, "ppv": float(truth[decided].mean())}


def _histogram(truth: Floats, said: Floats) -> dict[str, list[int]]:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return {name: np.histogram(said[truth == value], edges)[0].tolist() for name, value in (("with", 1), ("without", 0))}


def _thin(across: Floats, up: Floats) -> dict[str, list[float]]:
    """At most MOST_POINTS points, spread evenly along the curve's own length, first and last kept."""
    if len(across) > MOST_POINTS:
        length = np.append(0.0, np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up))))
        chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS)))
        across, up = across[chosen], up[chosen]
    return {"x": np.round(across, 5).tolist(), "y": np.round(up, 5).tolist()}

"""Scores sorted once, and then any number of weightings to AUROC, average precision and calibration error.

A resample is a weight for each case (how often it was drawn), so that a bootstrap never sorts again.  Ties count as ties:
equal scores form one group, whatever the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meddx.evaluate.types import Floats, Ints

BINS = 10


@dataclass(frozen=True)
class Ranking:
    """The order of n scores from high to low.

    order  [n] row numbers, highest score first
    ends   [g] position in `order` of the last row of each group of equal scores
    """

    order: Ints
    ends: Ints

    @classmethod
    def of(cls, scores: Floats) -> Ranking:
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
        return cls(order.astype(np.int64), ends.astype(np.int64))


@dataclass(frozen=True)
class Cumulative:
    """Sums over the cases at or above each distinct score, for b weightings, each [b, g]: the weight of all cases, the weight of
    those with the outcome, and the sum of the probabilities."""

    everyone: Floats
    positive: Floats
    said: Floats

    @classmethod
    def of(cls, ranking: Ranking, labels: Floats, probabilities: Floats, weights: Floats) -> Cumulative:
        ranked = np.take(weights, ranking.order, axis=1)
        sums = (ranked, ranked * labels[ranking.order], ranked * probabilities[ranking.order])
        return cls(*(_at_ends(np.cumsum(one, axis=1), ranking.ends) for one in sums))


def auroc(cumulative: Cumulative) -> Floats:
    """[b]: area under the ROC curve by trapezoids, which counts a tie as one half; NaN with one outcome only."""
    hits, false = cumulative.positive, cumulative.everyone - cumulative.positive
    area = np.einsum("bg,bg->b", _steps(false), hits) - 0.5 * np.einsum("bg,bg->b", _steps(false), _steps(hits))
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = area / (hits[:, -1] * false[:, -1])
    return result


def average_precision(cumulative: Cumulative) -> Floats:
    """[b]: sum of precision x gain in recall over the distinct scores (AUPRC without interpolation); NaN without the outcome."""
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(cumulative.everyone > 0, cumulative.positive / cumulative.everyone, 0.0)
        result: Floats = np.einsum("bg,bg->b", _steps(cumulative.positive), precision) / cumulative.positive[:, -1]
    return result


def calibration_error(cumulative: Cumulative, bins: int = BINS) -> Floats:
    """[b]: expected calibration error over `bins` bins of equal mass.

    A group of equal probabilities goes whole into the bin that holds its middle; sum over bins of |sum of weight x
    (probability - label)| / total weight.  The estimate is biased upwards in small samples (Roelofs 2022).
    """
    gaps = cumulative.said - cumulative.positive
    middle = cumulative.everyone - 0.5 * _steps(cumulative.everyone)
    result = np.full(len(gaps), np.nan)
    for row, (mass, gap, total) in enumerate(zip(middle, gaps, cumulative.everyone[:, -1], strict=True)):
        if total > 0:
            edges = np.searchsorted(mass, total * np.arange(1, bins) / bins, side="left")
            at_edges = np.concatenate([[0.0], np.where(edges > 0, gap[edges - 1], 0.0), gap[-1:]])
            result[row] = np.abs(np.diff(at_edges)).sum() / total
    return result


def _at_ends(cumulative: Floats, ends: Ints) -> Floats:
    return cumulative if len(ends) == cumulative.shape[1] else cumulative[:, ends]


def _steps(cumulative: Floats) -> Floats:
    result: Floats = np.diff(cumulative, axis=1, prepend=0.0)
    return result

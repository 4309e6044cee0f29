"""A score that stands in the archive in, its rank against the model out, on the cases that have both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from meddx.evaluate.bootstrap import draw, too_few
from meddx.evaluate.frame import Frame
from meddx.evaluate.metrics import BinaryNumbers, Numbers, one_weighting
from meddx.evaluate.options import ComparisonOptions
from meddx.evaluate.types import Bools, Floats, Ints, ModelScores
from meddx.evaluate.verdict import difference, estimate, number

RANK_METRICS = ("auroc", "auprc")


class RankNumbers:
    """AUROC and AUPRC of any score [m], high speaks for the outcome; it need not be a probability."""

    def __init__(self, labels: Floats, scores: Floats) -> None:
        # Ranks from 0 to 1 keep the order and the ties, and whatever the scale was, stay numbers that can be summed.
        _, ranks = np.unique(scores, return_inverse=True)
        self._numbers = BinaryNumbers(labels, ranks / max(1, ranks.max()))

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        found = self._numbers(weights)
        return {metric: found[metric] for metric in RANK_METRICS}

    def why_undefined(self, metric: str) -> str:
        return self._numbers.why_undefined(metric)


def prior_comparisons(models: Mapping[str, ModelScores], found: Frame, model: str, options: ComparisonOptions) -> list[dict[str, Any]]:
    """One entry for each prior score; binary only.  All of them are secondary."""
    return [_against(name, scores, models[model], found, model, options) for name, scores in models.items() if scores.kind == "prior"]


def _against(name: str, prior: ModelScores, scores: ModelScores, found: Frame, model: str, options: ComparisonOptions) -> dict[str, Any]:
    present = prior.scored[found.rows]
    labels = np.asarray(found.values, dtype=np.float64)
    entry: dict[str, Any] = {"name": name, "model": model, "higher_means": prior.higher_means, "cases": int(present.sum())}
    entry["left_out"] = _left_out(labels, present)
    entry["rate"] = float(labels[present].mean()) if present.any() else None
    entry["numbers"] = []
    if not present.any():
        return entry
    sign = 1.0 if prior.higher_means == "positive" else -1.0
    said = sign * np.asarray(prior.probabilities, dtype=np.float64).reshape(-1)[found.rows][present]
    own = np.asarray(scores.probabilities, dtype=np.float64).reshape(-1)[found.rows][present]
    pair: dict[str, Numbers] = {"prior": RankNumbers(labels[present], said), "model": RankNumbers(labels[present], own)}
    entry["numbers"] = _numbers(pair, labels[present], _renumbered(found.patients[present]), options)
    return entry


def _numbers(pair: Mapping[str, Numbers], labels: Floats, patients: Ints, options: ComparisonOptions) -> list[dict[str, Any]]:
    why = too_few(patients, (labels == 1)[:, None], np.ones((len(labels), 1), bool), ("",))[0]
    draws = {} if why else draw(pair, patients, options.bootstrap, options.seed)
    points = {one: {m: float(v[0]) for m, v in numbers(one_weighting(None, len(labels))).items()} for one, numbers in pair.items()}
    rows = []
    for metric in RANK_METRICS:
        each = {one: (points[one][metric], draws[one][metric] if draws else None) for one in pair}
        rows.append(
            {
                "metric": metric,
                **{one: number(metric, *each[one], why, pair[one].why_undefined(metric)) for one in pair},
                "difference": estimate(*difference(metric, each["model"], each["prior"], why)),
            }
        )
    return rows


def _left_out(labels: Floats, present: Bools) -> dict[str, Any]:
    absent = ~present
    return {"cases": int(absent.sum()), "share": float(absent.mean()), "rate": float(labels[absent].mean()) if absent.any() else None}


def _renumbered(patients: Ints) -> Ints:
    return np.unique(patients, return_inverse=True)[1].astype(np.int64)

"""Labels, probabilities and weights in, numbers out: the metrics of a yes-or-no answer.

Pure and vectorised.  `weights` are multiplicities (how often a case was drawn in a resample).  What is undefined is NaN,
and `why_undefined` says why; nothing crashes and no input is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from meddx.evaluate.ranked import Cumulative, Ranking, auroc, average_precision, calibration_error
from meddx.evaluate.types import Floats

METRICS = (
    "auroc", "auprc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "f1", "min_se_ppv", "brier", "log_loss", "ece",
)  # fmt: skip
LOWER_IS_BETTER = frozenset({"brier", "log_loss", "ece", "mae", "rmse"})
NEEDS_DECISIONS = frozenset(
    {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "f1", "min_se_ppv", "macro_f1", "kappa", "mae"}
)
MACRO = ("auroc", "auprc", "balanced_accuracy", "sensitivity", "specificity", "ppv")  # of many classes: averages over them
NAMES: Mapping[str, str] = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "ECE",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "min_se_ppv": "smaller of sensitivity and PPV",
    "kappa": "quadratic kappa",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "span_f1": "exact-span F1",
    "span_precision": "exact-span precision",
    "span_recall": "exact-span recall",
}
EPSILON = float(np.finfo(np.float64).eps)


class Numbers(Protocol):
    """The metrics of one model on n cases, for b weightings at once; made once, so that nothing is sorted twice."""

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """`weights` [b, n] to {metric: [b]}."""
        ...

    def why_undefined(self, metric: str) -> str:
        """The reason, in words, why `metric` is NaN with every weight 1."""
        ...


class BinaryNumbers:
    """`labels` [n] of 0 and 1, `probabilities` [n] of the outcome, `decisions` [n] of 0 and 1 at the stored threshold, or None.

    min_se_ppv: min(sensitivity, PPV), event 1 of the PhysioNet challenge 2012.
    Beside METRICS: `rate` (share with the outcome) and `in_the_large` (mean probability - rate).
    """

    def __init__(self, labels: ArrayLike, probabilities: ArrayLike, decisions: ArrayLike | None = None) -> None:
        self.labels = np.asarray(labels, dtype=np.float64)
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.decisions = None if decisions is None else np.asarray(decisions, dtype=np.float64)
        self.ranking = Ranking.of(self.probabilities)
        decided = np.full_like(self.labels, np.nan) if self.decisions is None else self.decisions
        sure = np.clip(self.probabilities, EPSILON, 1 - EPSILON)
        loss = -np.where(self.labels == 1, np.log(sure), np.log1p(-sure))
        self._columns = np.stack(
            [
                np.ones_like(self.labels),
                self.labels,
                decided,
                decided * self.labels,
                self.probabilities,
                (self.probabilities - self.labels) ** 2,
                loss,
            ],
            axis=1,
        )

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        return self._all(weights, calibrated=True)

    def rates(self, weights: Floats) -> dict[str, Floats]:
        """The same without `ece`, which costs most and which an average over classes does not use."""
        return self._all(weights, calibrated=False)

    def _all(self, weights: Floats, calibrated: bool) -> dict[str, Floats]:
        total, with_it, decided, hits, said, squares, loss = (weights @ self._columns).T
        cumulative = Cumulative.of(self.ranking, self.labels, self.probabilities, weights)
        without = total - with_it
        with np.errstate(invalid="ignore", divide="ignore"):
            sensitivity, specificity, ppv = hits / with_it, 1 - (decided - hits) / without, hits / decided
            return {
                "auroc": auroc(cumulative),
                "auprc": average_precision(cumulative),
                "accuracy": (without - decided + 2 * hits) / total,
                "balanced_accuracy": (sensitivity + specificity) / 2,
                "sensitivity": sensitivity,
                "specificity": specificity,
                "ppv": ppv,
                # Nobody decided to be positive: sensitivity is 0, and the smaller of the two is 0 whatever PPV might be.
                "min_se_ppv": np.where(decided == 0, sensitivity, np.minimum(sensitivity, ppv)),
                "brier": squares / total,
                "log_loss": loss / total,
                **({"ece": calibration_error(cumulative)} if calibrated else {}),
                "rate": with_it / total,
                "in_the_large": (said - with_it) / total,
                "f1": 2 * hits / (decided + with_it),
            }

    def why_undefined(self, metric: str) -> str:
        if metric in NEEDS_DECISIONS and self.decisions is None:
            return "it makes no decisions"
        if metric == "ppv":
            return "no case was decided to be positive"
        if len(self.labels) == 0:
            return "there are no cases"
        return "every case has the outcome" if self.labels.all() else "no case has the outcome"


def binary_numbers(
    labels: ArrayLike, probabilities: ArrayLike, decisions: ArrayLike | None = None, weights: ArrayLike | None = None
) -> dict[str, float]:
    """All numbers of BinaryNumbers for one weighting [n] (default: every case once), as floats; NaN where undefined."""
    numbers = BinaryNumbers(labels, probabilities, decisions)
    return {name: float(value[0]) for name, value in numbers(one_weighting(weights, len(numbers.labels))).items()}


def one_weighting(weights: ArrayLike | None, cases: int) -> Floats:
    """[1, n]: the given multiplicities, or every case once."""
    return np.ones((1, cases)) if weights is None else np.asarray(weights, dtype=np.float64)[None, :]


def oriented(metric: str, difference: Any) -> Any:
    """A difference (model - other) turned so that positive means better."""
    return -difference if metric in LOWER_IS_BETTER else difference

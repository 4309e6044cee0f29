"""Logits in; cross-entropies and probabilities of two classes, of many classes, or of many yes-or-no labels out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, softmax

from meddx.models.heads.base import Head, balanced
from meddx.models.heads.measures import best_f1, macro_f1, mean_auroc, mean_defined

if TYPE_CHECKING:
    import torch


class _YesNo(Head):
    """What binary and multilabel share: every label is a number 0 or 1 with a logit of its own."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(expit(np.asarray(logits, np.float64)))

    def offset(self, class_weights: np.ndarray) -> np.ndarray:
        no, yes = np.atleast_2d(np.asarray(class_weights, np.float64)).T
        return np.asarray(-np.log(yes / no))

    def _safe(self, labels: torch.Tensor, known: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        import torch

        labels = labels.to(dtype)
        return torch.where(known, labels, torch.zeros_like(labels))

    def _each(self, logits: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
        import torch

        own = logits[:, 0] if safe.ndim == 1 else logits
        return torch.nn.functional.binary_cross_entropy_with_logits(own, safe, reduction="none")

    def _weight_of(self, safe: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
        return class_weights[..., 0] * (1 - safe) + class_weights[..., 1] * safe

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """`auroc` and `f1`: means over the labels that have both sides; f1 at the threshold that is best here."""
        values, known = values.reshape(len(values), -1), known.reshape(len(known), -1)
        columns = [(logits[known[:, k], k], values[known[:, k], k] > 0.5) for k in range(values.shape[1])]
        # Ranks of probabilities, not of logits: those that expit cannot tell apart are ties in what is published.
        return {
            "auroc": mean_auroc([(expit(score), positive) for score, positive in columns]),
            "f1": mean_defined([best_f1(score, positive) for score, positive in columns]),
        }


class Binary(_YesNo):
    """One yes-or-no question; the logit is that of the second class."""

    @property
    def n_outputs(self) -> int:
        return 1

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return balanced(values[known], 2)

    def _possible(self, classes: int) -> bool:
        return classes == 2


class Multilabel(_YesNo):
    """k yes-or-no questions about a case, each of which may be unknown."""

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.stack([balanced(values[known[:, place], place], 2) for place in range(len(self.classes))])

    def _possible(self, classes: int) -> bool:
        return classes >= 1


class Multiclass(Head):
    """One of k classes without an order."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(np.asarray(logits, np.float64), axis=1))

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        return balanced(values[known], len(self.classes))

    def offset(self, class_weights: np.ndarray) -> np.ndarray:
        return np.asarray(-np.log(np.asarray(class_weights, np.float64)))

    def _safe(self, labels: torch.Tensor, known: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        import torch

        return torch.where(known, labels.long(), torch.zeros_like(labels.long()))

    def _each(self, logits: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.cross_entropy(logits, safe, reduction="none")

    def _weight_of(self, safe: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
        return class_weights[safe]

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """`auroc`: one against the rest, mean over the classes that have both sides; `f1`: macro, of the likeliest class."""
        chances, truth = self.probabilities(logits)[known], values[known]
        return {
            "auroc": mean_auroc([(chances[:, k], truth == k) for k in range(len(self.classes))]),
            "f1": macro_f1(truth, logits[known].argmax(1)),
        }

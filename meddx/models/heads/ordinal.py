"""Ordered logits in; the chance of each of k ordered classes out (proportional odds).

logits [n, k-1]: column j is the log-odds of a class above j, falling from left to right (McCullagh, 1980, "Regression models
for ordinal data").  `Thresholds` makes them ordered by construction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from meddx.errors import RecipeError
from meddx.models.heads.base import Head
from meddx.models.heads.measures import macro_f1, quadratic_kappa

if TYPE_CHECKING:
    import torch
    from torch import nn

_LEAST_GAP = 1e-6  # of two neighbouring logits: the class between them keeps a chance, and the loss a slope


class Ordinal(Head):
    """One of k classes in their order."""

    @property
    def n_outputs(self) -> int:
        return len(self.classes) - 1

    def answer(self, features: int) -> nn.Module:
        from meddx.models.heads.thresholds import Thresholds

        return Thresholds(features, len(self.classes))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """P(j) = P(above j-1) P(not above j) (1 - exp(logit j - logit j-1)): no difference of two numbers near 1.

        Logits that are out of order (of models fitted apart) are put in order first, by the running minimum.
        """
        ordered = np.minimum.accumulate(np.asarray(logits, np.float64), axis=1)
        chances = np.empty((len(ordered), len(self.classes)))
        chances[:, 0], chances[:, -1] = expit(-ordered[:, 0]), expit(ordered[:, -1])
        upper, lower = ordered[:, :-1], ordered[:, 1:]
        chances[:, 1:-1] = expit(upper) * expit(-lower) * -np.expm1(lower - upper)
        return chances

    def _safe(self, labels: torch.Tensor, known: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        import torch

        return torch.where(known, labels.long(), torch.zeros_like(labels.long()))

    def _each(self, logits: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
        """-log P(class) = softplus(-a) + softplus(b) - log(1 - exp(b - a)), a and b the logits on both sides of the class."""
        import torch

        softplus = torch.nn.functional.softplus
        last = self.n_outputs
        # The first class has no left side, the last no right side: the place is read all the same, and its part left out.
        above = logits.gather(1, (safe - 1).clamp(min=0)[:, None])[:, 0]
        below = logits.gather(1, safe.clamp(max=last - 1)[:, None])[:, 0]
        inner = (safe > 0) & (safe < last)
        gap = torch.where(inner, above - below, torch.ones_like(above)).clamp_min(_LEAST_GAP)
        nothing = torch.zeros_like(above)
        left = torch.where(safe > 0, softplus(-above), nothing)
        right = torch.where(safe < last, softplus(below), nothing)
        return left + right - torch.where(inner, torch.log(-torch.expm1(-gap)), nothing)

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        raise RecipeError("an ordinal target has no class weights: no offset would undo them", "training.imbalance", "use none or focal")

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """Of the median class: `kappa` (quadratic), `f1` (macro), `mae` in classes."""
        truth, decided = values[known], (np.minimum.accumulate(logits[known], axis=1) > 0).sum(1)
        return {
            "kappa": quadratic_kappa(truth, decided),
            "f1": macro_f1(truth, decided),
            "mae": float(np.abs(truth - decided).mean()),
        }

"""One number a case in; squared error in train's deviations, and the value in its own unit, out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meddx.errors import RecipeError
from meddx.models.heads.base import Head

if TYPE_CHECKING:
    import torch


class Regression(Head):
    """A value with a unit.  The logit is in deviations from train's mean: value = mean + std * logit."""

    mean: float
    std: float

    def __init__(self, kind: str, classes: Sequence[str] = (), mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(kind, classes)
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise RecipeError(
                "the target's values need a finite mean and a deviation above 0", "target", "are all values of train the same?"
            )
        self.__dict__.update(mean=float(mean), std=float(std))

    @property
    def n_outputs(self) -> int:
        return 1

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(logits, np.float64) * self.std + self.mean

    def _possible(self, classes: int) -> bool:
        return classes == 0

    def _safe(self, labels: torch.Tensor, known: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Standardised in float64: a large mean would eat float32's digits."""
        import torch

        scaled = ((labels.double() - self.mean) / self.std).to(dtype)
        return torch.where(known, scaled, torch.zeros_like(scaled))

    def _each(self, logits: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
        return (logits[:, 0] - safe).square() / 2

    def _focus(self, each: torch.Tensor, focal: float) -> torch.Tensor:
        raise RecipeError("focal loss needs classes, and the target is a value", "training.imbalance", "use none")

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """`mae` in the target's unit."""
        return {"mae": float(np.abs(self.probabilities(logits)[known, 0] - values[known].astype(np.float64)).mean())}

"""Logits in; a loss that can be summed over workers, probabilities and the numbers that training watches out.

Shapes by kind (k classes or labels):   logits    labels          known     class_weights
    binary                              [n, 1]    float [n] 0/1   bool [n]     [2] (negative, positive)
    multiclass                          [n, k]    int64 [n]       bool [n]     [k]
    multilabel                          [n, k]    float [n, k]    bool [n, k]  [k, 2] (no, yes)
    ordinal                             [n, k-1]  int64 [n]       bool [n]     none
    regression                          [n, 1]    float [n]       bool [n]     none
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from meddx.errors import RecipeError

if TYPE_CHECKING:
    import torch
    from torch import nn

_NEAR_ZERO = 1e-12  # a power below 1 of an exact 0 has no slope


class Head:
    """What is asked: `classes` are the two, or k, class names, or the k label names; none for regression.

    `Head(kind, classes)` makes the head of that kind; a frozen value: equal heads are equal.
    """

    kind: str
    classes: tuple[str, ...]

    def __new__(cls, kind: str = "", *rest: Any, **named: Any) -> Head:
        """The kind's own class.  (Unpickling calls the subclass without arguments.)"""
        from meddx.models.heads import HEADS

        if cls is Head:
            if kind not in HEADS:
                raise RecipeError(f"{kind!r} is not a kind of target", "target.kind", f"allowed: {', '.join(HEADS)}")
            return object.__new__(HEADS[kind])
        return object.__new__(cls)

    def __init__(self, kind: str, classes: Sequence[str]) -> None:
        """RecipeError where the kind cannot have so many classes."""
        self.__dict__.update(kind=kind, classes=tuple(classes))
        if not self._possible(len(self.classes)):
            raise RecipeError(f"a {kind} target cannot have {len(classes)} classes", "target")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a head does not change: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        return f"Head({', '.join(map(repr, self.__dict__.values()))})"

    @property
    def n_outputs(self) -> int:
        """Columns of the logits."""
        return len(self.classes)

    def answer(self, features: int) -> nn.Module:
        """The last layer: features [n, features] in, logits out."""
        from torch import nn

        return nn.Linear(features, self.n_outputs)

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        known: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        focal: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(weighted sum of the known labels' losses, sum of their weights: without class weights their number), two scalars.

        In float32, or float64 for float64 logits.  Divide after adding up over shards, so that the split of a batch
        changes nothing.  Unknown labels count for nothing, whatever stands in their place (NaN too).
        `focal`: each loss -log p is multiplied by (1 - p) to this power (Lin et al., 2017, "Focal loss for dense object
        detection"); the denominator stays the number of labels.
        """
        import torch

        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        known = known.to(torch.bool)
        safe = self._safe(labels, known, logits.dtype)
        each = self._each(logits, safe)
        if focal:
            each = each * self._focus(each, focal)
        weights = self._weights(safe, class_weights, each.dtype) * known
        return (each * weights).sum(), weights.sum()

    def denominator(self, labels: torch.Tensor, known: torch.Tensor, class_weights: torch.Tensor | None = None) -> torch.Tensor:
        """The second number of `loss`, which needs no logits: a float64 scalar."""
        import torch

        known = known.to(torch.bool)
        return (self._weights(self._safe(labels, known, torch.float64), class_weights, torch.float64) * known).sum()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64: binary [n, 1] (of the positive class), multiclass and ordinal [n, k] rows that add up to 1, multilabel [n, k],
        regression [n, 1] the value in its own unit."""
        raise NotImplementedError

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Class weights n / (classes * count) from train's known labels, in the shape of the table above; a class never seen has 1.

        RecipeError where the kind has no class weights.
        """
        raise RecipeError(f"a target of kind {self.kind} has no class weights", "training.imbalance", "use none")

    def offset(self, class_weights: np.ndarray) -> np.ndarray:
        """float64 [n_outputs] to add to logits that were trained with these weights, or with classes sampled at these rates.

        The weights w multiply the odds that the network learns; minus their logarithm brings the logits back to unweighted
        cases (Elkan, 2001, "The foundations of cost-sensitive learning", theorem 2; King and Zeng, 2001, prior correction).
        """
        raise RecipeError(f"a target of kind {self.kind} has no class weights", "training.imbalance", "use none")

    def monitor(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """Unweighted numbers of the known labels: `log_loss` (the mean loss) and what the kind has of auroc, f1, kappa, mae.

        NaN where the labels have one side only.  At least one label must be known.
        """
        import torch

        total, count = self.loss(
            torch.from_numpy(np.array(logits, np.float64)), torch.from_numpy(values.copy()), torch.from_numpy(known.copy())
        )
        return {"log_loss": float(total / count), **self._measures(np.asarray(logits, np.float64), values, known)}

    def _possible(self, classes: int) -> bool:
        """Whether the kind can have so many classes."""
        return classes >= 2

    def _safe(self, labels: torch.Tensor, known: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The labels as the loss wants them, 0 where unknown."""
        raise NotImplementedError

    def _each(self, logits: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
        """The loss of every label, shape of the labels."""
        raise NotImplementedError

    def _weights(self, safe: torch.Tensor, class_weights: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
        """The weight of every label, shape of the labels."""
        import torch

        if class_weights is None:
            return torch.ones(safe.shape, dtype=dtype, device=safe.device)
        return self._weight_of(safe, class_weights.to(safe.device, dtype))

    def _weight_of(self, safe: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
        raise RecipeError(f"a target of kind {self.kind} has no class weights", "training.imbalance", "use none")

    def _focus(self, each: torch.Tensor, focal: float) -> torch.Tensor:
        """(1 - p)^focal of the true class: p = exp(-loss)."""
        import torch

        return torch.pow((-torch.expm1(-each)).clamp_min(_NEAR_ZERO), focal)

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """What `monitor` says beside the loss."""
        raise NotImplementedError


def balanced(values: np.ndarray, classes: int) -> np.ndarray:
    """n / (classes * count), float64 [classes], of class numbers [n]; 1 for a class that is not there."""
    counts = np.bincount(values.astype(np.int64), minlength=classes).astype(np.float64)
    return np.where(counts > 0, counts.sum() / (classes * np.maximum(counts, 1)), 1.0)

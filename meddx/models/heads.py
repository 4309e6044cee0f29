"""Logits in; a loss that can be summed over workers, and probabilities, out.

Shapes by kind (k classes or labels):   logits    labels          known     class_weights
    binary                              [n, 1]    float [n] 0/1   bool [n]     [2] (negative, positive)
    multiclass                          [n, k]    int64 [n]       bool [n]     [k]
    multilabel                          [n, k]    float [n, k]    bool [n, k]  [k, 2] (no, yes)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, softmax

from meddx.errors import RecipeError

if TYPE_CHECKING:
    import torch

KINDS = ("binary", "multiclass", "multilabel")


@dataclass(frozen=True)
class Head:
    """What is asked: `classes` are the two, or k, class names, or the k label names."""

    kind: str
    classes: tuple[str, ...]

    def __init__(self, kind: str, classes: Sequence[str]) -> None:
        if kind not in KINDS:
            raise RecipeError(f"{kind!r} is not a kind of target", "target.kind", f"allowed: {', '.join(KINDS)}")
        if len(classes) < (1 if kind == "multilabel" else 2) or (kind == "binary" and len(classes) != 2):
            raise RecipeError(f"a {kind} target cannot have {len(classes)} classes", "target")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "classes", tuple(classes))

    @property
    def n_outputs(self) -> int:
        """Columns of the logits."""
        return 1 if self.kind == "binary" else len(self.classes)

    def loss(
        self, logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(weighted sum of cross-entropies over known labels, sum of their weights), two scalars.

        In float32, or float64 for float64 logits.  Divide after adding up over shards, so that the split of a batch
        changes nothing.  Unknown labels count for nothing, whatever stands in their place (NaN too).
        """
        import torch

        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        known = known.to(torch.bool)
        if self.kind == "multiclass":
            safe = torch.where(known, labels.long(), torch.zeros_like(labels.long()))
            each = torch.nn.functional.cross_entropy(logits, safe, reduction="none")
            weights = torch.ones_like(each) if class_weights is None else class_weights.to(each)[safe]
        else:
            logits = logits[:, 0] if self.kind == "binary" else logits
            safe = torch.where(known, labels.to(logits), torch.zeros_like(logits))
            each = torch.nn.functional.binary_cross_entropy_with_logits(logits, safe, reduction="none")
            weights = torch.ones_like(each)
            if class_weights is not None:
                no_yes = class_weights.to(each)
                weights = no_yes[..., 0] * (1 - safe) + no_yes[..., 1] * safe
        weights = weights * known
        return (each * weights).sum(), weights.sum()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [n, 1] (binary: of the positive class), [n, k] rows that add up to 1 (multiclass), or [n, k] a label (multilabel)."""
        logits = np.asarray(logits, np.float64)
        return np.asarray(softmax(logits, axis=1) if self.kind == "multiclass" else expit(logits))

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Class weights n / (classes * count) from train's known labels, in the shape of the table above; a class never seen has 1."""
        if self.kind == "multilabel":
            columns = [_balanced(values[known[:, place], place], 2) for place in range(len(self.classes))]
            return np.stack(columns)
        return _balanced(values[known], len(self.classes))


def _balanced(values: np.ndarray, classes: int) -> np.ndarray:
    counts = np.bincount(values.astype(np.int64), minlength=classes).astype(np.float64)
    return np.where(counts > 0, counts.sum() / (classes * np.maximum(counts, 1)), 1.0)

"""Several targets at once: their heads' logits side by side in, one loss over all known labels out.

Only training sees them together.  Afterwards each target has a model of its own, with the shared layers and its own answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from meddx.errors import RecipeError
from meddx.models.heads.base import Head

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ANSWER = "answer."


class Several(Head):
    """The heads of several targets; labels float64 and known bool [n, columns], a multilabel target has a column a label."""

    of: dict[str, Head]

    def __init__(self, of: Mapping[str, Head]) -> None:
        self.__dict__.update(kind="several", classes=(), of=dict(of))

    def __hash__(self) -> int:
        return hash((self.kind, *self.of.items()))

    @property
    def n_outputs(self) -> int:
        return sum(one.n_outputs for one in self.of.values())

    def answer(self, features: int) -> nn.Module:
        from meddx.models.heads.answers import Answers

        return Answers([one.answer(features) for one in self.of.values()])

    def places(self) -> Iterator[tuple[str, Head, slice, slice | int]]:
        """(name, head, its columns of the logits, its column or columns of the labels) of each target."""
        logit = label = 0
        for name, one in self.of.items():
            width = len(one.classes) if one.kind == "multilabel" else 1
            yield name, one, slice(logit, logit + one.n_outputs), slice(label, label + width) if one.kind == "multilabel" else label
            logit, label = logit + one.n_outputs, label + width

    def loss(
        self, logits: Tensor, labels: Tensor, known: Tensor, class_weights: Tensor | None = None, focal: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The targets' sums added up, and their denominators: every known label weighs the same."""
        if class_weights is not None or focal:
            raise RecipeError("several targets have no weights in common", "training.imbalance", "use none")
        found = [one.loss(logits[:, columns], labels[:, own], known[:, own]) for _, one, columns, own in self.places()]
        return sum_of(first for first, _ in found), sum_of(second for _, second in found)

    def denominator(self, labels: Tensor, known: Tensor, class_weights: Tensor | None = None) -> Tensor:
        return sum_of(one.denominator(labels[:, own], known[:, own]) for _, one, _, own in self.places())

    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        raise RecipeError("several targets have no weights in common", "training.imbalance", "use none")

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """None in common: the log loss over all known labels picks the epoch."""
        return {}


def sum_of(numbers: Iterator[torch.Tensor]) -> torch.Tensor:
    total = next(numbers)
    for one in numbers:
        total = total + one
    return total


def weights_of(head: Several, name: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the model that answers one target alone: the shared layers, and its own answer's."""
    own = f"{ANSWER}of.{list(head.of).index(name)}."
    shared = {key: value for key, value in weights.items() if not key.startswith(ANSWER)}
    return shared | {ANSWER + key.removeprefix(own): value for key, value in weights.items() if key.startswith(own)}

"""A text's words in, entities out: the head whose answer is a tag a word, bound together by a conditional random field.

k labels, T = 2k + 1 BIO tags (`bio`), L words at most.  logits [n, L T + T T + 2 T] hold emissions, transitions, start and end scores, so
that all that follows is a function of the logits alone.  A place without a word has all its emissions at -1e9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meddx.errors import RecipeError
from meddx.models.heads.base import Head
from meddx.models.heads.bio import entities, f1
from meddx.models.heads.decode import chains, posteriors, viterbi

if TYPE_CHECKING:
    import torch
    from torch import nn

Span = tuple[int, int, int, float]  # first word, last word (inclusive), label, score


class Tags(Head):
    """Entities of k labels.  Labels are BIO tags int64 [n, L], known bool [n, L]: the words of labelled texts."""

    tokens: int

    def __init__(self, kind: str, classes: Sequence[str], tokens: int = 0) -> None:
        super().__init__(kind, classes)
        if tokens < 1:
            raise RecipeError("a tags target needs the number of words of its longest text", "target", "give it an input of kind tokens")
        self.__dict__.update(tokens=int(tokens))

    @property
    def n_tags(self) -> int:
        """O, and a begin and an inside a label."""
        return 2 * len(self.classes) + 1

    @property
    def n_outputs(self) -> int:
        return self.tokens * self.n_tags + self.n_tags**2 + 2 * self.n_tags

    def answer(self, features: int) -> nn.Module:
        """The last layer: steps [n, T, features] and mask bool [n, T] in, logits out."""
        from meddx.models.heads.crf import Emissions

        return Emissions(features, self.n_tags, self.tokens)

    def loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        known: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        focal: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of the sentences' -log P, number of known words), two scalars; in float32, or float64 for float64 logits."""
        import torch

        from meddx.models.heads.crf import negative_log_likelihood

        if focal:
            raise RecipeError("focal loss needs one class a case, and the target is tags", "training.imbalance", "use none")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        known = known.to(torch.bool)
        each = negative_log_likelihood(logits, labels.long(), known, self.n_tags)
        return each.sum(), self.denominator(labels, known, class_weights).to(logits.dtype)

    def denominator(self, labels: torch.Tensor, known: torch.Tensor, class_weights: torch.Tensor | None = None) -> torch.Tensor:
        if class_weights is not None:
            raise RecipeError("a target of kind tags has no class weights", "training.imbalance", "use none")
        return known.sum().double()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The logits, float64, as they are: what is made of them is `spans`."""
        return np.asarray(logits, np.float64)

    def spans(self, logits: np.ndarray) -> list[list[Span]]:
        """The entities of each row, from left to right: the likeliest tags by Viterbi, with the exact probability of each entity."""
        found: list[list[Span]] = [[] for _ in range(len(logits))]
        for at, chain in chains(logits, self.tokens, self.n_tags):
            ents = entities(viterbi(chain), chain.length)
            for (row, first, last, label), score in zip(ents.tolist(), posteriors(chain, ents).tolist(), strict=True):
                found[at + row].append((first, last, label, score))
        return found

    def _possible(self, classes: int) -> bool:
        return classes >= 1

    def _measures(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]:
        """`f1`: micro, of entities that are exactly right, over the known words."""
        length = known.sum(1)
        tags = np.zeros(known.shape, np.int64)
        for at, chain in chains(logits, self.tokens, self.n_tags, length):
            found = viterbi(chain)
            tags[at : at + len(found), : found.shape[1]] = found
        return {"f1": f1(entities(tags, length), entities(values, length))}

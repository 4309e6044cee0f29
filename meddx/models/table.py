"""A prepared table in (numbers, missing mask, category codes), features out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError


class TableEncoder(nn.Module):
    """Numbers beside their missing mask beside an embedding a category, then dense layers."""

    def __init__(self, spec: Mapping[str, Any], layers: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(levels, embedding_size(levels)) for levels in spec["categories"]])
        before = 2 * int(spec["numbers"]) + sum(embedding_size(levels) for levels in spec["categories"])
        steps: list[nn.Module] = []
        for width in layers:
            steps += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
            before = width
        self.network = nn.Sequential(*steps)
        self.out_features = before

    def forward(self, numbers: Tensor, missing: Tensor, codes: Tensor) -> Tensor:
        """[n, out_features] of numbers and missing [n, d] and codes int [n, c]."""
        example = next(self.parameters())
        parts = [numbers.to(example.dtype), missing.to(example.dtype)]
        parts += [embedding(codes[:, place].long()) for place, embedding in enumerate(self.embeddings)]
        return cast(Tensor, self.network(torch.cat(parts, dim=1)))


def embedding_size(levels: int) -> int:
    """Half as many dimensions as levels, at most 50."""
    return min(50, (levels + 1) // 2)


def mlp(spec: Mapping[str, Any], *, hidden: int = 128, layers: int = 2, dropout: float = 0.1) -> nn.Module:
    """Dense layers over numbers, missing mask and category embeddings: `hidden` wide, then half as wide each time (never below 8)."""
    if hidden < 1 or layers < 1 or not 0 <= dropout < 1:
        raise RecipeError("mlp: hidden and layers are whole numbers above 0, dropout is below 1", "model.encoders")
    return TableEncoder(spec, [max(min(8, hidden), hidden >> step) for step in range(layers)], float(dropout))


TABLE_ENCODERS = {"mlp": mlp}

"""Features in, the answers of several targets side by side out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Answers(nn.Module):
    """The last layers of several targets on the same features."""

    def __init__(self, of: Sequence[nn.Module]) -> None:
        super().__init__()
        self.of = nn.ModuleList(of)

    def forward(self, features: Tensor) -> Tensor:
        """[n, all logits] of features [n, f]."""
        return torch.cat([one(features) for one in self.of], dim=1)

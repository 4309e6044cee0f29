"""Features in, logits that fall from left to right out: the last layer of an ordinal network."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

_ONE = math.log(math.e - 1)  # softplus of this is 1


class Thresholds(nn.Module):
    """One score a case, and k - 1 thresholds that rise by softplus gaps: logit j = score - threshold j.

    The score's bias is the first threshold, with its sign turned.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        self.gaps = nn.Parameter(torch.full((classes - 2,), _ONE))
        with torch.no_grad():
            self.score.bias.add_((classes - 2) / 2)  # the middle class is the likeliest at first

    def forward(self, features: Tensor) -> Tensor:
        """features [n, f] to logits [n, classes - 1]."""
        below = nn.functional.pad(torch.cumsum(nn.functional.softplus(self.gaps), 0), (1, 0))
        return cast(Tensor, self.score(features) - below)

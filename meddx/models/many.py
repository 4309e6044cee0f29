"""Several pictures a case in, one vector a case out: a picture network on each, folded by mean, max or attention."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from meddx.models.sequence import Pool

FOLDS = ("mean", "max", "attention")


class Many(nn.Module):
    """`encoder` on every picture, then a pool over those that are there; a case without one has zeros."""

    def __init__(self, encoder: nn.Module, out_features: int, fold: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_features = out_features
        self.pool = Pool(fold, out_features)

    def forward(self, pixels: Tensor, items: Tensor) -> Tensor:
        """[n, out_features] of pixels [n, m, c, s, s] and items bool [n, m]."""
        there = items.to(torch.bool)
        flat = pixels.flatten(0, 1)
        if not self.training:  # all of them: the shape of a batch moves the last bits, and a row must score the same beside any other
            return self._fold(self.encoder(flat).unflatten(0, there.shape), there)
        place = there.flatten().nonzero()[:, 0]  # in training those alone: a place without a picture must not enter BatchNorm
        if len(place) == 0:
            return next(self.encoder.parameters()).new_zeros(len(there), self.out_features)
        found = self.encoder(flat[place])
        features = found.new_zeros(len(flat), self.out_features).index_copy(0, place, found)
        return self._fold(features.unflatten(0, there.shape), there)

    def _fold(self, features: Tensor, there: Tensor) -> Tensor:
        return cast(Tensor, self.pool(features, there))

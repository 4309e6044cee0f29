"""Features of several inputs in, one vector a case out; an absent input is a normal case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """Features side by side; where an optional input is absent, a learned vector stands in its place.

    In training each optional input of each case is hidden with probability `drop_inputs`, so that the model learns to do
    without; a case never loses its last input.  Drawn from torch's generator.
    """

    def __init__(self, sizes: Mapping[str, int], optional: frozenset[str], drop_inputs: float = 0.0) -> None:
        super().__init__()
        self.names = tuple(sizes)
        self.optional = tuple(name for name in sizes if name in optional)
        self.drop_inputs = drop_inputs
        self.absent = nn.ParameterList([nn.Parameter(torch.zeros(sizes[name])) for name in self.optional])
        self.out_features = sum(sizes.values())

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """[n, out_features] of features [n, f] an input and present bool [n]; an input without `present` is there."""
        shown = self._shown(features, present)
        parts = []
        for name in self.names:
            part = features[name]
            if name in shown:
                vector = cast(Tensor, self.absent[self.optional.index(name)])
                part = torch.where(shown[name][:, None], part, vector.to(part.dtype))
            parts.append(part)
        return torch.cat(parts, dim=1)

    def _shown(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Optional input to bool [n]: there, and not hidden."""
        if not self.optional:
            return {}
        example = features[self.optional[0]]
        there = torch.stack(
            [
                present[name].to(torch.bool) if name in present else torch.ones(len(example), dtype=torch.bool, device=example.device)
                for name in self.optional
            ]
        )
        if self.training and self.drop_inputs > 0:
            kept = there & (torch.rand(there.shape, device=example.device) >= self.drop_inputs)
            if len(self.optional) == len(self.names):
                kept = torch.where(kept.any(0), kept, there)
            there = kept
        return dict(zip(self.optional, there, strict=True))

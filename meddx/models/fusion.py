"""Features of several inputs in, one vector a case out; an absent input is a normal case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from meddx.models.attention import AttentionBlock
from meddx.models.options import FusionOptions


class Fusion(nn.Module):
    """What is common: in training each optional input of each case is hidden with probability `drop_inputs`, so that the model learns
    to do without; a case never loses its last input.  Drawn from torch's generator.
    """

    out_features: int

    def __init__(self, sizes: Mapping[str, int], optional: frozenset[str], drop_inputs: float = 0.0) -> None:
        super().__init__()
        self.names = tuple(sizes)
        self.optional = tuple(name for name in sizes if name in optional)
        self.drop_inputs = drop_inputs

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

    def _all_shown(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """bool [n, inputs]; an input that is not optional is always there."""
        shown = self._shown(features, present)
        example = features[self.names[0]]
        always = torch.ones(len(example), dtype=torch.bool, device=example.device)
        return torch.stack([shown.get(name, always) for name in self.names], dim=1)


class Concat(Fusion):
    """Features side by side; where an optional input is absent, a learned vector stands in its place."""

    def __init__(self, sizes: Mapping[str, int], optional: frozenset[str], drop_inputs: float = 0.0) -> None:
        super().__init__(sizes, optional, drop_inputs)
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


class _Projected(Fusion):
    """Each input brought to `width` features."""

    def __init__(self, sizes: Mapping[str, int], optional: frozenset[str], drop_inputs: float, width: int) -> None:
        super().__init__(sizes, optional, drop_inputs)
        self.project = nn.ModuleList([nn.Linear(size, width) for size in sizes.values()])
        self.out_features = width

    def _projections(self, features: Mapping[str, Tensor], shown: Tensor) -> Tensor:
        """[n, inputs, width], zeros for what is absent, whatever its features hold."""
        parts = []
        for place, (name, project) in enumerate(zip(self.names, self.project, strict=True)):
            there = shown[:, place, None]
            parts.append(project(features[name].masked_fill(~there, 0.0)).masked_fill(~there, 0.0))
        return torch.stack(parts, dim=1)


class Gated(_Projected):
    """A sum of the inputs, each feature weighted by a gate that all present inputs set (after Arevalo et al. 2017).

    The gates of a feature are a softmax over the present inputs, so an absent one contributes nothing and the rest keeps its scale;
    a case without any has zeros.
    """

    def __init__(self, sizes: Mapping[str, int], optional: frozenset[str], drop_inputs: float, width: int) -> None:
        super().__init__(sizes, optional, drop_inputs, width)
        self.gate = nn.Linear(len(sizes) * (width + 1), len(sizes) * width)

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """[n, width] of features [n, f] an input and present bool [n]."""
        shown = self._all_shown(features, present)
        x = torch.relu(self._projections(features, shown))
        gate = self.gate(torch.cat([x.flatten(1), shown.to(x.dtype)], dim=1)).unflatten(1, (len(self.names), -1))
        gate = gate.masked_fill(~shown[:, :, None], torch.finfo(gate.dtype).min)
        return (torch.softmax(gate, dim=1) * x).sum(1)


class Attended(_Projected):
    """Inputs as tokens beside a learned query, one block of self-attention; the query's state is the answer."""

    def __init__(self, sizes: Mapping[str, int], optional: frozenset[str], drop_inputs: float, width: int) -> None:
        super().__init__(sizes, optional, drop_inputs, width)
        self.query = nn.Parameter(torch.randn(width) * 0.1)
        self.kinds = nn.Parameter(torch.randn(len(sizes), width) * 0.1)
        self.block = AttentionBlock(width, next(heads for heads in (4, 2, 1) if width % heads == 0), 0.0)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """[n, width] of features [n, f] an input and present bool [n]."""
        shown = self._all_shown(features, present)
        x = self._projections(features, shown)
        x = torch.cat([self.query.to(x.dtype).expand(len(x), 1, -1), x + self.kinds.to(x.dtype)], dim=1)
        seen = torch.cat([shown.new_ones(len(shown), 1), shown], dim=1)  # the query sees itself, so no row sees nothing
        return cast(Tensor, self.norm(self.block(x, seen)[:, 0]))


def fusion_of(options: FusionOptions, sizes: Mapping[str, int], optional: frozenset[str]) -> Fusion:
    """The fusion of a recipe.  `sizes`: input to the width of its features; `optional`: inputs that cases may lack."""
    match options.kind:
        case "concat":
            return Concat(sizes, optional, options.drop_inputs)
        case "gated":
            return Gated(sizes, optional, options.drop_inputs, options.width)
        case "attention":
            return Attended(sizes, optional, options.drop_inputs, options.width)

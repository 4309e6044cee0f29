"""Volumes in, features out: a small 3D CNN, MONAI's networks by name in 3D, and a picture network on every slice.

A builder takes the input's spec and keyword settings and returns a module with `out_features`, whose forward takes
pixels [n, c, d, h, w] and returns [n, out_features].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.image import IMAGE_ENCODERS
from meddx.models.named import named, vit_network
from meddx.models.sequence import Pool

Spec = Mapping[str, Any]
_WHERE = "model.encoders"
_PATCHES = 8  # of the vit along an axis: 512 in all


class VolumeEncoder(nn.Module):
    """Enlarge the axes that are shorter than the network needs, then the network."""

    def __init__(self, spec: Spec, network: nn.Module, out_features: int, least: int = 1) -> None:
        super().__init__()
        # A step of the small CNN takes two thirds of the time on a CPU (28 voxels a side: 7 against 11 ms a case).
        self.network = cast(nn.Module, network.to(memory_format=torch.channels_last_3d))  # type: ignore[call-overload]
        self.out_features = out_features
        self.least = least

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.to(next(self.network.parameters()).dtype)
        size = tuple(max(side, self.least) for side in x.shape[2:])
        if size != tuple(x.shape[2:]):
            x = nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=False)
        return cast(Tensor, self.network(x)).flatten(1)


def cnn(spec: Spec, *, channels: Sequence[int] = (16, 32, 64), norm: str = "batch", grid: int = 1) -> nn.Module:
    """3x3x3 convolutions, each halved by max pooling (an axis that is down to one voxel stays); the rest is averaged.

    `grid`: of what is left so many cells an axis are kept apart, 1 averages all of it.  `norm`: batch or none.
    """
    if norm not in ("batch", "none"):
        raise RecipeError(f"cnn: norm is batch or none, not {norm!r}", _WHERE)
    if not channels or min(channels) < 1 or grid < 1:
        raise RecipeError("cnn: channels and grid are whole numbers above 0", _WHERE)
    sides = [int(side) for side in spec["size"]]
    if max(sides) >> len(channels) < 1:
        raise RecipeError(f"cnn: {len(channels)} halvings leave nothing of {max(sides)} voxels", _WHERE, "fewer channels, or a larger size")
    layers: list[nn.Module] = []
    before = int(spec["channels"])
    for width in channels:
        layers.append(nn.Conv3d(before, width, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm3d(width))
        steps = tuple(min(2, side) for side in sides)
        layers += [nn.ReLU(), nn.MaxPool3d(cast("tuple[int, int, int]", steps))]
        sides = [side // step for side, step in zip(sides, steps, strict=True)]
        before = width
    cells = tuple(min(grid, side) for side in sides)
    layers.append(nn.AdaptiveAvgPool3d(cast("tuple[int, int, int]", cells)))
    return VolumeEncoder(spec, nn.Sequential(*layers), before * cells[0] * cells[1] * cells[2])


def patch_side(side: int) -> int:
    """The smallest patch that divides `side` voxels and leaves at most 8 patches.  RecipeError if it is larger than 32."""
    patch = next(one for one in range(1, side + 1) if side % one == 0 and side // one <= _PATCHES)
    if patch > 32 and side // patch < _PATCHES // 2:
        raise RecipeError(f"vit: {side} voxels do not divide into patches", "inputs", "sides such as 16, 28, 64, 96 or 128")
    return patch


def vit(spec: Spec, *, patch: int = 0, hidden: int = 192, layers: int = 6, heads: int = 3, dropout: float = 0.0) -> nn.Module:
    """A small ViT (192 wide, 6 deep) with the mean token as feature; `patch`: of each axis, 0 chooses (at most 8 x 8 x 8 patches)."""
    size = tuple(int(side) for side in spec["size"])
    sides = tuple(patch or patch_side(side) for side in size)
    if any(side % one for side, one in zip(size, sides, strict=True)) or hidden % heads:
        raise RecipeError(f"vit: patches of {sides} do not divide {size} voxels, or {heads} heads do not divide {hidden}", _WHERE)
    network = vit_network(int(spec["channels"]), size, sides, hidden, layers, heads, dropout)
    return VolumeEncoder(spec, network, hidden)


class SlicesEncoder(nn.Module):
    """One picture network on every slice, then a pool over the slices of a case."""

    def __init__(self, network: nn.Module, pool: str) -> None:
        super().__init__()
        self.network = network
        self.out_features = cast(int, network.out_features)
        self.pool = Pool(pool, self.out_features)

    def forward(self, pixels: Tensor) -> Tensor:
        slices = pixels.transpose(1, 2)  # [n, d, c, h, w]
        features = cast(Tensor, self.network(slices.flatten(0, 1))).reshape(*slices.shape[:2], self.out_features)
        return cast(Tensor, self.pool(features, features.new_ones(features.shape[:2], dtype=torch.bool)))


def slices(spec: Spec, *, net: str = "cnn", pool: str = "attention", channels: Sequence[int] = (16, 32, 64), grid: int = 3) -> nn.Module:
    """`net`: a picture network by name, the same for every slice; `pool`: mean, max or attention over the slices.

    `channels`, `grid`: of the small cnn, unused by the others.
    """
    if net not in IMAGE_ENCODERS or pool not in ("mean", "max", "attention"):
        raise RecipeError(f"slices: net is one of {', '.join(IMAGE_ENCODERS)}; pool is mean, max or attention", _WHERE)
    _, height, width = (int(side) for side in spec["size"])
    if net != "cnn" and height != width:
        raise RecipeError(f"slices: {net} looks at square slices, not {height} x {width}", "inputs", "as many rows as columns, or net: cnn")
    ones = int(spec["channels"])
    plane = {"kind": "image", "channels": ones, "size": min(height, width), "max": 1.0, "mean": [0.0] * ones, "std": [1.0] * ones}
    settings: dict[str, Any] = {"channels": channels, "grid": grid} if net == "cnn" else {}
    return SlicesEncoder(IMAGE_ENCODERS[net](plane, **settings), pool)


def _stride(spec: Spec) -> int:
    """At full size the first layer alone would hold 64 volumes."""
    return 1 if max(spec["size"]) < 48 else 2


VOLUME_ENCODERS: dict[str, Callable[..., nn.Module]] = {"cnn": cnn, **named(3, VolumeEncoder, _stride), "vit": vit, "slices": slices}

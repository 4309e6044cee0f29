"""Pictures in (still 8 or 16 bit), features out: the small CNN, and MONAI's networks by name.

A builder takes the input's spec and keyword settings and returns a module with `out_features`, whose forward takes
pixels [n, c, s, s] and returns [n, out_features].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.named import named, vit_network

Spec = Mapping[str, Any]


class Normalise(nn.Module):
    """uint8, uint16 or float pixels on the scale 0..max to floats of mean 0 and deviation 1 a channel, on the device.

    The two constants come from the spec and are no part of the state: they are not weights.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        full = float(spec["max"])
        self.register_buffer("mean", torch.tensor(spec["mean"], dtype=torch.float32).mul(full).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(spec["std"], dtype=torch.float32).mul(full).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        mean, scale = cast(Tensor, self.mean), cast(Tensor, self.scale)
        wide = torch.promote_types(mean.dtype, torch.float32)  # bfloat16 does not hold 16-bit pixels
        return ((pixels.to(wide) - mean) / scale).to(mean.dtype)


class ImageEncoder(nn.Module):
    """Normalise, enlarge where the network needs more pixels, then the network."""

    def __init__(self, spec: Spec, network: nn.Module, out_features: int, least: int = 1) -> None:
        super().__init__()
        self.normalise = Normalise(spec)
        self.network = network
        self.out_features = out_features
        self.least = least

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.normalise(pixels)
        if x.shape[-1] < self.least:
            x = nn.functional.interpolate(x, size=(self.least, self.least), mode="bilinear", align_corners=False)
        return cast(Tensor, self.network(x)).flatten(1)


def cnn(spec: Spec, *, channels: Sequence[int] = (32, 64, 128), norm: str = "batch", grid: int = 3, pool: int = 2) -> nn.Module:
    """3x3 convolutions, each followed by max pooling; whatever is left is averaged to grid x grid, so any size fits.

    28 pixels leave 3 x 3 by themselves.  `norm`: batch or none.  `pool`: the side that max pooling makes one pixel of.  Three
    convolutions pooled by 2 see 22 pixels at a time (18 before the last pooling), pooled by 4 they see 106 (58): what is
    larger on the film than that no feature sees whole.
    """
    if norm not in ("batch", "none"):
        raise RecipeError(f"cnn: norm is batch or none, not {norm!r}", "model.encoders")
    if not channels or min(channels) < 1 or grid < 1 or pool < 2:
        raise RecipeError("cnn: channels and grid are whole numbers above 0, pool above 1", "model.encoders")
    left = int(spec["size"]) // pool ** len(channels)
    if left < 1:
        raise RecipeError(
            f"cnn: {len(channels)} poolings by {pool} leave nothing of {spec['size']} pixels",
            "model.encoders",
            "fewer channels, or a larger size",
        )
    layers: list[nn.Module] = []
    before = int(spec["channels"])
    for width in channels:
        layers.append(nn.Conv2d(before, width, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(width))
        layers += [nn.MaxPool2d(pool), nn.ReLU()]  # the same bits as the other way round, in three quarters of the time
        before = width
    side = min(grid, left)
    layers.append(nn.AdaptiveAvgPool2d(side))
    return ImageEncoder(spec, nn.Sequential(*layers), before * side * side)


def patch_side(size: int) -> int:
    """The smallest patch that divides `size` and leaves at most 8 (below 128 pixels) or 16 patches a side.  RecipeError if none."""
    most = 8 if size < 128 else 16
    for side in range(1, size // 2 + 1):
        if size % side == 0 and size // side <= most:
            return side
    raise RecipeError(f"vit: {size} pixels do not divide into patches", "inputs", "a size such as 28, 64, 96, 128 or 224")


def vit(spec: Spec, *, patch: int = 0, hidden: int = 192, layers: int = 6, heads: int = 3, dropout: float = 0.0) -> nn.Module:
    """A small ViT (192 wide, 6 deep) with the mean token as feature; `patch`: 0 chooses one (28: 4, 64: 8, 224: 14)."""
    size = int(spec["size"])
    side = patch or patch_side(size)
    if size % side or hidden % heads:
        raise RecipeError(f"vit: patches of {side} do not divide {size} pixels, or {heads} heads do not divide {hidden}", "model.encoders")
    network = vit_network(int(spec["channels"]), (size, size), (side, side), hidden, layers, heads, dropout)
    return ImageEncoder(spec, network, hidden)


IMAGE_ENCODERS: dict[str, Callable[..., nn.Module]] = {"cnn": cnn, **named(2, ImageEncoder, lambda spec: 1), "vit": vit}

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
from meddx.models.sequence import Pool

Spec = Mapping[str, Any]
_WHERE = "model.encoders"
_PATCHES = 8  # of the vit along an axis: 512 in all


class VolumeEncoder(nn.Module):
    """Enlarge the axes that are shorter than the network needs, then the network."""

    def __init__(self, network: nn.Module, out_features: int, least: int = 1) -> None:
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
    return VolumeEncoder(nn.Sequential(*layers), before * cells[0] * cells[1] * cells[2])


def _resnet(depth: int, features: int) -> Callable[..., nn.Module]:
    def build(spec: Spec, *, widen: float = 1.0, no_max_pool: bool = False, conv1_size: int = 7, conv1_stride: int = 0) -> nn.Module:
        """`conv1_stride` 0 chooses: 1 below 48 voxels, else 2, for at full size the first layer alone holds 64 volumes."""
        from monai.networks import nets

        network = getattr(nets, f"resnet{depth}")(
            spatial_dims=3,
            n_input_channels=int(spec["channels"]),
            feed_forward=False,
            widen_factor=float(widen),
            no_max_pool=bool(no_max_pool),
            conv1_t_size=int(conv1_size),
            conv1_t_stride=int(conv1_stride) or (1 if max(spec["size"]) < 48 else 2),
        )
        return VolumeEncoder(network, int(64 * widen) * 8 * (features // 512))

    return build


def _densenet(depth: int) -> Callable[..., nn.Module]:
    def build(spec: Spec, *, init_features: int = 64, growth_rate: int = 32, dropout: float = 0.0) -> nn.Module:
        from monai.networks import nets

        network = getattr(nets, f"DenseNet{depth}")(
            spatial_dims=3,
            in_channels=int(spec["channels"]),
            out_channels=1,
            init_features=int(init_features),
            growth_rate=int(growth_rate),
            dropout_prob=float(dropout),
        )
        features = network.class_layers.out.in_features
        network.class_layers.out = nn.Identity()
        return VolumeEncoder(network, features, least=32)  # five halvings

    return build


def _efficientnet(name: str) -> Callable[..., nn.Module]:
    def build(spec: Spec) -> nn.Module:
        from monai.networks.nets import EfficientNetBN

        network = EfficientNetBN(name, pretrained=False, progress=False, spatial_dims=3, in_channels=int(spec["channels"]), num_classes=2)
        features = network._fc.in_features
        network._fc = nn.Identity()
        return VolumeEncoder(network, features, least=32)

    return build


class _MeanToken(nn.Module):
    """MONAI's ViT answers with all tokens and all layers: keep the mean token of the last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        tokens, _ = self.network(x)
        return cast(Tensor, tokens.mean(1))


def patch_side(side: int) -> int:
    """The smallest patch that divides `side` voxels and leaves at most 8 patches.  RecipeError if it is larger than 32."""
    patch = next(one for one in range(1, side + 1) if side % one == 0 and side // one <= _PATCHES)
    if patch > 32 and side // patch < _PATCHES // 2:
        raise RecipeError(f"vit: {side} voxels do not divide into patches", "inputs", "sides such as 16, 28, 64, 96 or 128")
    return patch


def vit(spec: Spec, *, patch: int = 0, hidden: int = 192, layers: int = 6, heads: int = 3, dropout: float = 0.0) -> nn.Module:
    """A small ViT (192 wide, 6 deep) with the mean token as feature; `patch`: of each axis, 0 chooses (at most 8 x 8 x 8 patches)."""
    from monai.networks.nets import ViT

    size = tuple(int(side) for side in spec["size"])
    sides = tuple(patch or patch_side(side) for side in size)
    if any(side % one for side, one in zip(size, sides, strict=True)) or hidden % heads:
        raise RecipeError(f"vit: patches of {sides} do not divide {size} voxels, or {heads} heads do not divide {hidden}", _WHERE)
    network = ViT(
        in_channels=int(spec["channels"]),
        img_size=size,
        patch_size=sides,
        hidden_size=hidden,
        mlp_dim=4 * hidden,
        num_layers=layers,
        num_heads=heads,
        proj_type="conv",
        classification=False,
        dropout_rate=dropout,
        spatial_dims=3,
    )
    for block in network.blocks:  # made by MONAI and never run: weights without a gradient
        block.cross_attn = block.norm_cross_attn = nn.Identity()
    return VolumeEncoder(_MeanToken(network), hidden)


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


VOLUME_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "resnet10": _resnet(10, 512),
    "resnet18": _resnet(18, 512),
    "resnet34": _resnet(34, 512),
    "resnet50": _resnet(50, 2048),
    "densenet121": _densenet(121),
    "densenet169": _densenet(169),
    "efficientnet-b0": _efficientnet("efficientnet-b0"),
    "efficientnet-b1": _efficientnet("efficientnet-b1"),
    "vit": vit,
    "slices": slices,
}

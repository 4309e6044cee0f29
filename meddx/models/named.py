"""A name and a number of axes in, the builder of one of MONAI's networks out: the same for pictures and for volumes.

The last layer, MONAI's own answer, is taken off each network: what is left gives features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn

Spec = Mapping[str, Any]
HALVINGS = 32  # five of them: the fewest pixels a side of a densenet and an efficientnet


class Wrap(Protocol):
    """Puts what comes before a network (scaling, enlarging) in front of it; `least`: the fewest pixels a side that it needs."""

    def __call__(self, spec: Spec, network: nn.Module, out_features: int, least: int = 1) -> nn.Module: ...


def named(axes: int, wrap: Wrap, stride: Callable[[Spec], int]) -> dict[str, Callable[..., nn.Module]]:
    """Name to builder.  `stride`: of a resnet's first layer, where its settings leave it open."""
    depths = {10: 512, 18: 512, 34: 512, 50: 2048}
    found = {f"resnet{depth}": _resnet(axes, wrap, stride, depth, features) for depth, features in depths.items()}
    found |= {f"densenet{depth}": _densenet(axes, wrap, depth) for depth in (121, 169)}
    return found | {f"efficientnet-{size}": _efficientnet(axes, wrap, f"efficientnet-{size}") for size in ("b0", "b1")}


def _resnet(axes: int, wrap: Wrap, stride: Callable[[Spec], int], depth: int, features: int) -> Callable[..., nn.Module]:
    def build(spec: Spec, *, widen: float = 1.0, no_max_pool: bool = False, conv1_size: int = 7, conv1_stride: int = 0) -> nn.Module:
        """`conv1_stride` 0 chooses."""
        from monai.networks import nets

        network = getattr(nets, f"resnet{depth}")(
            spatial_dims=axes,
            n_input_channels=int(spec["channels"]),
            feed_forward=False,
            widen_factor=float(widen),
            no_max_pool=bool(no_max_pool),
            conv1_t_size=int(conv1_size),
            conv1_t_stride=int(conv1_stride) or stride(spec),
        )
        return wrap(spec, network, int(64 * widen) * 8 * (features // 512))

    return build


def _densenet(axes: int, wrap: Wrap, depth: int) -> Callable[..., nn.Module]:
    def build(spec: Spec, *, init_features: int = 64, growth_rate: int = 32, dropout: float = 0.0) -> nn.Module:
        from monai.networks import nets

        network = getattr(nets, f"DenseNet{depth}")(
            spatial_dims=axes,
            in_channels=int(spec["channels"]),
            out_channels=1,
            init_features=int(init_features),
            growth_rate=int(growth_rate),
            dropout_prob=float(dropout),
        )
        features = network.class_layers.out.in_features
        network.class_layers.out = nn.Identity()
        return wrap(spec, network, features, least=HALVINGS)

    return build


def _efficientnet(axes: int, wrap: Wrap, name: str) -> Callable[..., nn.Module]:
    def build(spec: Spec) -> nn.Module:
        from monai.networks.nets import EfficientNetBN

        network = EfficientNetBN(
            name, pretrained=False, progress=False, spatial_dims=axes, in_channels=int(spec["channels"]), num_classes=2
        )
        features = network._fc.in_features
        network._fc = nn.Identity()
        return wrap(spec, network, features, least=HALVINGS)

    return build


class _MeanToken(nn.Module):
    """MONAI's ViT answers with all tokens and all layers: keep the mean token of the last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        tokens, _ = self.network(x)
        return cast(Tensor, tokens.mean(1))


def vit_network(
    channels: int, size: tuple[int, ...], patch: tuple[int, ...], hidden: int, layers: int, heads: int, dropout: float
) -> nn.Module:
    """A ViT whose feature [n, hidden] is its mean token; `size` and `patch`: pixels of each axis."""
    from monai.networks.nets import ViT

    network = ViT(
        in_channels=channels,
        img_size=size,
        patch_size=patch,
        hidden_size=hidden,
        mlp_dim=4 * hidden,
        num_layers=layers,
        num_heads=heads,
        proj_type="conv",
        classification=False,
        dropout_rate=dropout,
        spatial_dims=len(size),
    )
    for block in network.blocks:  # made by MONAI and never run: weights without a gradient
        block.cross_attn = block.norm_cross_attn = nn.Identity()
    return _MeanToken(network)

"""A sequence in, features of residual 1D convolutions out, blind to padding."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.sequence import Pool, SequenceEncoder, Spec, front_of, masked


class MaskedGroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018) of each case alone, with mean and variance over its valid steps only; zeros elsewhere."""

    def __init__(self, groups: int, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[n, c, T] of x [n, c, T] and mask bool [n, T]."""
        rows, width, steps = x.shape
        wide = x.to(torch.promote_types(x.dtype, torch.float32)).view(rows, self.groups, -1, steps)
        valid = mask[:, None, None, :].to(wide.dtype)
        count = (mask.sum(1) * (width // self.groups)).clamp(min=1).to(wide.dtype)[:, None, None, None]
        mean = (wide * valid).sum((2, 3), keepdim=True) / count
        centred = (wide - mean) * valid
        scale = torch.rsqrt(centred.square().sum((2, 3), keepdim=True) / count + self.eps)
        out = (centred * scale).view(rows, width, steps) * self.weight[:, None] + self.bias[:, None]
        return (out * mask[:, None, :]).to(x.dtype)


class Block(nn.Module):
    """Norm, ReLU, convolution, twice, beside a short cut (He et al. 2016, pre-activation); `stride` 2 halves the steps."""

    def __init__(self, before: int, width: int, kernel: int, stride: int, dilation: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.first_norm = MaskedGroupNorm(groups, before)
        self.first = nn.Conv1d(before, width, kernel, stride=stride, dilation=dilation, padding=dilation * (kernel // 2))
        self.second_norm = MaskedGroupNorm(groups, width)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[n, c, T / stride] of x [n, c, T], zeros where the mask bool [n, T] is false."""
        kept = mask[:, :: self.stride]
        y = self.first(torch.relu(self.first_norm(x, mask)))
        y = self.second(self.dropout(torch.relu(self.second_norm(y, kept))))
        return (x[:, :, :: self.stride] + y).masked_fill(~kept[:, None, :], 0.0), kept


class Convolution(nn.Module):
    """Blocks; they halve the steps (signals) or look twice as far each time (Bai et al. 2018: events, texts)."""

    def __init__(self, width: int, blocks: int, kernel: int, dropout: float, halve: bool) -> None:
        super().__init__()
        # at least 8 features a group: one feature alone, over one step, would be nothing but its own mean
        groups = next(number for number in (8, 4, 2, 1) if width % (8 * number) == 0 or number == 1)
        self.blocks = nn.ModuleList(
            [Block(width, width, kernel, 2 if halve else 1, 1 if halve else 2**place, groups, dropout) for place in range(blocks)]
        )
        self.norm = MaskedGroupNorm(groups, width)
        self.out_features = width
        self.shrink = 2**blocks if halve else 1

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Steps [n, T / shrink, width] of x [n, T, width] and mask bool [n, T]."""
        x = x.transpose(1, 2)
        for block in self.blocks:
            x, mask = block(x, mask)
        return masked(torch.relu(cast(Tensor, self.norm(x, mask))).transpose(1, 2), mask), mask


def conv(
    spec: Spec,
    *,
    width: int = 64,
    blocks: int = 4,
    kernel: int = 5,
    dropout: float = 0.1,
    pool: str = "mean",
    patch: int = 0,
) -> nn.Module:
    """Residual convolutions.  Signals: the front takes `patch` samples a step (0: at most 512 steps), and each block halves them."""
    if width < 1 or blocks < 1 or kernel < 1 or kernel % 2 == 0 or not 0 <= dropout < 1:
        raise RecipeError("conv: width and blocks are whole numbers above 0, kernel is odd, dropout is below 1", "model.encoders")
    signal = spec["kind"] == "signal"
    front = front_of(spec, width, patch or (-(-int(spec["steps"]) // 512) if signal else 0))
    return SequenceEncoder(front, Convolution(width, blocks, kernel, float(dropout), signal), Pool(pool, width))

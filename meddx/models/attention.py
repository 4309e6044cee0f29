"""A sequence in, self-attention's states out; padding is never looked at."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.sequence import Pool, SequenceEncoder, Spec, front_of, masked, patch_of


class AttentionBlock(nn.Module):
    """Self-attention and a dense layer, each normalised before and beside a short cut (Vaswani et al. 2017; Xiong et al. 2020).

    Dropout is on what the two return and not on the attention weights, for those have a fused kernel without it only.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.look_norm, self.dense_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """[n, T, width] of x [n, T, width]; only the steps in `seen` bool [n, T], at least one a row, are looked at."""
        rows, steps, width = x.shape
        parts = self.look(self.look_norm(x)).view(rows, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=seen[:, None, None, :])
        x = x + self.dropout(self.back(found.transpose(1, 2).reshape(rows, steps, width)))
        return cast(Tensor, x + self.dropout(self.dense(self.dense_norm(x))))


class Positions(nn.Module):
    """The place of a step as a vector: sine and cosine waves of learned strength, or a table of `most` learned vectors."""

    def __init__(self, kind: str, width: int, most: int) -> None:
        super().__init__()
        if kind not in ("sinusoidal", "learned"):
            raise RecipeError(f"attention: positions is sinusoidal or learned, not {kind!r}", "model.encoders")
        self.kind, self.most = kind, most
        self.weight = nn.Parameter(torch.ones(1) if kind == "sinusoidal" else torch.randn(most, width) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, T, width] with places added.  ValueError beyond a learned table."""
        steps, width = x.shape[1:]
        if self.kind == "sinusoidal":
            return x + self.weight * waves(steps, width, x.device).to(x.dtype)
        if steps > self.most:
            raise ValueError(f"{steps} steps, and places for {self.most} were learned")
        return x + self.weight[:steps]


def waves(steps: int, width: int, device: torch.device | None = None) -> Tensor:
    """float64 [steps, width]: sine and cosine of t / 10000^(2i / width) (Vaswani et al. 2017, 3.5)."""
    place = torch.arange(steps, dtype=torch.float64, device=device)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64, device=device) * (-math.log(10000.0) / width))
    both = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=2)
    return both.view(steps, -1)[:, :width]


class Attention(nn.Module):
    """Positions, then blocks.  What comes in is normalised, so that places and features are of one size."""

    shrink = 1

    def __init__(self, width: int, heads: int, layers: int, dropout: float, positions: str, most: int) -> None:
        super().__init__()
        self.first_norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.positions = Positions(positions, width, most)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([AttentionBlock(width, heads, dropout) for _ in range(layers)])
        self.out_features = width

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Steps [n, T, width] of x [n, T, width], zeros where mask bool [n, T] is false."""
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        seen = mask | (~mask.any(1, keepdim=True) & first)  # a row without steps looks at its first: a softmax over nothing is NaN
        x = self.dropout(self.positions(self.first_norm(x)))
        for block in self.blocks:
            x = block(x, seen)
        return masked(self.last_norm(x), mask), mask


def attention(
    spec: Spec,
    *,
    d_model: int = 64,
    heads: int = 4,
    layers: int = 2,
    dropout: float = 0.1,
    positions: str = "sinusoidal",
    pool: str = "mean",
    patch: int = 0,
) -> nn.Module:
    """Self-attention, `d_model` wide; `patch`: samples a step of a signal (0: at most 64 steps)."""
    if heads < 1 or layers < 1 or d_model < 2 or d_model % heads or not 0 <= dropout < 1:
        raise RecipeError("attention: heads divide d_model, layers are above 0, dropout is below 1", "model.encoders")
    front = front_of(spec, d_model, patch)
    most = int(spec["tokens"]) if spec["kind"] == "text" else -(-int(spec["steps"]) // patch_of(spec, patch))
    return SequenceEncoder(front, Attention(d_model, heads, layers, float(dropout), positions, most), Pool(pool, d_model))

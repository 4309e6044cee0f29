"""Prepared signals, events or texts in, a sequence of steps with its mask, and one vector a case, out.

A sequence network is a front (arrays -> steps [n, T, f] and mask bool [n, T]), a body (steps -> steps) and a pool (steps -> vector).
What stands right of a case's length changes nothing, and neither do the other cases of its batch: no part of it looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError

Spec = Mapping[str, Any]
POOLS = ("last", "mean", "max", "attention")
_MOST_STEPS = 64  # a signal is patched to at most so many steps, unless `patch` says otherwise


def valid_steps(length: Tensor, steps: int) -> Tensor:
    """bool [n, steps], true left of `length` int [n]."""
    return torch.arange(steps, device=length.device)[None, :] < length[:, None]


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x [n, T, f] with zeros (never NaN times 0) where `mask` bool [n, T] is false."""
    return x.masked_fill(~mask[:, :, None], 0.0)


class SignalFront(nn.Module):
    """A strided convolution over the samples: step t looks at twice `patch` samples, at least 5, about the t-th patch."""

    def __init__(self, spec: Spec, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        kernel = max(5, 2 * patch)
        self.left = (kernel - patch) // 2
        self.right = kernel - patch - self.left
        self.convolution = nn.Conv1d(int(spec["leads"]), width, kernel, stride=patch)

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Steps [n, ceil(T / patch), width] of samples [n, leads, T] and length int [n]."""
        wide = samples.shape[-1]
        x = samples.to(self.convolution.weight.dtype).masked_fill(~valid_steps(length, wide)[:, None, :], 0.0)
        x = self.convolution(nn.functional.pad(x, (self.left, self.right + -wide % self.patch)))
        mask = valid_steps(torch.div(length + self.patch - 1, self.patch, rounding_mode="floor"), x.shape[-1])
        return masked(x.transpose(1, 2), mask), mask


class EventsFront(nn.Module):
    """Values beside what was seen beside hours since, brought to `width`."""

    def __init__(self, spec: Spec, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(3 * int(spec["variables"]), width)

    def forward(self, values: Tensor, seen: Tensor, since: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Steps [n, T, width] of three arrays [n, T, V]; a grid has all its steps unless `length` int [n] says otherwise."""
        mask = values.new_ones(values.shape[:2], dtype=torch.bool) if length is None else valid_steps(length, values.shape[1])
        x = masked(torch.cat([values, seen, since], dim=2).to(self.dense.weight.dtype), mask)
        return masked(self.dense(x), mask), mask


class TextFront(nn.Module):
    """A learned vector a word."""

    def __init__(self, spec: Spec, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(int(spec["words"]), width, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(width**-0.5)  # length about 1, as Vaswani et al. (2017) draw them

    def forward(self, tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Steps [n, L, width] of tokens int [n, L] and length int [n]."""
        mask = valid_steps(length, tokens.shape[1])
        return masked(self.embedding(tokens.long()), mask), mask


class TokensFront(nn.Module):
    """Of each word a learned vector, what a convolution finds in its characters (the largest over its places; Ma & Hovy 2016), and a
    vector of its shape, side by side: `width` together, `spelling` of it from characters (0: two fifths).

    In training a known word is read as unknown with the chance `word_dropout`, so that its characters and neighbours must do, and each
    feature is hidden with the chance `locked_dropout` in all words of a text alike (Gal & Ghahramani 2016), the others made larger.
    """

    _SHAPES, _LETTER, _KERNEL, _UNKNOWN = 8, 32, 5, 1  # widths of a shape's and of a character's vector; characters that are looked at

    def __init__(self, spec: Spec, width: int, spelling: int, word_dropout: float, locked_dropout: float = 0.0) -> None:
        super().__init__()
        spelling = spelling or max(1, width * 2 // 5)
        words = width - spelling - self._SHAPES
        if words < 1 or spelling < 1 or not 0 <= word_dropout < 1 or not 0 <= locked_dropout < 1:
            said = f"its width is above spelling + {self._SHAPES}, spelling not below 0, word_dropout and locked_dropout below 1"
            raise RecipeError(f"a network for words: {said}", "model.encoders")
        self.word_dropout, self.locked_dropout = word_dropout, locked_dropout
        self.words = nn.Embedding(int(spec["words"]), words, padding_idx=0)
        self.shapes = nn.Embedding(int(spec["shapes"]), self._SHAPES, padding_idx=0)
        self.characters = nn.Embedding(int(spec["letters"]), self._LETTER, padding_idx=0)
        self.convolution = nn.Conv1d(self._LETTER, spelling, self._KERNEL, padding=self._KERNEL // 2)
        with torch.no_grad():
            for table in (self.words, self.shapes, self.characters):
                table.weight.mul_(table.embedding_dim**-0.5)

    def forward(self, tokens: Tensor, characters: Tensor, shape: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Steps [n, L, width] of tokens, shape int [n, L], characters int [n, L, C] and length int [n]."""
        mask = valid_steps(length, tokens.shape[1])
        tokens = tokens.long()
        if self.training and self.word_dropout:
            hidden = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = torch.where(hidden & mask, torch.full_like(tokens, self._UNKNOWN), tokens)
        parts = [self.words(tokens), self._spelled(characters.long(), mask), self.shapes(shape.long())]
        x = torch.cat(parts, dim=2)
        if self.training and self.locked_dropout:
            x = x * nn.functional.dropout(x.new_ones(len(x), 1, x.shape[2]), self.locked_dropout)
        return masked(x, mask), mask

    def _spelled(self, characters: Tensor, mask: Tensor) -> Tensor:
        """[n, L, spelling]; in training of each word that is there once, for most words of a batch stand in it several times."""
        if self.training and mask.any():
            once, place = torch.unique(characters[mask], dim=0, return_inverse=True)
            found = self._word(once)[place]
            nothing = found.new_zeros(*mask.shape, found.shape[-1])
            return nothing.masked_scatter(mask[:, :, None], found)
        return self._word(characters.flatten(0, 1)).view(*mask.shape, self.convolution.out_channels)

    def _word(self, characters: Tensor) -> Tensor:
        """[m, spelling] of characters int [m, C]."""
        found: Tensor = torch.relu(self.convolution(self.characters(characters).transpose(1, 2)))
        return found.masked_fill((characters == 0)[:, None], 0.0).amax(2)


def patch_of(spec: Spec, patch: int) -> int:
    """Samples a step of a signal; 0 chooses the fewest that leave at most 64 steps.  1 for what is not a signal."""
    if patch < 0 or (patch and spec["kind"] != "signal"):
        raise RecipeError("patch is samples a step of a signal, a whole number; 0 chooses", "model.encoders")
    if spec["kind"] != "signal":
        return 1
    return min(patch or -(-int(spec["steps"]) // _MOST_STEPS), max(1, int(spec["steps"])))


def front_of(spec: Spec, width: int, patch: int = 0) -> nn.Module:
    """The front of an input's kind, whose steps are `width` wide.  RecipeError for a kind that is no sequence."""
    if width < 1:
        raise RecipeError(f"a sequence network cannot be {width} wide", "model.encoders")
    match spec["kind"]:
        case "signal":
            return SignalFront(spec, width, patch_of(spec, patch))
        case "events":
            patch_of(spec, patch)
            return EventsFront(spec, width)
        case "text":
            patch_of(spec, patch)
            return TextFront(spec, width)
        case "tokens":
            patch_of(spec, patch)
            dropouts = (float(spec.get(name, 0.0)) for name in ("word_dropout", "locked_dropout"))
            return TokensFront(spec, width, int(spec.get("spelling", 0)), *dropouts)
    raise RecipeError(f"a {spec['kind']} is not a sequence", "model.encoders")


class Pool(nn.Module):
    """Steps to one vector: the last state, the mean, the largest, or a mean weighted by learned attention; no step gives zeros.

    `backward`: so many of the last features were made from right to left; their last state is that of the first step.
    """

    def __init__(self, kind: str, width: int, backward: int = 0) -> None:
        super().__init__()
        if kind not in POOLS:
            raise RecipeError(f"pool is {', '.join(POOLS)}, not {kind!r}", "model.encoders")
        self.kind, self.forwards = kind, width - backward
        self.score = nn.Linear(width, 1, bias=False) if kind == "attention" else None

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """[n, f] of steps [n, T, f] and mask bool [n, T] whose true ones stand at the left."""
        if self.kind == "max":
            some = mask.any(1)[:, None]
            return steps.masked_fill(~mask[:, :, None], -torch.inf).amax(1).masked_fill(~some, 0.0)
        if self.kind == "last":
            count = mask.sum(1)
            last = steps[torch.arange(len(steps), device=steps.device), (count - 1).clamp(min=0)]
            vector = torch.cat([last[:, : self.forwards], steps[:, 0, self.forwards :]], dim=1)
            return vector.masked_fill((count == 0)[:, None], 0.0)
        return (masked(steps, mask) * self._weights(steps, mask)[:, :, None]).sum(1)

    def _weights(self, steps: Tensor, mask: Tensor) -> Tensor:
        """[n, T] that add up to 1, or 0 for a row without steps."""
        if self.score is None:
            return mask.to(steps.dtype) / mask.sum(1, keepdim=True).clamp(min=1).to(steps.dtype)
        score = self.score(steps)[:, :, 0]
        return torch.softmax(score.masked_fill(~mask, torch.finfo(score.dtype).min), dim=1).to(steps.dtype) * mask


class SequenceEncoder(nn.Module):
    """Front, body, pool.  A body has `out_features` (of a step) and `shrink` (steps that it makes one)."""

    def __init__(self, front: nn.Module, body: nn.Module, pool: Pool) -> None:
        super().__init__()
        self.front, self.body, self.pool = front, body, pool
        self.out_features = cast(int, body.out_features)

    def forward(self, **arrays: Tensor) -> Tensor:
        """[n, out_features] of one input's arrays."""
        return cast(Tensor, self.pool(*self.body(*self._shortened(*self.front(**arrays)))))

    def steps(self, **arrays: Tensor) -> tuple[Tensor, Tensor]:
        """(steps [n, T, out_features], mask bool [n, T]); T is the front's, divided by the body's `shrink`, whatever the lengths."""
        front, there = self.front(**arrays)
        x, mask = self.body(*self._shortened(front, there))
        lacking = -(-front.shape[1] // cast(int, self.body.shrink)) - x.shape[1]
        return nn.functional.pad(x, (0, 0, 0, lacking)), nn.functional.pad(mask, (0, lacking))

    def _shortened(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """In training without the steps that are padding for all cases, which is less work.

        Not in evaluation: a batch's shape moves the last bits, and a row must score the same beside any other.
        """
        if not self.training or not len(mask):
            return x, mask
        longest = max(1, int(mask.sum(1).max()))
        return x[:, :longest], mask[:, :longest]

"""One step's rows in, the gradient of the whole batch out: the same on every rank, and for every number of ranks.

What makes 1 = 2 = N workers at an equal number of shards K:
- the random state is set before each shard from (seed, step, shard), so dropout does not know the rank;
- every shard starts from the same buffers and sees its own rows only; what the K shards did to them is averaged (BatchNorm);
- a shard's loss is a sum, divided by the denominator of the whole batch; gradients are summed, never averaged, so a rank
  with one labelled case and one with 31 weigh as they should.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from meddx.errors import RecipeError
from meddx.train.batches import Loader
from meddx.train.communicate import Communicator
from meddx.train.sampler import Stream, own_shards, shards
from meddx.train.seeds import SHARD, seed_of
from meddx.train.task import Head, Task


class FlatGradient:
    """Every parameter's `.grad` as a view of one vector, in the fixed order of `model.parameters()`; the last entry is the loss.

    Backward adds in place, so the sum over shards and the all-reduce need no copies.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        kinds = {(parameter.dtype, parameter.device) for parameter in parameters}
        if len(kinds) != 1:
            raise RecipeError(f"the network has parameters of {len(kinds)} types", "model", "give all parameters one type and device")
        dtype, device = kinds.pop()
        self.vector = torch.zeros(sum(parameter.numel() for parameter in parameters) + 1, dtype=dtype, device=device)
        offset = 0
        for parameter in parameters:
            # The gradient has its parameter's memory layout (channels_last): the fused optimiser walks both side by side.
            strides = torch.empty_like(parameter).stride()
            parameter.grad = torch.as_strided(self.vector, parameter.shape, strides, offset)
            offset += parameter.numel()

    @property
    def loss(self) -> torch.Tensor:
        return self.vector[-1]

    def clip(self, largest: float) -> None:
        """Shorten the gradient of all parameters together to this norm, where it is longer; 0: leave it.

        Called on the summed gradient, which is the same on every rank: so is what comes out.
        """
        norm = float(torch.linalg.vector_norm(self.vector[:-1], dtype=torch.float64)) if largest else 0.0
        if norm > largest:
            self.vector[:-1] *= largest / norm


class SharedBuffers:
    """A model's buffers: reset before each shard, then moved by the mean of what the shards did to them."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self._start = [buffer.clone() for buffer in self._buffers]
        size = sum(buffer.numel() for buffer in self._buffers)
        device = self._buffers[0].device if self._buffers else "cpu"
        self._moved = torch.zeros(size, dtype=torch.float64, device=device)  # float64: counters stay exact

    def remember(self) -> None:
        for start, buffer in zip(self._start, self._buffers, strict=True):
            start.copy_(buffer)
        self._moved.zero_()

    def reset(self) -> None:
        for start, buffer in zip(self._start, self._buffers, strict=True):
            buffer.copy_(start)

    def collect(self) -> None:
        """Add what one shard changed.  A buffer that did not change adds an exact zero, also where it is infinite."""
        for part, start, buffer in self._parts():
            change = buffer.double() - start.double()
            part += torch.where(buffer == start, 0.0, change).flatten()

    def publish(self, communicator: Communicator, pieces: int) -> None:
        if not self._buffers:
            return
        communicator.sum(self._moved)
        for part, start, buffer in self._parts():
            moved = start.double() + (part / pieces).view_as(buffer)
            moved = moved if buffer.is_floating_point() else moved.round()
            buffer.copy_(torch.where(part.view_as(buffer) == 0, start, moved.to(buffer.dtype)))

    def _parts(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        parts = torch.split(self._moved, [buffer.numel() for buffer in self._buffers])
        return list(zip(parts, self._start, self._buffers, strict=True))


@dataclass(frozen=True)
class GradientStep:
    """Everything that one step needs.  `class_weights`: as the head wants them, or None; `focal`: the power of focal loss."""

    task: Task
    model: nn.Module
    loader: Loader
    ids: np.ndarray
    stream: Stream
    communicator: Communicator
    flat: FlatGradient
    buffers: SharedBuffers
    class_weights: torch.Tensor | None
    focal: float = 0.0

    def __call__(self, step: int) -> float:
        """Fill the gradient of this step; the batch's mean loss comes back."""
        rows, epochs = self.stream.rows(step)
        pieces = shards(len(rows), self.task.options.n_shards)
        total = denominator(self.task.head, *self.loader.targets(rows), self.class_weights)
        shared = len(pieces) > 1 or self.communicator.world > 1  # one shard alone simply keeps what it did to its buffers
        if shared:
            self.buffers.remember()
        self.flat.vector.zero_()
        for piece in own_shards(len(pieces), self.communicator.rank, self.communicator.world):
            if shared:
                self.buffers.reset()
            self._shard(step, piece, rows[pieces[piece]], epochs[pieces[piece]], total)
            if shared:
                self.buffers.collect()
        self.communicator.sum(self.flat.vector)
        self.flat.clip(self.task.options.clip)
        if shared:
            self.buffers.publish(self.communicator, len(pieces))
        return float(self.flat.loss)

    def _shard(self, step: int, piece: int, rows: np.ndarray, epochs: np.ndarray, total: torch.Tensor) -> None:
        seed_device(seed_of(SHARD, self.task.options.seed, step, piece), self.loader.machine.device)
        batch = self.loader.augmented(rows, self.ids[rows], epochs, self.task.options)
        with self.loader.machine.autocast():
            logits = self.model(batch)
        loss, _ = self.task.head.loss(logits.to(self.flat.vector.dtype), *self.loader.targets(rows), self.class_weights, self.focal)
        share = loss / total
        share.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.flat.vector[-1] += share


def seed_device(seed: int, device: str) -> None:
    """As `torch.manual_seed`, for this device only: that one writes a stack trace for each GPU library that is not there (0.4 ms)."""
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)


def denominator(head: Head, labels: torch.Tensor, known: torch.Tensor, class_weights: torch.Tensor | None) -> torch.Tensor:
    """What the loss of a batch is divided by: the weight of its known labels, which needs no forward pass.

    Every rank holds all labels (they are small), so the sum over shards needs no message.  A batch without one known label
    has the loss 0 / 1.
    """
    total = head.denominator(labels, known, class_weights)
    return torch.where(total > 0, total, torch.ones_like(total))

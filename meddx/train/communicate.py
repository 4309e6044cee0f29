"""Tensors of one rank in, the sum over all ranks out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Communicator(Protocol):
    """A rank among `world` equal ranks; every call is made by all of them, in the same order."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    def sum(self, tensor: torch.Tensor) -> None:
        """Replace the tensor by its sum over the ranks: the same bits on each."""
        ...

    def copy_first(self, tensor: torch.Tensor) -> None:
        """Replace the tensor by rank 0's."""
        ...


@dataclass(frozen=True)
class Alone:
    """One process."""

    rank: int = 0
    world: int = 1

    def sum(self, tensor: torch.Tensor) -> None:
        pass

    def copy_first(self, tensor: torch.Tensor) -> None:
        pass


@dataclass(frozen=True)
class Group:
    """The ranks of torch.distributed's default group (gloo or NCCL).

    One flat vector is summed whole, in the fixed order of the parameters: DDP rebuilds its buckets after the first step, so that
    a resumed run would sum in another order than an undisturbed one.
    """

    rank: int
    world: int

    def sum(self, tensor: torch.Tensor) -> None:
        torch.distributed.all_reduce(tensor)

    def copy_first(self, tensor: torch.Tensor) -> None:
        torch.distributed.broadcast(tensor, src=0)


def agree(communicator: Communicator, value: int, device: str) -> bool:
    """Whether every rank has the same value."""
    votes = torch.tensor([value, value * value], dtype=torch.float64, device=device)
    communicator.sum(votes)
    return bool(votes[0] == value * communicator.world and votes[1] == value * value * communicator.world)

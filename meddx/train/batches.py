"""Arrays and row numbers in, tensors on the device out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from meddx.train.augment import active, augment, draw
from meddx.train.machine import Machine
from meddx.train.options import TrainingOptions
from meddx.train.task import Arrays, Labels

Batch = dict[str, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Loader:
    """Takes rows out of arrays in memory (which may be read-only views of Ray's object store)."""

    arrays: Arrays
    labels: Labels
    specs: Mapping[str, Mapping[str, Any]]
    machine: Machine

    def __len__(self) -> int:
        return len(self.labels.known)

    def inputs(self, rows: np.ndarray) -> Batch:
        """Bytes stay bytes until the device: a quarter of the traffic of floats."""
        return {name: {key: self._tensor(array, rows) for key, array in arrays.items()} for name, arrays in self.arrays.items()}

    def targets(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels and which of them are known."""
        return self._tensor(self.labels.values, rows), self._tensor(self.labels.known, rows)

    def augmented(self, rows: np.ndarray, ids: np.ndarray, epochs: np.ndarray, options: TrainingOptions) -> Batch:
        """`inputs`, with every picture changed as (seed, epoch, id) says.  ids, epochs: int64 [b]."""
        batch = self.inputs(rows)
        if not active(options.augment):
            return batch
        for name, spec in self.specs.items():
            if spec.get("kind") == "image":
                pixels = batch[name]["pixels"]
                changes = draw(options.augment, options.seed, epochs, ids, aspect=pixels.shape[-2] / pixels.shape[-1])
                pixels = pixels.double() if self.machine.precision == "fp64" else pixels
                batch[name]["pixels"] = augment(pixels, changes, options.augment, float(spec.get("max", 255)))
        return batch

    def _tensor(self, array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.take(array, rows, axis=0)).to(self.machine.device)
        return tensor.double() if self.machine.precision == "fp64" and tensor.is_floating_point() else tensor

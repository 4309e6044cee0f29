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
        """`inputs`, with every picture and volume changed as (seed, epoch, id) says.  ids, epochs: int64 [b]."""
        batch = self.inputs(rows)
        if not active(options.augment):
            return batch
        for name, spec in self.specs.items():
            if spec.get("kind") == "image":
                pixels = batch[name]["pixels"]
                pixels = pixels.double() if self.machine.precision == "fp64" else pixels
                largest = float(spec.get("max", 255))
                if pixels.ndim == 4:
                    batch[name]["pixels"] = _changed(pixels, ids, epochs, options, largest)
                    continue
                # Several pictures a case, [b, m, c, h, w]: each has its own changes, drawn by the case and the picture's place.
                pictures = [_changed(picture, ids, epochs, options, largest, place) for place, picture in enumerate(pixels.unbind(1))]
                batch[name]["pixels"] = torch.stack(pictures, 1)
            elif spec.get("kind") == "volume":  # turned and moved within its slices, all slices alike, as if they were colours
                pixels = batch[name]["pixels"]
                batch[name]["pixels"] = _changed(pixels.flatten(1, 2), ids, epochs, options, spec.get("max")).reshape(pixels.shape)
        return batch

    def _tensor(self, array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.take(array, rows, axis=0)).to(self.machine.device)
        return tensor.double() if self.machine.precision == "fp64" and tensor.is_floating_point() else tensor


def _changed(
    pixels: torch.Tensor, ids: np.ndarray, epochs: np.ndarray, options: TrainingOptions, largest: float | None, *place: int
) -> torch.Tensor:
    """Pixels [b, c, h, w] changed as (seed, epoch, id), and the picture's place within the case, say."""
    changes = draw(options.augment, options.seed, epochs, ids, *place, aspect=pixels.shape[-2] / pixels.shape[-1])
    return augment(pixels, changes, options.augment, largest)

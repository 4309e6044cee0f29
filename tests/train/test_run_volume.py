"""A network of volumes is trained whole: augmented, in shards, and alike however the batch is cut into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meddx.dataset.target import Labels
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.storage import StoragePath
from meddx.train.options import TrainingOptions
from meddx.train.run import train_network
from meddx.train.task import TrainData, Trained

pytestmark = pytest.mark.slow
SPECS = {"ct": {"kind": "volume", "optional": False, "size": [6, 10, 12], "channels": 1, "max": 1.0}}


def part(rng: np.random.Generator, cases: int) -> tuple[dict[str, dict[str, np.ndarray]], Labels]:
    """A bright block somewhere in half of the volumes."""
    pixels = rng.random((cases, 1, 6, 10, 12)).astype(np.float32) / 2
    there = rng.random(cases) < 0.5
    for row in np.flatnonzero(there):
        z, y, x = rng.integers(0, [4, 7, 9])
        pixels[row, 0, z : z + 3, y : y + 4, x : x + 4] += 0.4
    return {"ct": {"pixels": pixels, "present": np.ones(cases, bool)}}, Labels(there.astype(np.float32), np.ones(cases, bool))


def trained(folder: Path, kind: str, **options: Any) -> Trained:
    rng = np.random.default_rng(0)
    (train, labels), (validate, wanted) = part(rng, 96), part(rng, 64)
    data = TrainData(train, labels, np.arange(96), validate, wanted)
    return train_network(
        data,
        model=ModelOptions(hidden=32),
        encoders={"ct": EncoderOptions(kind=kind, settings={"channels": [8, 16]})},
        specs=SPECS,
        head={"kind": "binary", "classes": ["no", "yes"]},
        options=TrainingOptions.model_validate({"batch": 16, "lr": 0.003, **options}),
        run_dir=StoragePath.of(folder),
        fingerprint="f",
        fresh=True,
        log=lambda line: None,
    )


@pytest.mark.parametrize(("kind", "epochs"), [("cnn", 8), ("slices", 8)])
def test_a_network_of_volumes_learns(tmp_path: Path, kind: str, epochs: int) -> None:
    made = trained(tmp_path, kind, epochs=epochs, augment={"flip": True, "shift": 0.1})
    assert max(entry["auroc"] for entry in made.history) > 0.9


def test_the_same_run_gives_the_same_weights(tmp_path: Path) -> None:
    one, two = (trained(tmp_path / name, "cnn", epochs=1, shards=2, augment={"rotate": 10}) for name in "ab")
    assert all(torch.equal(tensor, two.weights[name]) for name, tensor in one.weights.items())
    plain = trained(tmp_path / "c", "cnn", epochs=1, shards=2)
    assert not all(torch.equal(tensor, plain.weights[name]) for name, tensor in one.weights.items())

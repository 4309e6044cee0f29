"""Volumes in training: each is changed as its case says, all its slices alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meddx.dataset.target import Labels
from meddx.train.batches import Loader
from meddx.train.machine import Machine
from meddx.train.options import TrainingOptions

IDS, EPOCHS = np.array([7, 3, 9, 1]), np.zeros(4, np.int64)


def changed(pixels: np.ndarray, rows: list[int], largest: float | None = 1.0, epoch: int = 0, **augment: Any) -> torch.Tensor:
    options = TrainingOptions.model_validate({"augment": augment})
    labels = Labels(np.zeros(4, np.float32), np.ones(4, bool))
    spec = {"kind": "volume", "size": list(pixels.shape[2:]), "channels": 1, "max": largest}
    loader = Loader({"ct": {"pixels": pixels}}, labels, {"ct": spec}, Machine("cpu", 1, "fp32"))
    return loader.augmented(np.array(rows), IDS[rows], EPOCHS[rows] + epoch, options)["ct"]["pixels"]


def noise() -> np.ndarray:
    return np.random.default_rng(0).random((4, 1, 3, 9, 11)).astype(np.float32)


def test_a_volume_is_changed_alike_in_any_company_and_differently_in_another_epoch() -> None:
    settings = {"flip": True, "rotate": 20, "shift": 0.1, "intensity": 0.2}
    whole = changed(noise(), [0, 1, 2, 3], **settings)
    assert whole.shape == (4, 1, 3, 9, 11) and whole.min() >= 0 and whole.max() <= 1
    assert torch.equal(changed(noise(), [2, 0], **settings), whole[[2, 0]])
    assert not torch.equal(changed(noise(), [0, 1, 2, 3], epoch=1, **settings), whole)


def test_all_slices_of_a_volume_are_turned_alike() -> None:
    pixels = noise()[:, :, :1].repeat(3, axis=2)
    made = changed(pixels, [0, 1, 2, 3], rotate=20, shift=0.2)
    assert torch.equal(made[:, :, 0], made[:, :, 2]) and not np.allclose(made, pixels, atol=0.05)


def test_a_flip_changes_left_and_right_of_some() -> None:
    made, pixels = changed(noise(), [0, 1, 2, 3], flip=True).numpy(), noise()
    same = np.abs(made - pixels).max((1, 2, 3, 4)) < 1e-5
    mirrored = np.abs(made - pixels[..., ::-1]).max((1, 2, 3, 4)) < 1e-5
    assert (same ^ mirrored).all() and same.any() and mirrored.any()


def test_standardised_values_are_not_cut_at_0_and_1() -> None:
    pixels = noise() * 10 - 5
    made = changed(pixels, [0, 1, 2, 3], largest=None, intensity=0.1).numpy()
    assert made.min() < -3 and made.max() > 3 and not np.array_equal(made, pixels)
    assert np.corrcoef(made[0].ravel(), pixels[0].ravel())[0, 1] == pytest.approx(1)


def test_nothing_asked_changes_nothing() -> None:
    assert np.array_equal(changed(noise(), [0, 1, 2, 3]), noise())

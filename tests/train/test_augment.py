from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meddx.dataset.target import Labels
from meddx.train.augment import Changes, active, augment, draw
from meddx.train.batches import Loader
from meddx.train.machine import Machine
from meddx.train.options import AugmentOptions, TrainingOptions

ALL = AugmentOptions(flip=True, rotate=20, shift=0.1, zoom=0.2, crop=0.2, intensity=0.3, erase=0.3)


def pictures(n: int = 6, side: int = 17, dtype: Any = np.uint8) -> torch.Tensor:
    top = np.iinfo(dtype).max
    return torch.from_numpy(np.random.default_rng(0).integers(0, top, size=(n, 2, side, side), endpoint=True).astype(dtype))


def changed(options: AugmentOptions, rows: list[int], epoch: int = 0, seed: int = 0, dtype: Any = np.uint8) -> torch.Tensor:
    pixels = pictures(dtype=dtype)[rows]
    drawn = draw(options, seed, np.full(len(rows), epoch), np.array(rows))
    return augment(pixels, drawn, options, float(np.iinfo(dtype).max))


def test_a_case_is_changed_alike_in_any_company() -> None:
    together = changed(ALL, [0, 1, 2, 3, 4, 5])
    for row in range(6):
        assert torch.equal(changed(ALL, [row])[0], together[row])
    assert torch.equal(changed(ALL, [5, 1, 3]), together[[5, 1, 3]])


def test_epoch_seed_and_row_each_change_the_draw() -> None:
    first = draw(ALL, 0, np.zeros(4, int), np.arange(4))
    assert len(np.unique(first.contrast)) == 4
    for other in (draw(ALL, 0, np.ones(4, int), np.arange(4)), draw(ALL, 1, np.zeros(4, int), np.arange(4))):
        assert not np.isclose(first.window, other.window).any(axis=(1, 2)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_range_and_type(dtype: Any) -> None:
    out = changed(ALL, [0, 1, 2], dtype=dtype)
    assert out.dtype == torch.float32
    assert out.min() >= 0 and out.max() <= np.iinfo(dtype).max
    assert out.max() > np.iinfo(dtype).max / 2  # still in the same range, not scaled to 1


def test_nothing_asked_changes_nothing() -> None:
    none = AugmentOptions()
    assert not active(none)
    assert torch.equal(changed(none, [0, 1]), pictures()[[0, 1]].float())


def window(**entries: float) -> Changes:
    theta = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    for place, value in entries.items():
        theta[0, int(place[1]), int(place[2])] = value
    return Changes(theta, np.ones(1), np.zeros(1), np.zeros((1, 2)))


def test_geometry_does_what_its_name_says() -> None:
    picture = torch.zeros(1, 1, 8, 8)
    picture[0, 0, 1, 2] = 100.0
    moved = augment(picture, window(t02=2 * 2 / 8), AugmentOptions(shift=0.5), 255)  # looks two pixels to the right
    assert moved[0, 0, 1, 0] == pytest.approx(100) and moved.sum() == pytest.approx(100)
    mirrored = augment(picture, window(t00=-1.0), AugmentOptions(flip=True), 255)
    assert torch.allclose(mirrored, picture.flip(3), atol=1e-4)
    turned = draw(AugmentOptions(rotate=90), 0, np.zeros(1, int), np.zeros(1, int))
    quarter = Changes(np.array([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]]), turned.contrast, turned.brightness, turned.hole)
    assert torch.allclose(augment(picture, quarter, AugmentOptions(rotate=90), 255), picture.rot90(1, (2, 3)), atol=1e-4)


def test_a_picture_that_is_only_moved_or_mirrored_is_not_blurred() -> None:
    picture = torch.from_numpy(np.random.default_rng(1).permutation(16 * 12).reshape(1, 1, 16, 12).astype(np.float32))
    values = set(picture.flatten().tolist())
    options = AugmentOptions(flip=True, shift=0.25)
    moved = set()
    for row in range(40):
        drawn = draw(options, 0, np.zeros(1, int), np.array([row]), aspect=16 / 12)
        out = augment(picture, drawn, options, 255)
        assert (out - out.round()).abs().max() < 1e-2 and set(out.round().flatten().tolist()) <= values
        moved.add(tuple(np.round(drawn.window[0, :, 2] * [6, 8])))
    assert len(moved) > 20 and max(abs(x) for x, _ in moved) == 3 and max(abs(y) for _, y in moved) == 4


def test_erasing_makes_one_square_grey_and_nothing_else() -> None:
    rows, options = np.arange(300), AugmentOptions(erase=0.25)
    pixels = torch.full((300, 2, 20, 40), 7.0)
    out = augment(pixels, draw(options, 0, np.zeros(300, int), rows), options, 255)
    grey = out == 127.5
    assert (grey | (out == 7)).all() and torch.equal(grey[:, 0], grey[:, 1])
    sizes = grey[:, 0].sum((1, 2))
    assert sizes.max() == 5 * 10 and 0 < sizes.min() < 5 * 10  # whole, and cut at the edge
    assert grey[:, 0].any(0).all()  # anywhere
    deviations = augment(pixels, draw(options, 0, np.zeros(300, int), rows), options, None)
    assert torch.equal(deviations == 0, grey)


def test_each_amount_is_a_limit() -> None:
    rows = np.arange(4000)
    epochs = np.zeros(4000, int)
    angles = draw(AugmentOptions(rotate=30), 0, epochs, rows).window
    degrees = np.rad2deg(np.arctan2(angles[:, 1, 0], angles[:, 0, 0]))
    assert 29 < np.abs(degrees).max() <= 30 and abs(degrees.mean()) < 1
    shifts = draw(AugmentOptions(shift=0.1), 0, epochs, rows).window[:, :, 2] / 2  # back to shares of the side
    assert 0.099 < np.abs(shifts).max() <= 0.1
    cropped = draw(AugmentOptions(crop=0.3), 0, epochs, rows).window
    assert 0.7 <= cropped[:, 0, 0].min() < 0.71
    assert (np.abs(cropped[:, 0, 2]) <= 1 - cropped[:, 0, 0] + 1e-12).all()  # the window stays inside the picture
    assert 0.48 < (draw(AugmentOptions(flip=True), 0, epochs, rows).window[:, 0, 0] < 0).mean() < 0.52


def test_a_turn_keeps_shapes_in_a_picture_that_is_not_square() -> None:
    drawn = draw(AugmentOptions(rotate=90), 3, np.zeros(1, int), np.zeros(1, int), aspect=2.0)
    in_pixels = np.diag([1, 2.0]) @ drawn.window[0, :, :2] @ np.diag([1, 0.5])  # from -1..1 to pixels, width 1, height 2
    assert np.allclose(in_pixels @ in_pixels.T, np.eye(2))


def test_several_pictures_of_a_case_have_changes_of_their_own_wherever_the_case_lies() -> None:
    options = TrainingOptions.model_validate({"augment": {"flip": True, "rotate": 20, "crop": 0.2}})
    one = np.random.default_rng(0).integers(0, 255, (4, 1, 1, 9, 9), dtype=np.uint8)
    pixels = one.repeat(3, axis=1)  # three equal pictures a case
    labels = Labels(np.zeros(4, np.float32), np.ones(4, bool))
    loader = Loader({"film": {"pixels": pixels}}, labels, {"film": {"kind": "image", "max": 255}}, Machine("cpu", 1, "fp32"))
    ids, epochs = np.array([7, 3, 9, 1]), np.zeros(4, np.int64)
    whole = loader.augmented(np.arange(4), ids, epochs, options)["film"]["pixels"]
    assert whole.shape == (4, 3, 1, 9, 9) and not torch.equal(whole[:, 0], whole[:, 1])
    part = loader.augmented(np.array([2, 0]), ids[[2, 0]], epochs[:2], options)["film"]["pixels"]
    assert torch.equal(part[0], whole[2]) and torch.equal(part[1], whole[0])

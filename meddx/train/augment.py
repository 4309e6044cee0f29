"""A batch of pictures in, the same pictures a little changed out, on the device.

What happens to a picture is drawn by a counter hash of (seed, epoch, row): it does not matter which worker, shard or batch
the picture is in.  All geometry is one resampling, so pictures are blurred once, not five times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from meddx.train.options import AugmentOptions
from meddx.train.seeds import AUGMENT, uniforms

_DRAWS = 12


@dataclass(frozen=True)
class Changes:
    """One row a picture: `window` [n, 2, 3] from output to input coordinates (both -1..1), `contrast` [n], `brightness` [n], and the
    middle of the `hole` [n, 2], x and y in -1..1."""

    window: np.ndarray
    contrast: np.ndarray
    brightness: np.ndarray
    hole: np.ndarray


def draw(options: AugmentOptions, seed: int, epochs: np.ndarray, rows: np.ndarray, *place: int, aspect: float = 1.0) -> Changes:
    """Draw the changes of n pictures.  `epochs`, `rows`: int64 [n]; `place`: of the picture in its case, where there are several;
    `aspect`: height / width."""
    chance = uniforms(_DRAWS, AUGMENT, seed, epochs, rows, *place)
    either = 2 * chance - 1  # -1..1
    mirror = np.where(options.flip & (chance[:, 0] < 0.5), -1.0, 1.0)
    angle = np.deg2rad(options.rotate) * either[:, 1]
    cropped = options.crop * chance[:, 2]
    side = (1 - cropped) / (1 + options.zoom * either[:, 3])  # the window's side; below 1 enlarges
    cosine, sine = side * np.cos(angle), side * np.sin(angle)
    window = np.empty((len(rows), 2, 3))
    window[:, 0, 0], window[:, 0, 1] = mirror * cosine, -sine * aspect
    window[:, 1, 0], window[:, 1, 1] = mirror * sine / aspect, cosine
    # A shift is a share of the side, which is 2 long here; the crop window lies anywhere inside the picture.
    window[:, 0, 2] = 2 * options.shift * either[:, 4] + cropped * either[:, 5]
    window[:, 1, 2] = 2 * options.shift * either[:, 6] + cropped * either[:, 7]
    return Changes(window, 1 + options.intensity * either[:, 9], options.intensity * either[:, 8], either[:, 10:12])


def active(options: AugmentOptions) -> bool:
    """Whether any change is asked for."""
    return bool(options.flip or options.rotate or options.shift or options.zoom or options.crop or options.intensity or options.erase)


def augment(pixels: torch.Tensor, changes: Changes, options: AugmentOptions, largest: float | None) -> torch.Tensor:
    """Apply the changes to pixels [n, c, h, w] of values 0..largest; floating point of the same range comes out.

    `largest` None: values in deviations from a mean, without ends.
    """
    pixels = pixels if pixels.is_floating_point() else pixels.float()
    if options.flip or options.rotate or options.shift or options.zoom or options.crop:
        # Edges are repeated outwards: black corners would tell the network which pictures were turned.
        window = changes.window if options.rotate or options.zoom or options.crop else _whole(changes.window, pixels)
        pixels = F.grid_sample(pixels, _grid(window, pixels), mode="bilinear", padding_mode="border", align_corners=False)
    if options.intensity:
        contrast, brightness = (_column(values, pixels) for values in (changes.contrast, changes.brightness))
        if largest is None:
            pixels = pixels * contrast + brightness
        else:
            middle = largest / 2
            pixels = ((pixels - middle) * contrast + (middle + brightness * largest)).clamp(0, largest)
    return _erased(pixels, changes.hole, options.erase, (largest or 0.0) / 2) if options.erase else pixels


def _whole(window: np.ndarray, pixels: torch.Tensor) -> np.ndarray:
    """Shifts rounded to whole pixels: where pictures are only moved or mirrored nothing is blurred, as in no picture to be judged."""
    half = np.array([pixels.shape[-1], pixels.shape[-2]]) / 2
    return np.concatenate([window[:, :, :2], (np.round(window[:, :, 2] * half) / half)[:, :, None]], axis=2)


def _erased(pixels: torch.Tensor, middle: np.ndarray, share: float, grey: float) -> torch.Tensor:
    """A square of this share of the side made grey; it may hang over the edge (cutout: DeVries and Taylor, 2017, arXiv 1708.04552)."""
    at = torch.from_numpy(middle).to(pixels.device, pixels.dtype)
    x, y = (
        (torch.arange(side, device=pixels.device, dtype=pixels.dtype) * 2 + 1) / side - 1 for side in (pixels.shape[-1], pixels.shape[-2])
    )
    across, down = (x[None] - at[:, :1]).abs() < share, (y[None] - at[:, 1:]).abs() < share
    return pixels.masked_fill(across[:, None, None, :] & down[:, None, :, None], grey)


def _grid(window: np.ndarray, pixels: torch.Tensor) -> torch.Tensor:
    """Where each output pixel looks, [n, h, w, 2].  Element by element: a matrix product's last bits depend on the batch."""
    height, width = pixels.shape[-2:]
    theta = torch.from_numpy(window).to(pixels.device, pixels.dtype)[:, None, None]  # [n, 1, 1, 2, 3]
    x = ((torch.arange(width, device=pixels.device, dtype=pixels.dtype) * 2 + 1) / width - 1)[None, None, :]
    y = ((torch.arange(height, device=pixels.device, dtype=pixels.dtype) * 2 + 1) / height - 1)[None, :, None]
    axes = [theta[..., axis, 0] * x + theta[..., axis, 1] * y + theta[..., axis, 2] for axis in (0, 1)]
    return torch.stack(axes, dim=-1)


def _column(values: np.ndarray, pixels: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(pixels.device, pixels.dtype)[:, None, None, None]

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

_DRAWS = 10


@dataclass(frozen=True)
class Changes:
    """One row a picture: `window` [n, 2, 3] from output to input coordinates (both -1..1), `contrast` [n], `brightness` [n]."""

    window: np.ndarray
    contrast: np.ndarray
    brightness: np.ndarray


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
    return Changes(window, 1 + options.intensity * either[:, 9], options.intensity * either[:, 8])


def active(options: AugmentOptions) -> bool:
    """Whether any change is asked for."""
    return bool(options.flip or options.rotate or options.shift or options.zoom or options.crop or options.intensity)


def augment(pixels: torch.Tensor, changes: Changes, options: AugmentOptions, largest: float) -> torch.Tensor:
    """Apply the changes to pixels [n, c, h, w] of values 0..largest; floating point of the same range comes out."""
    pixels = pixels if pixels.is_floating_point() else pixels.float()
    if options.flip or options.rotate or options.shift or options.zoom or options.crop:
        # Edges are repeated outwards: black corners would tell the network which pictures were turned.
        pixels = F.grid_sample(pixels, _grid(changes.window, pixels), mode="bilinear", padding_mode="border", align_corners=False)
    if options.intensity:
        contrast, brightness = (_column(values, pixels) for values in (changes.contrast, changes.brightness))
        middle = largest / 2
        pixels = ((pixels - middle) * contrast + (middle + brightness * largest)).clamp(0, largest)
    return pixels


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

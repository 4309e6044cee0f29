"""The slices of a volume and a size in, that volume on another grid of voxels out, one slice in memory at a time.

Each axis is resampled by itself, as a sum of the old voxels weighted with a triangle: linear interpolation where voxels get smaller, and
where they get larger the triangle is as wide as the new voxels, which smooths away what they cannot hold (the antialiased linear filter
of Pillow).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse


def axis_weights(old: int, new: int, scale: float) -> sparse.csr_matrix:
    """float32 [new, old]: the share of each old voxel in each new one, both rows of voxels with the same middle.

    `scale`: width of a new voxel in old ones.  Rows add up to 1, or to 0 for a new voxel that lies outside the old ones
    by more than half (of them all, where they are less than one new voxel).
    """
    scale = round(scale, 6)  # 0.7 mm as a float32 of a header is not 0.7: what fits exactly shall not be blurred
    centres = (old - 1) / 2 + (np.arange(new) - (new - 1) / 2) * scale
    reach = max(1.0, scale)
    first = np.floor(centres - reach).astype(np.int64) + 1
    places = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)[None, :]
    share = np.clip(1 - np.abs(places - centres[:, None]) / reach, 0, None)
    covered = np.minimum(centres + scale / 2, old - 0.5) - np.maximum(centres - scale / 2, -0.5)
    outside = covered < min(scale, old) / 2 - 1e-9
    share[(places < 0) | (places >= old)] = 0  # the rest is scaled up to 1: beyond its edge a volume goes on as it ends
    share[outside] = 0
    total = share.sum(1, keepdims=True)
    share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    rows, columns = np.nonzero(share)
    entries = (share[rows, columns].astype(np.float32), (rows, places[rows, columns]))
    return sparse.csr_matrix(entries, shape=(new, old), dtype=np.float32)


def scales(shape: tuple[int, int, int], size: tuple[int, int, int], ratio: tuple[float, float, float] | None) -> tuple[float, ...]:
    """Width of a new voxel in old ones along each axis: `ratio` (new over old spacing), or what brings the whole volume to `size`."""
    return ratio if ratio is not None else tuple(old / new for old, new in zip(shape, size, strict=True))


def resample(
    slices: Iterable[np.ndarray], shape: tuple[int, int, int], size: tuple[int, int, int], ratio: tuple[float, float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [size], bool [size] which of its voxels lie in the volume; the others are 0), both with the same middle.

    `slices`: the `shape[0]` slices, each float32 [shape[1], shape[2]]; `ratio`: new over old spacing, None brings the whole volume to
    `size`.
    """
    along, down, across = (axis_weights(*one) for one in zip(shape, size, scales(shape, size, ratio), strict=True))
    per_slice = along.tocsc()
    made = np.zeros(size, np.float32)
    for place, plane in enumerate(slices):
        some = slice(per_slice.indptr[place], per_slice.indptr[place + 1])
        if some.start == some.stop:
            continue  # cut away
        small = np.ascontiguousarray((across @ np.ascontiguousarray((down @ plane).T)).T)
        for row, share in zip(per_slice.indices[some], per_slice.data[some], strict=True):
            made[row] += share * small
    inside = [np.diff(one.indptr) > 0 for one in (along, down, across)]
    return made, inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]

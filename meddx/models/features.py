"""Prepared inputs in, one plain matrix for scikit-learn out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from meddx.inputs.types import Prepared

PIXELS = 28  # a picture counts as at most 28 x 28 features a channel


def feature_matrix(specs: Mapping[str, Mapping[str, Any]], prepared: Mapping[str, Prepared]) -> np.ndarray:
    """float32 [n, f]: for each input its numbers (NaN where missing) and category codes, or its pixels in 0..1.

    The numbers are on the preparation's scale.  A case without an optional input has NaN numbers and pixels, and code 0.
    """
    parts = []
    for name, spec in specs.items():
        one = prepared[name]
        absent = ~one.present
        if spec["kind"] == "image":
            part = shrink(one.arrays["pixels"], float(spec["max"])).reshape(len(absent), -1)
            parts.append(np.where(absent[:, None], np.float32(np.nan), part))
            continue
        missing = (one.arrays["missing"] > 0) | absent[:, None]
        parts.append(np.where(missing, np.float32(np.nan), one.arrays["numbers"]))
        parts.append(np.where(absent[:, None], 0, one.arrays["codes"]).astype(np.float32))
    return np.concatenate(parts, axis=1, dtype=np.float32)


def category_places(specs: Mapping[str, Mapping[str, Any]]) -> dict[int, int]:
    """Column of `feature_matrix` to number of levels, for the columns that are category codes."""
    places, place = {}, 0
    for spec in specs.values():
        if spec["kind"] == "image":
            place += spec["channels"] * min(PIXELS, spec["size"]) ** 2
            continue
        place += spec["numbers"]
        for levels in spec["categories"]:
            places[place] = int(levels)
            place += 1
    return places


def shrink(pixels: np.ndarray, full: float) -> np.ndarray:
    """float32 [n, c, s, s] in 0..1 with s at most 28, by exact area averages of [n, c, size, size] in 0..full."""
    size = pixels.shape[-1]
    if size <= PIXELS:
        return pixels.astype(np.float32) / np.float32(full)
    areas = area_weights(size, PIXELS)
    result = np.empty((*pixels.shape[:2], PIXELS, PIXELS), np.float32)
    for start in range(0, len(pixels), 256):  # so that the floats of all pictures never exist at once
        result[start : start + 256] = areas @ (pixels[start : start + 256].astype(np.float32) / np.float32(full)) @ areas.T
    return result


def area_weights(size: int, new: int) -> np.ndarray:
    """float32 [new, size]: row i holds the share of each old pixel in new pixel i; rows add up to 1."""
    edges = np.arange(new + 1) * (size / new)
    old = np.arange(size)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    shares: np.ndarray = (np.clip(overlap, 0, None) * (new / size)).astype(np.float32)
    return shares

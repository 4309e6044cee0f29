"""Prepared inputs in, plain matrices for scikit-learn out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from scipy import sparse

from meddx.errors import DataError, RecipeError
from meddx.inputs.types import Prepared
from meddx.models.textfeatures import word_counts

PIXELS = 28  # a picture counts as at most 28 x 28 features a channel
CELLS = 6  # a volume as the means of at most 6 x 6 x 6 blocks
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)  # ... and these of its voxels


@dataclass(frozen=True)
class Features:
    """What a baseline sees of n cases.

    `dense`: float32 [n, f]; `places`: its columns that are category codes, with their levels; `raw`: its columns in
    units of their own, which a linear model must scale; `texts`: a sparse matrix of n rows for each text input.
    """

    dense: np.ndarray
    places: Mapping[int, int]
    raw: tuple[int, ...] = ()
    texts: tuple[sparse.csr_matrix, ...] = ()

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def width(self) -> int:
        """Columns that a row has something in, on average, for the bounds of searches."""
        return int(self.dense.shape[1] + sum(one.nnz for one in self.texts) / max(1, len(self)))

    def take(self, rows: np.ndarray) -> Features:
        """Some rows: positions or a mask."""
        return Features(self.dense[rows], self.places, self.raw, tuple(one[rows] for one in self.texts))


def features_of(specs: Mapping[str, Mapping[str, Any]], prepared: Mapping[str, Prepared]) -> Features:
    """All inputs side by side; texts as counts of words and pairs."""
    texts = tuple(
        word_counts(prepared[name].arrays["tokens"], prepared[name].arrays["length"] * prepared[name].present, int(spec["words"]))
        for name, spec in specs.items()
        if spec["kind"] == "text"
    )
    return Features(feature_matrix(specs, prepared), category_places(specs), raw_places(specs), texts)


def feature_matrix(specs: Mapping[str, Mapping[str, Any]], prepared: Mapping[str, Prepared]) -> np.ndarray:
    """float32 [n, f]: for each input but texts its columns, NaN where missing.

    A table: its numbers on the preparation's scale and its category codes; a picture: its pixels in 0..1; a volume: means of blocks and
    quantiles; signals and events: their summary.  A case without an optional input has NaN, and code 0.
    """
    rows = len(next(iter(prepared.values())).present)
    parts: list[np.ndarray] = []
    for name, spec in specs.items():
        one = prepared[name]
        absent = ~one.present[:, None]
        if spec["kind"] == "table":
            missing = one.arrays["missing"] > 0
            gaps = missing.any() or absent.any()
            parts.append(np.where(missing | absent, np.float32(np.nan), one.arrays["numbers"]) if gaps else one.arrays["numbers"])
            parts.append(np.where(absent, 0, one.arrays["codes"]).astype(np.float32))
        elif spec["kind"] != "text":
            part = _numbers(name, spec, one)
            parts.append(np.where(absent, np.float32(np.nan), part.reshape(rows, prod(part.shape[1:]))))
    parts = [part for part in parts if part.shape[1]]
    if len(parts) == 1 and parts[0].dtype == np.float32 and parts[0].flags.c_contiguous:
        return parts[0]  # a large table waits for its memory
    return np.concatenate([np.zeros((rows, 0), np.float32), *parts], axis=1, dtype=np.float32)


def _numbers(name: str, spec: Mapping[str, Any], one: Prepared) -> np.ndarray:
    """The dense columns [n, ...] of an input that is no table and no text."""
    if spec["kind"] == "image":
        return _pictures(spec, one.arrays)
    if spec["kind"] == "volume":
        return blocks(one.arrays["pixels"])
    width = _widths(spec)[0]
    if "summary" not in one.aside and not one.present.any():
        return np.full((len(one.present), width), np.nan, np.float32)
    if "summary" not in one.aside or one.aside["summary"].shape[1] != width:
        raise DataError(f"the input {name} was prepared without its summary", "baseline")
    return one.aside["summary"]


def _pictures(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """[n, c, s, s] in 0..1; of several pictures a case the mean (many `max`: the maximum) of each pixel, NaN where it has none."""
    pixels, full = arrays["pixels"], float(spec["max"])
    if pixels.ndim == 4:
        return shrink(pixels, full)
    items = arrays["items"].astype(bool)
    each = shrink(pixels.reshape(pixels.shape[0] * pixels.shape[1], *pixels.shape[2:]), full)
    each = each.reshape(*pixels.shape[:2], *each.shape[1:])
    there = items[:, :, None, None, None]
    if spec.get("many") == "max":
        folded = np.where(there, each, -np.inf).max(axis=1)
    else:
        folded = np.where(there, each, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return np.where(np.asarray(there.any(axis=1)), folded, np.nan).astype(np.float32)


def _widths(spec: Mapping[str, Any]) -> tuple[int, list[int], bool]:
    """(number columns, levels of the code columns after them, whether the numbers have units of their own)."""
    kind = spec["kind"]
    if kind == "image":
        return int(spec["channels"] * min(PIXELS, spec["size"]) ** 2), [], False
    if kind == "volume":
        return int(spec["channels"]) * (prod(min(CELLS, side) for side in spec["size"]) + len(QUANTILES)), [], False
    if kind == "table":
        return int(spec["numbers"]), [int(levels) for levels in spec["categories"]], False
    if kind in ("signal", "events"):
        return len(spec["summary_names"]), [], True
    if kind == "text":
        return 0, [], False
    raise RecipeError(f"no baseline looks at an input of kind {kind}", "baselines", "name the others in `inputs`")


def category_places(specs: Mapping[str, Mapping[str, Any]]) -> dict[int, int]:
    """Column of `feature_matrix` to number of levels, for the columns that are category codes."""
    places, place = {}, 0
    for spec in specs.values():
        numbers, levels, _ = _widths(spec)
        places.update({place + numbers + at: one for at, one in enumerate(levels)})
        place += numbers + len(levels)
    return places


def raw_places(specs: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
    """The columns of `feature_matrix` that no preparation has scaled: summaries."""
    found: list[int] = []
    place = 0
    for spec in specs.values():
        numbers, levels, raw = _widths(spec)
        found.extend(range(place, place + numbers) if raw else ())
        place += numbers + len(levels)
    return tuple(found)


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


def blocks(pixels: np.ndarray) -> np.ndarray:
    """float32 [n, c * (blocks + quantiles)] of volumes [n, c, d, h, w]: exact block averages, then quantiles of the voxels."""
    sides = pixels.shape[2:]
    deep, down, across = (area_weights(side, min(CELLS, side)) for side in sides)
    width = deep.shape[0] * down.shape[0] * across.shape[0]
    made = np.empty((*pixels.shape[:2], width + len(QUANTILES)), np.float32)
    for place in np.ndindex(*pixels.shape[:2]):  # one at a time: in-plane first, so that little is held
        plain = np.asarray(pixels[place], np.float32)
        small = down @ plain @ across.T
        made[place][:width] = np.tensordot(deep, small, 1).ravel()
        made[place][width:] = np.quantile(plain, QUANTILES)
    return made.reshape(len(pixels), prod(made.shape[1:]))


def area_weights(size: int, new: int) -> np.ndarray:
    """float32 [new, size]: row i holds the share of each old pixel in new pixel i; rows add up to 1."""
    edges = np.arange(new + 1) * (size / new)
    old = np.arange(size)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    shares: np.ndarray = (np.clip(overlap, 0, None) * (new / size)).astype(np.float32)
    return shares

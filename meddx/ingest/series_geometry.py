"""The slices of one series in; the same in their order in space, and the affine of the volume, or why they make none, out.

The order is by position along the normal, never by file name or instance number.  A tilted gantry is refused: its affine would be sheared,
what reads a volume by its spacing would show a leaning patient, and straightening it would invent values; that is for a tool that
shows what it does.  A slice missing at either end cannot be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from meddx.ingest import volume
from meddx.ingest.headers import Unreadable
from meddx.ingest.series_header import Slice

SAME_PLACE = 1e-3  # mm
UNEVEN = 0.1  # of the usual gap
ROUNDED = 0.101  # mm: positions are often written with one decimal, so that two gaps may differ by so much
SAME_ANGLE = 1e-3
ASKEW = 0.01
SCOUT_ANGLE = math.cos(math.radians(30))


def without_strangers(slices: Sequence[Slice]) -> tuple[list[Slice], list[Slice]]:
    """(the slices, pictures that only share their series): at most two, or a tenth, of another direction, or without a place at all.

    A scout lies across the rest; a screen capture has no place and is of another class.  More of them are not decided here, nor is an
    orientation that is none: that is damage, and must not pass for a scout.
    """
    normals = [None if one.orientation is None else _normal(one.orientation) for one in slices]
    placed = [normal for normal in normals if normal is not None]
    if not placed:
        return list(slices), []
    votes = [sum(abs(float(normal @ other)) > SCOUT_ANGLE for other in placed) for normal in placed[:64]]
    main = placed[int(np.argmax(votes))]
    usual = next(one.sop_class for one, normal in zip(slices, normals, strict=True) if normal is main)
    strange = [
        one.sop_class != usual if normal is None else abs(float(normal @ main)) <= SCOUT_ANGLE and _askew(one) <= ASKEW
        for one, normal in zip(slices, normals, strict=True)
    ]
    if not 0 < sum(strange) <= max(2, len(slices) // 10) or 2 * sum(strange) >= len(slices):
        return list(slices), []
    both = list(zip(slices, strange, strict=True))
    return [one for one, odd in both if not odd], [one for one, odd in both if odd]


def arrange(slices: Sequence[Slice]) -> tuple[list[Slice], np.ndarray]:
    """(slices in their order along the normal, float64 [4, 4] from (column, row, slice) to mm right, front, up).

    DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, with x and y turned round, for NIfTI counts to the right and the front.
    Raises Unreadable: slice_truncated, header_wrong, one_slice, series_mixed, volume_too_large, position_missing, spacing_bad,
    slice_twice, slice_missing, gantry_tilt.
    """
    _check_headers(slices)
    if len(slices) < 2:
        raise Unreadable("one_slice", "a single slice is no volume")
    if len({one.kind for one in slices}) > 1:
        raise Unreadable("series_mixed", "its pictures differ in size, kind, study or patient")
    first = slices[0]
    volume.check_size((first.columns, first.rows, len(slices)), 4 if _scales(slices) > 1 else 2)
    _check_planes(slices)
    assert first.orientation is not None and first.spacing is not None
    across, down = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = _normal(first.orientation)
    places = np.array([one.position for one in slices], np.float64)
    heights = places @ normal
    order = sorted(range(len(slices)), key=lambda i: (heights[i], slices[i].uid))
    places, heights = places[order], heights[order]
    _check_gaps(heights)
    step = (places[-1] - places[0]) / (len(places) - 1)
    _check_line(places, step, normal)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = across * first.spacing[1], down * first.spacing[0], step, places[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    volume.check_affine(affine)
    return [slices[i] for i in order], affine


def _check_headers(slices: Sequence[Slice]) -> None:
    cut = sum(one.rows < 1 for one in slices)
    if cut:
        raise Unreadable("slice_truncated", f"{cut} of {len(slices)} slices: no size in the header")
    wrong = sum(not math.isfinite(one.slope + one.intercept) for one in slices)
    if wrong:
        raise Unreadable("header_wrong", f"{wrong} of {len(slices)} slices: rescale slope or intercept is no usable number")


def _scales(slices: Sequence[Slice]) -> int:
    return len({(one.slope, one.intercept) for one in slices})


def _normal(orientation: Sequence[float]) -> np.ndarray:
    """float64 [3]: the direction in which slices follow one another, of length 1 where the orientation is sound."""
    return np.cross(np.array(orientation[:3]), np.array(orientation[3:]))


def _askew(one: Slice) -> float:
    """How far the two directions of an orientation are from length 1 and right angles."""
    assert one.orientation is not None
    axes = np.array(one.orientation).reshape(2, 3)
    return float(np.abs(axes @ axes.T - np.eye(2)).max())


def _check_planes(slices: Sequence[Slice]) -> None:
    """All placed, in one orientation and spacing, both possible."""
    without = sum(one.position is None or one.orientation is None or one.spacing is None for one in slices)
    if without:
        raise Unreadable("position_missing", f"{without} of {len(slices)} slices have no position, orientation or spacing")
    spacing = np.array([one.spacing for one in slices])
    if spacing.min() <= 0:
        raise Unreadable("spacing_bad", "a distance between pixels is not above zero")
    if max(_askew(one) for one in slices) > ASKEW:
        raise Unreadable("spacing_bad", "an orientation is not of two directions at right angles")
    turned = np.array([one.orientation for one in slices])
    if np.abs(turned - turned[0]).max() > SAME_ANGLE or np.abs(spacing / spacing[0] - 1).max() > SAME_ANGLE:
        raise Unreadable("series_mixed", "its slices differ in orientation or spacing")


def _check_gaps(heights: np.ndarray) -> None:
    """One slice a place, the places evenly apart: each gap near the usual one, and no drift that adds up to half a slice."""
    gaps = np.diff(heights)
    twice = int((gaps < SAME_PLACE).sum())
    if twice:
        raise Unreadable("slice_twice", f"{twice} of {len(heights)} slices lie where another one lies")
    usual = float(np.median(gaps))
    wide = int((np.abs(gaps - usual) > _tolerance(usual)).sum())
    even = np.linspace(heights[0], heights[-1], len(heights))
    if wide or np.abs(heights - even).max() > usual / 2:
        raise Unreadable("slice_missing", f"{wide or 'some'} of {len(gaps)} gaps between slices are uneven")


def _tolerance(gap: float) -> float:
    """mm by which a slice may lie off; never so much that a missing one goes unseen."""
    return max(UNEVEN * gap, min(ROUNDED, gap / 3))


def _check_line(places: np.ndarray, step: np.ndarray, normal: np.ndarray) -> None:
    """The slices follow one another along the normal, within a degree, and none stands out sideways."""
    aside = step - (step @ normal) * normal
    if float(np.linalg.norm(aside)) > volume.MAX_SHEAR * float(np.linalg.norm(step)):
        raise Unreadable("gantry_tilt", "the slices do not follow one another at right angles to their plane")
    off = places - places[0] - np.arange(len(places))[:, None] * step
    sideways = off - np.outer(off @ normal, normal)
    if np.linalg.norm(sideways, axis=1).max() > _tolerance(float(np.linalg.norm(step))):
        raise Unreadable("series_mixed", "its slices are shifted against one another")

"""Stored voxels and where they lie in; the bytes of one NIfTI-1 file, with limits and a check of the affine, out."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.ingest.headers import Unreadable

MAX_VOXELS = 1 << 28  # 1,024 slices of 512 x 512
MAX_BYTES = 1 << 30  # as stored, not compressed
MAX_SIDE = 32_767  # NIfTI-1 states a side in 16 bits
SPACINGS = (1e-4, 1e3)  # mm
MAX_SHEAR = math.sin(math.radians(1))  # what reads a volume by its spacing alone is wrong by less than 2 % up to here
NUMBERS = ("slices", "pixel_rows", "pixel_columns", "spacing_row_mm", "spacing_col_mm", "slice_mm")
FIELDS: list[tuple[str, pa.DataType]] = [(name, pa.float64()) for name in NUMBERS]
STORED = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def check_size(sides: Sequence[int], itemsize: int) -> None:
    """Refuse before anything is allocated.  Raises Unreadable: volume_too_large."""
    voxels = math.prod(sides)
    if voxels > MAX_VOXELS or voxels * itemsize > MAX_BYTES or max(sides) > MAX_SIDE:
        raise Unreadable("volume_too_large", f"more than {MAX_VOXELS:,} voxels, {MAX_BYTES >> 20:,} MB or {MAX_SIDE:,} along a side")


def check_affine(affine: np.ndarray) -> None:
    """Refuse an affine (float64 [4, 4], voxel to mm) that is no picture of space.  Raises Unreadable: spacing_bad."""
    if not np.isfinite(affine).all():
        raise Unreadable("spacing_bad", "the affine is not finite")
    sides = spacing_of(affine)
    if sides.min() < SPACINGS[0] or sides.max() > SPACINGS[1]:
        raise Unreadable("spacing_bad", "a distance between voxels is zero or impossible")
    if abs(np.linalg.det(affine[:3, :3] / sides)) < 0.1:
        raise Unreadable("spacing_bad", "the affine is flat")


def shear_of(affine: np.ndarray) -> float:
    """The largest cosine between two of the three axes: 0 where they are at right angles."""
    axes = affine[:3, :3] / spacing_of(affine)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """float64 [3]: mm from voxel to voxel along columns, rows and slices."""
    spacing: np.ndarray = np.sqrt((affine[:3, :3] ** 2).sum(0))
    return spacing


def _kept(affine: np.ndarray) -> np.ndarray:
    """The affine as NIfTI-1 will hold it, so that what is said of a volume is what a reader of it finds."""
    return affine.astype(np.float32).astype(np.float64)


def numbers_of(stored: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """The columns of FIELDS for voxels [slices, rows, columns]; rows are `spacing_row_mm` apart."""
    across, down, along = (float(one) for one in np.round(spacing_of(_kept(affine)), 6))
    return dict(zip(NUMBERS, (*map(float, stored.shape), down, across, along), strict=True))


def encode(stored: np.ndarray, affine: np.ndarray, slope: float = 1.0, intercept: float = 0.0, known: bool = True) -> bytes:
    """The .nii.gz bytes of voxels [slices, rows, columns], whose value is slope * stored + intercept; the same bytes each time.

    `affine`: float64 [4, 4], (column, row, slice) to mm right, front, up; kept in float32, as NIfTI-1 does.  `known` false: nothing is
    claimed of the orientation.  Nothing else goes into the header: the texts and extensions of a file may name a patient.
    """
    header = _header(stored, _kept(affine), slope, intercept, known)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as out:
        out.write(header.binaryblock + b"\0\0\0\0")  # and no extensions
        out.write(np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data)
    return buffer.getvalue()


def _header(stored: np.ndarray, affine: np.ndarray, slope: float, intercept: float, known: bool) -> Any:
    from nibabel.nifti1 import Nifti1Header

    make: Any = Nifti1Header
    header = make(endianness="<")
    header.set_data_dtype(stored.dtype.newbyteorder("<"))
    header.set_data_shape(stored.shape[::-1])  # NIfTI's first index runs fastest
    header.set_zooms(spacing_of(affine))
    header.set_xyzt_units("mm")
    if known:
        header.set_qform(affine, code=1)
        header.set_sform(affine, code=1)
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header

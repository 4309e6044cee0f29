"""The bytes of one NIfTI volume in; its slices as a radiologist pages through them, and their spacing, or a reason why not, out.

The header is read, and its sizes are checked, before anything else is unpacked: of a compressed file no more is inflated than its header
speaks for.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_VOXELS = 1 << 28  # 1,024 slices of 512 x 512
MAX_BYTES = 1 << 30
MAX_OFFSET = 1 << 24  # header extensions before the voxels
_PIECE = 1 << 17
_GZIP = b"\x1f\x8b"
_HEADERS = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\x1a\n")}  # bytes of a header: where its magic stands; both in one file
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # anything else counts as mm
_SPACINGS = (1e-4, 1e3)  # mm


class VolumeError(ValueError):
    """A volume that cannot be used; the text is the reason code: volume_unreadable, volume_too_large, spacing_bad, not_3d or
    volume_not_finite."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """Sizes along the three stored axes, type and place of the voxels, the value of a stored number v as slope * v + intercept,
    and the affine (float64 [4, 4]) from stored place to mm right, front and up (RAS)."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: np.ndarray


@dataclass(frozen=True)
class Volume:
    """Voxels as stored, [slices from foot to head, rows from front to back, columns from the patient's right to the left], a view.

    That is LPS, how DICOM orders an axial series and how it is looked at.  `spacing`: mm along these axes.
    """

    stored: np.ndarray
    spacing: tuple[float, float, float]
    slope: float
    intercept: float

    def slices(self) -> Iterator[np.ndarray]:
        """float32 [rows, columns] a slice, in the units of the file.  VolumeError (volume_not_finite) for NaN or infinite values."""
        for plane in self.stored:
            with np.errstate(over="ignore", invalid="ignore"):
                values = plane.astype(np.float64) * self.slope + self.intercept if self._scaled else plane
                values = np.asarray(values, np.float32)
            if not np.isfinite(values).all():
                raise VolumeError("volume_not_finite")
            yield np.ascontiguousarray(values)

    @property
    def _scaled(self) -> bool:
        return self.slope != 1 or self.intercept != 0


class _Source:
    """Bytes of a file, inflated where they are packed, never more than is asked for.  VolumeError where they are damaged."""

    def __init__(self, data: bytes) -> None:
        plain = io.BytesIO(data)
        self._packed = data.startswith(_GZIP)
        self._file: Any = gzip.GzipFile(fileobj=plain) if self._packed else plain
        self.place = 0

    def read(self, count: int) -> bytearray:
        """Exactly `count` bytes more."""
        made, at = bytearray(count), 0
        try:
            while at < count:  # in pieces: in one go gzip would hold them twice
                piece = self._file.read(min(_PIECE, count - at))
                if not piece:
                    raise VolumeError("volume_unreadable")
                made[at : at + len(piece)] = piece
                at += len(piece)
        except (OSError, EOFError, zlib.error) as error:  # OSError: a bad gzip header or checksum
            raise VolumeError("volume_unreadable") from error
        self.place += count
        return made

    def close(self) -> None:
        """Look for the checksum at the end, where the end is near."""
        if self._packed:
            try:
                self._file.read(1 << 16)
            except (OSError, EOFError, zlib.error) as error:
                raise VolumeError("volume_unreadable") from error


def read_header(source: _Source) -> Header:
    """The header of a NIfTI-1 or NIfTI-2 file, checked.  VolumeError with the reason code where it cannot be."""
    from nibabel import nifti1, nifti2
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    block = bytes(source.read(348))
    size = next((size for size in _HEADERS if size in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))), 0)
    if not size:
        raise VolumeError("volume_unreadable")
    block += source.read(size - 348)
    place, magic = _HEADERS[size]
    if block[place : place + len(magic)] != magic:
        raise VolumeError("volume_unreadable")
    kind: Any = nifti1.Nifti1Header if size == 348 else nifti2.Nifti2Header
    try:
        return _checked(kind(block, check=False), size)
    except VolumeError:
        raise
    except (HeaderDataError, WrapStructError, KeyError, OverflowError, ValueError) as error:
        raise VolumeError("volume_unreadable") from error


def _checked(header: Any, size: int) -> Header:
    """What the header says, where it can be.  Sizes come first: nothing else matters of a volume that is too large."""
    shape = _shape(header)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError("volume_unreadable")  # colours, complex numbers, 128 bit
    if math.prod(shape) > MAX_VOXELS or math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise VolumeError("volume_too_large")
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset != int(offset) or not (offset == 0 or size <= offset <= MAX_OFFSET):
        raise VolumeError("volume_unreadable")
    slope, intercept = (None if one is None else float(one) for one in header.get_slope_inter())
    return Header(shape, dtype, int(offset) or size + 4, 1.0 if slope is None else slope, intercept or 0.0, _affine(header))


def _shape(header: Any) -> tuple[int, int, int]:
    dimensions = [int(one) for one in header["dim"]]
    if not 1 <= dimensions[0] <= 7 or min(dimensions[1 : dimensions[0] + 1]) < 1:
        raise VolumeError("volume_unreadable")
    sides = dimensions[1 : dimensions[0] + 1]
    if len(sides) < 3 or any(one > 1 for one in sides[3:]):
        raise VolumeError("not_3d")
    return sides[0], sides[1], sides[2]


def _affine(header: Any) -> np.ndarray:
    """In mm.  VolumeError (spacing_bad) where it is no picture of space: not finite, flat, or of impossible spacing."""
    try:
        with np.errstate(all="ignore"):
            affine: np.ndarray = np.asarray(header.get_best_affine(), np.float64)
    except ValueError as error:  # a quaternion longer than 1
        raise VolumeError("spacing_bad") from error
    try:
        affine = affine * np.array([[_MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)]] * 3 + [[1.0]])
    except KeyError:  # a unit that NIfTI does not know
        raise VolumeError("spacing_bad") from None
    if not np.isfinite(affine).all():
        raise VolumeError("spacing_bad")
    sides = _sides(affine)
    if sides.min() < _SPACINGS[0] or sides.max() > _SPACINGS[1] or abs(np.linalg.det(affine[:3, :3] / sides)) < 0.1:
        raise VolumeError("spacing_bad")
    return affine


def _sides(affine: np.ndarray) -> np.ndarray:
    """float64 [3]: mm from voxel to voxel along each stored axis."""
    sides: np.ndarray = np.sqrt((affine[:3, :3] ** 2).sum(0))
    return sides


def read_volume(data: bytes) -> Volume:
    """The volume of a whole NIfTI file (.nii, or .nii.gz).  VolumeError with the reason code where it cannot be.

    Axes are permuted and reversed, never turned by an angle: an oblique series keeps its own slices.  A file without an orientation
    (neither qform nor sform) is taken as nibabel takes it: stored columns from right to left, stored rows from back to front.
    """
    from nibabel import orientations

    known: Any = orientations
    source = _Source(data)
    header = read_header(source)
    source.read(header.offset - source.place)
    voxels = np.frombuffer(source.read(math.prod(header.shape) * header.dtype.itemsize), header.dtype).reshape(header.shape, order="F")
    source.close()
    turn = known.ornt_transform(known.io_orientation(header.affine), known.axcodes2ornt(("L", "P", "S")))
    sides = _sides(header.affine)[np.argsort(turn[:, 0])]
    stored = np.asarray(known.apply_orientation(voxels, turn)).transpose(2, 1, 0)
    return Volume(stored, (float(sides[2]), float(sides[1]), float(sides[0])), header.slope, header.intercept)

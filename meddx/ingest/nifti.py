"""One NIfTI file (.nii, .nii.gz; NIfTI-1 or -2) in; its voxels as a clean .nii.gz, and their sizes, out.

The header is checked before anything else is unpacked, and no more is inflated than it speaks for.  nibabel reads the header; the voxels
are then a plain run of numbers.  Their values, and slope and intercept, are kept as they are, NaN too: what that means for a
model is its input's business.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.ingest import volume
from meddx.ingest.headers import Unreadable

FIELDS: list[tuple[str, pa.DataType]] = [*volume.FIELDS, ("orientation", pa.string())]
MAX_OFFSET = 1 << 24  # extensions between header and voxels
MOST_BEHIND = 1 << 20  # bytes behind the voxels that are no bomb yet
PIECE = 1 << 20
_HEADERS = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\x1a\n")}  # bytes of a header: where its magic stands, both of one file
_IN_MM = {"meter": 1000.0, "micron": 0.001}  # anything else counts as mm


@dataclass(frozen=True)
class _Header:
    """`sides`: along the three stored axes; `affine`: float64 [4, 4], stored place to mm; `orientation`: where it comes from."""

    sides: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: np.ndarray
    orientation: str


def decode(data: bytes) -> dict[str, Any]:
    """The columns of FIELDS and `volume`.  `orientation`: sform, qform, or pixdim, where the file does not say which side is left.

    Raises Unreadable: not_nifti, header_wrong, not_3d, one_slice, pixels_unsupported (colours, complex numbers), volume_too_large,
    spacing_bad, affine_sheared, volume_truncated, volume_damaged, volume_bomb.
    """
    source = _Source(data)
    header = _read_header(source)
    count = math.prod(header.sides)
    source.check(header.offset + count * header.dtype.itemsize)
    source.skip_to(header.offset)
    raw = source.read(count * header.dtype.itemsize)
    source.finish()
    stored = np.frombuffer(raw, header.dtype, count).reshape(header.sides[::-1])
    done = volume.encode(stored, header.affine, header.slope, header.intercept, known=header.orientation != "pixdim")
    return {**volume.numbers_of(stored, header.affine), "orientation": header.orientation, "volume": done}


class _Source:
    """The bytes of a file in their order, inflated where they are packed; never more than is asked for."""

    def __init__(self, data: bytes) -> None:
        self._size = None if data.startswith(b"\x1f\x8b") else len(data)
        self._file: Any = io.BytesIO(data) if self._size is not None else gzip.GzipFile(fileobj=io.BytesIO(data))
        self._place = 0

    def check(self, end: int) -> None:
        """Refuse a plain file that ends before byte `end`, before anything is allocated for it."""
        if self._size is not None and self._size < end:
            raise Unreadable("volume_truncated", "the file is shorter than its header says")

    def read(self, count: int) -> bytearray:
        """The next `count` bytes, gathered piece by piece, so that memory follows what is there and not what is claimed."""
        found = bytearray()
        while len(found) < count:
            piece = self._piece(min(PIECE, count - len(found)))
            if not piece:
                raise Unreadable("volume_truncated", "the file is shorter than its header says")
            found += piece
        self._place += count
        return found

    def skip_to(self, place: int) -> None:
        """Go on to byte `place`, at most MAX_OFFSET ahead."""
        if place > self._place:
            self.read(place - self._place)

    def finish(self) -> None:
        """Read a packed file to its checksum; much more than the voxels is a bomb."""
        behind = 0
        while self._size is None and (piece := self._piece(PIECE)):
            behind += len(piece)
            if behind > MOST_BEHIND:
                raise Unreadable("volume_bomb", "it unpacks to far more than its header says")

    def _piece(self, count: int) -> bytes:
        try:
            return bytes(self._file.read(count))
        except EOFError:
            raise Unreadable("volume_truncated", "the compressed file is cut") from None
        except (OSError, zlib.error) as error:  # OSError: a bad gzip header or checksum; the bytes are in memory, so no storage is meant
            raise Unreadable("volume_damaged", "the compressed file is damaged") from error


def _read_header(source: _Source) -> _Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        block = bytes(source.read(348))
    except Unreadable as why:
        raise Unreadable("not_nifti", "shorter than a header") if why.reason == "volume_truncated" else why from why
    size = next((one for one in _HEADERS if one in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))), 0)
    place, magic = _HEADERS.get(size, (0, b"no"))
    if block[place : place + len(magic)] != magic:
        raise Unreadable("not_nifti", "it does not begin like a NIfTI file that holds header and voxels")
    if size > len(block):
        block += bytes(source.read(size - len(block)))
    try:
        make: Any = Nifti1Header if size == 348 else Nifti2Header
        return _checked(make(block, check=False), size)
    except (HeaderDataError, WrapStructError, KeyError, OverflowError, ValueError, TypeError) as error:
        raise Unreadable("header_wrong", type(error).__name__) from error


def _checked(header: Any, size: int) -> _Header:
    """What the header says.  Sizes come first: nothing else matters of a volume that is too large."""
    sides = _sides(header)
    dtype = header.get_data_dtype()
    if dtype.newbyteorder("=").name not in volume.STORED:
        raise Unreadable("pixels_unsupported", "its numbers are colours, complex or of an unusual width")
    volume.check_size(sides, dtype.itemsize)
    offset = float(header["vox_offset"])
    if not (offset == 0 or size <= offset <= MAX_OFFSET) or offset != int(offset):
        raise Unreadable("header_wrong", "the voxels begin at an impossible place")
    slope, intercept = header.get_slope_inter()
    affine, orientation = _affine(header)
    scale = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    return _Header(sides, dtype, int(offset) or size + 4, *scale, affine, orientation)


def _sides(header: Any) -> tuple[int, int, int]:
    dims = [int(one) for one in header["dim"]]
    if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        raise Unreadable("header_wrong", "impossible sizes")
    sides = dims[1 : dims[0] + 1]
    if len(sides) < 3 or any(one > 1 for one in sides[3:]):
        raise Unreadable("not_3d", f"{sum(one > 1 for one in sides)} dimensions")
    if min(sides[:3]) < 2:
        raise Unreadable("one_slice", "a single plane is no volume")
    return sides[0], sides[1], sides[2]


def _affine(header: Any) -> tuple[np.ndarray, str]:
    """(affine in mm, where it comes from).  The voxel sizes must make sense too, whatever else the header says of them."""
    sizes = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    if not np.isfinite(sizes).all() or not sizes.min() > 0:
        raise Unreadable("spacing_bad", "a voxel size is zero or not a number")
    orientation = "sform" if int(header["sform_code"]) > 0 else "qform" if int(header["qform_code"]) > 0 else "pixdim"
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(header.get_best_affine(), np.float64)
        unit = _IN_MM.get(header.get_xyzt_units()[0], 1.0)
    except (ValueError, KeyError) as error:  # a quaternion longer than 1; a unit that NIfTI does not know
        raise Unreadable("spacing_bad", "the affine cannot be made") from error
    affine = np.diag([unit, unit, unit, 1.0]) @ affine if np.isfinite(affine).all() else affine
    volume.check_affine(affine)
    if volume.shear_of(affine) > volume.MAX_SHEAR:
        raise Unreadable("affine_sheared", "its axes are not at right angles; resample it first")
    return affine, orientation

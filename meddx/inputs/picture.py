"""The bytes of one PNG or JPEG in; its size from the header, its pixels, or a reason why not, out.

The header is read by hand before any decoder sees the bytes: an image bomb must not be unpacked to be found out, and
some decoders fill the rest of a cut-off picture with grey without saying so.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

MAX_PIXELS = 64_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the SOF markers
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length


class PictureError(ValueError):
    """A picture that cannot be used; the text is the reason code: image_bomb, image_truncated or image_unreadable."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """Width and height in pixels, bits a sample (8 or 16), channels in the file (1 or 3; transparency is not counted)."""

    kind: str
    width: int
    height: int
    bits: int
    channels: int


def read_header(data: bytes) -> Header:
    """The header of a whole PNG or JPEG.  PictureError for a bomb, a cut-off file, or anything else."""
    if data.startswith(_PNG):
        header = _png(data)
    elif data.startswith(_JPEG):
        header = _jpeg(data)
    else:
        raise PictureError("image_truncated" if _PNG.startswith(data) or _JPEG.startswith(data) else "image_unreadable")
    if header.width < 1 or header.height < 1:
        raise PictureError("image_unreadable")
    return header


def _limit(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError("image_bomb")


def _png(data: bytes) -> Header:
    """PNG, section 5 of the W3C recommendation: every chunk is length, type, data, CRC; the last is IEND."""
    place, header = len(_PNG), None
    while True:
        if place + 12 > len(data):
            raise PictureError("image_truncated")
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise PictureError("image_truncated")
        if zlib.crc32(data[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise PictureError("image_unreadable")
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise PictureError("image_unreadable")
            width, height, depth, colour = struct.unpack_from(">IIBB", data, place + 8)
            _limit(width, height)
            header = Header("png", width, height, 16 if depth == 16 else 8, 1 if colour in (0, 4) else 3)
        if kind == b"IEND":
            return header
        place = end


def _jpeg(data: bytes) -> Header:
    """JPEG, annex B of ITU-T T.81: markers up to the scan, then an end marker (in a scan 0xFF is always followed by 0)."""
    place, header = 2, None
    while True:
        if place + 4 > len(data):
            raise PictureError("image_truncated")
        if data[place] != 0xFF:
            raise PictureError("image_unreadable")
        marker = data[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        end = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
        if end > len(data):
            raise PictureError("image_truncated")
        if marker in _FRAMES:
            if end < place + 10:
                raise PictureError("image_unreadable")
            depth, height, width, parts = struct.unpack_from(">BHHB", data, place + 4)
            _limit(width, height)
            header = Header("jpeg", width, height, 8 if depth == 8 else 16, 1 if parts == 1 else 3)
        elif marker == 0xDA:
            if header is None:
                raise PictureError("image_unreadable")
            if data.rfind(b"\xff\xd9", end) < 0:
                raise PictureError("image_truncated")
            return header
        place = end


def _flags(header: Header, channels: int, size: int | None) -> int:
    """OpenCV's reading mode: grey or colour, full depth, and a JPEG at 1/2, 1/4 or 1/8 where that is still large enough."""
    if header.kind == "jpeg" and size:
        for part, colour, grey in (
            (8, cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        ):
            if max(header.width, header.height) >= part * size:
                return int(grey if channels == 1 else colour)
    return int((cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH)


def decode(data: bytes, channels: int, *, size: int | None = None, header: Header | None = None) -> np.ndarray:
    """uint8 or uint16 [channels, h, w] of a whole PNG or JPEG, turned as its EXIF says, without transparency.

    `size`: a JPEG may be decoded at a half, quarter or eighth as long as its longer side stays at least that long.
    `header`: of `read_header`, where it has been read.
    PictureError with the reason code where it cannot be.
    """
    header = header or read_header(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _flags(header, channels, size))
    except cv2.error as error:
        raise PictureError("image_unreadable") from error
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise PictureError("image_unreadable")
    if channels == 1:
        return np.asarray(pixels).reshape(1, *pixels.shape[:2])
    return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))


def fit_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """[c, size, size] of [c, h, w]: scaled with its proportions kept (area average down, linear up), black at the sides."""
    height, width = pixels.shape[1:]
    longest = max(height, width)
    new = (max(1, round(width * size / longest)), max(1, round(height * size / longest)))
    if new != (width, height):
        how = cv2.INTER_AREA if longest > size else cv2.INTER_LINEAR
        pixels = np.stack([cv2.resize(channel, new, interpolation=how) for channel in pixels])
    if new == (size, size):
        return pixels
    square = np.zeros((len(pixels), size, size), pixels.dtype)
    top, left = (size - new[1]) // 2, (size - new[0]) // 2
    square[:, top : top + new[1], left : left + new[0]] = pixels
    return square

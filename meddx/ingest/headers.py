"""The first bytes of a picture in; its kind and size out, before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 512 << 20
PNG = b"\x89PNG\r\n\x1a\n"
_NO_SIZE = {0xC4, 0xC8, 0xCC}  # in the range of the frame markers, yet tables or reserved


class Unreadable(Exception):
    """Why one row cannot be read: a reason code for the quarantine and a word about it, without values."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Size:
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def picture_size(data: bytes) -> Size:
    """The size that a PNG or JPEG states.  Raises Unreadable: not_image, image_truncated (no size in it), image_bomb."""
    if data.startswith(PNG):
        size = _png_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        size = jpeg_size(data)
    else:
        raise Unreadable("not_image", "neither PNG nor JPEG by its first bytes")
    if size is None or not size.pixels:
        raise Unreadable("image_truncated", "the header is cut")
    if size.pixels > MAX_PIXELS:
        raise Unreadable("image_bomb", f"more than {MAX_PIXELS:,} pixels")
    return size


def _png_size(data: bytes) -> Size | None:
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    return Size(*struct.unpack(">II", data[16:24]))


def jpeg_size(data: bytes) -> Size | None:
    """Width and height from the frame header (also of lossless JPEG and JPEG-LS), or None when there is none."""
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _NO_SIZE) or marker == 0xF7:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return Size(width, height)
        if marker == 0xDA:
            return None
        standalone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        place += 2 if standalone else 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    return None


def jpeg2000_size(data: bytes) -> Size | None:
    """Width and height from the SIZ segment of a JPEG 2000 codestream, bare or in a JP2 box."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(data) < start + 24:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[start + 8 : start + 24])
    return Size(right - left, bottom - top)


def check_whole(data: bytes) -> None:
    """Raises Unreadable(image_truncated) when a PNG's chunks or a JPEG's end are missing: decoders may fill up with grey."""
    if data.startswith(PNG):
        _check_png(data)
    elif b"\xff\xd9" not in data[-4096:]:
        raise Unreadable("image_truncated", "the JPEG has no end mark")


def _check_png(data: bytes) -> None:
    place = len(PNG)
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise Unreadable("image_damaged", "a checksum in the PNG is wrong")
        if data[place + 4 : place + 8] == b"IEND":
            return
        place = end
    raise Unreadable("image_truncated", "the PNG ends too early")

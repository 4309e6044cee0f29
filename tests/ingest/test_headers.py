"""Sizes are known before anything is decoded, and a cut file is known as cut."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from meddx.ingest.headers import PNG, Size, Unreadable, check_whole, jpeg2000_size, jpeg_size, picture_size

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 53), np.uint8)


def encoded(ending: str, pixels: np.ndarray = PIXELS) -> bytes:
    return bytes(cv2.imencode(ending, pixels)[1].tobytes())


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_sizes(ending):
    assert picture_size(encoded(ending)) == Size(53, 37)
    check_whole(encoded(ending))


def test_progressive_jpeg_with_metadata():
    data = bytes(cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    with_metadata = data[:2] + b"\xff\xe1" + struct.pack(">H", 302) + bytes(300) + b"\xff" + data[2:]  # an APP1 and a fill byte
    assert jpeg_size(with_metadata) == Size(53, 37)


def test_jpeg2000():
    if not cv2.haveImageWriter("a.jp2"):
        pytest.skip("this OpenCV writes no JPEG 2000")
    assert jpeg2000_size(encoded(".jp2")) == Size(53, 37)
    assert jpeg2000_size(b"nothing") is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "not_image"),
        (b"", "not_image"),
        (PNG + b"\0\0", "image_truncated"),
        (b"\xff\xd8\xff\xe0", "image_truncated"),
        (png_header(0, 5), "image_truncated"),
        (png_header(60_000, 60_000), "image_bomb"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03", "image_bomb"),
    ],
)
def test_refused_by_the_header_alone(data, reason):
    with pytest.raises(Unreadable) as why:
        picture_size(data)
    assert why.value.reason == reason


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_cut_picture_is_truncated(ending, share):
    data = encoded(ending)
    with pytest.raises(Unreadable, match="image_truncated"):
        check_whole(data[: int(len(data) * share)])


def test_a_flipped_bit_in_a_png_is_found():
    data = bytearray(encoded(".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(Unreadable, match="image_damaged"):
        check_whole(bytes(data))


def test_without_the_check_a_jpeg_with_a_hole_decodes_and_nobody_notices():
    """The twin: an interrupted copy leaves zeros at the end; OpenCV decodes what comes before an end mark, the check finds none."""
    data = encoded(".jpg", cv2.resize(PIXELS, (400, 400)))
    hole = bytes(len(data) // 2)
    assert cv2.imdecode(np.frombuffer(data[: -len(hole) - 2] + hole + data[-2:], np.uint8), cv2.IMREAD_UNCHANGED) is not None
    with pytest.raises(Unreadable, match="image_truncated"):
        check_whole(data[: -len(hole)] + hole)

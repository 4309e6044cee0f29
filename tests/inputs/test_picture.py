from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from meddx.inputs.picture import Header, PictureError, decode, fit_square, read_header


def gradient(height: int = 40, width: int = 60, colour: bool = False, bits: int = 8) -> np.ndarray:
    plane = np.add.outer(np.arange(height), np.arange(width)) * (255 if bits == 8 else 65535) // (height + width)
    plane = plane.astype(np.uint8 if bits == 8 else np.uint16)
    return np.stack([plane, plane[::-1], plane[:, ::-1]], 2) if colour else plane


def encoded(pixels: np.ndarray, kind: str = ".png", *flags: int) -> bytes:
    return bytes(cv2.imencode(kind, pixels, list(flags))[1])


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb_png(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", body) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")


def bomb_jpeg() -> bytes:
    data = bytearray(encoded(gradient(), ".jpg"))
    place = next(place for place in range(len(data)) if data[place] == 0xFF and data[place + 1] in (0xC0, 0xC2))
    data[place + 5 : place + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def reason(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, 1)
    return caught.value.reason


@pytest.mark.parametrize(
    ("pixels", "kind", "header"),
    [
        (gradient(), ".png", Header("png", 60, 40, 8, 1)),
        (gradient(bits=16), ".png", Header("png", 60, 40, 16, 1)),
        (gradient(colour=True), ".png", Header("png", 60, 40, 8, 3)),
        (gradient(colour=True, bits=16), ".png", Header("png", 60, 40, 16, 3)),
        (gradient(), ".jpg", Header("jpeg", 60, 40, 8, 1)),
        (gradient(colour=True), ".jpg", Header("jpeg", 60, 40, 8, 3)),
    ],
)
def test_headers_are_read_by_hand(pixels: np.ndarray, kind: str, header: Header) -> None:
    assert read_header(encoded(pixels, kind)) == header


@pytest.mark.parametrize("bits", [8, 16])
def test_png_comes_back_exactly_and_rgb_in_that_order(bits: int) -> None:
    grey = gradient(bits=bits)
    np.testing.assert_array_equal(decode(encoded(grey), 1)[0], grey)
    colour = gradient(colour=True, bits=bits)
    np.testing.assert_array_equal(decode(encoded(colour), 3), colour[:, :, ::-1].transpose(2, 0, 1))  # OpenCV writes BGR
    assert decode(encoded(colour), 1).shape == (1, 40, 60)
    np.testing.assert_array_equal(decode(encoded(grey), 3), np.stack([grey] * 3))
    assert decode(encoded(colour), 1).dtype == colour.dtype


def test_transparency_is_left_out() -> None:
    colour = gradient(colour=True)
    with_alpha = np.concatenate([colour, np.full((40, 60, 1), 7, np.uint8)], 2)
    np.testing.assert_array_equal(decode(encoded(with_alpha), 3), decode(encoded(colour), 3))


@pytest.mark.parametrize("data", [bomb_png(60_000, 60_000), bomb_png(2**31 - 1, 2**31 - 1), bomb_jpeg()])
def test_a_bomb_is_refused_by_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder saw the bomb"))
    assert reason(data) == "image_bomb"


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_every_cut_is_noticed(kind: str) -> None:
    data = encoded(gradient(), kind)
    assert {reason(data[:length]) for length in range(0, len(data) - 1, 7)} == {"image_truncated"}


def test_the_twin_without_the_header_check_a_cut_is_not_known_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(gradient(), ".jpg")
    monkeypatch.setattr("meddx.inputs.picture.read_header", lambda _: Header("jpeg", 60, 40, 8, 1))
    try:  # OpenCV 4 fills the rest with grey and says nothing, OpenCV 5 refuses without a reason
        assert decode(data[:-12], 1).shape == (1, 40, 60)
    except PictureError as error:
        assert error.reason == "image_unreadable"


def test_an_end_mark_inside_a_thumbnail_does_not_count() -> None:
    data = encoded(gradient(), ".jpg")
    inside = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data + data[2:]
    assert decode(inside, 1).shape == (1, 40, 60)
    assert reason(inside[: -len(data) // 2]) == "image_truncated"


@pytest.mark.parametrize(
    "data",
    [
        b"not a picture at all",
        b"GIF89a" + bytes(40),
        b"\xff\xd8" + b"x" * 50,
        bomb_png(0, 5),
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", b"12345") + png_chunk(b"IEND", b""),
        b"\xff\xd8\xff\xda\x00\x04\x00\x00\xff\xd9",
    ],
)
def test_other_bytes_are_unreadable(data: bytes) -> None:
    assert reason(data) == "image_unreadable"


def test_a_flipped_byte_in_a_png_is_noticed() -> None:
    data = bytearray(encoded(gradient()))
    data[len(data) // 2] ^= 1
    assert reason(bytes(data)) == "image_unreadable"


def test_no_prefix_or_noise_makes_anything_but_a_reason() -> None:
    rng = np.random.default_rng(0)
    for kind in (".png", ".jpg"):
        data = encoded(gradient(colour=True), kind)
        for _ in range(150):
            broken = bytearray(data)
            for place in rng.integers(0, len(broken), 3):
                broken[place] = rng.integers(0, 256)
            try:
                assert decode(bytes(broken), 3).shape[0] == 3
            except PictureError as error:
                assert error.reason in {"image_bomb", "image_truncated", "image_unreadable"}


def test_a_jpeg_decoded_small_is_the_same_picture() -> None:
    big = cv2.resize(gradient(), (480, 320), interpolation=cv2.INTER_LINEAR)
    data = encoded(big, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
    small = decode(data, 1, size=60)
    assert small.shape == (1, 40, 60)
    assert np.abs(fit_square(small, 60).astype(int) - fit_square(decode(data, 1), 60).astype(int)).max() <= 4
    assert decode(data, 1, size=61).shape == (1, 80, 120)


def test_proportions_are_kept_and_the_rest_is_black() -> None:
    square = fit_square(np.full((1, 20, 40), 200, np.uint8), 20)
    assert square.shape == (1, 20, 20)
    assert (square[0, 5:15] == 200).all() and not square[0, :5].any() and not square[0, 15:].any()
    assert fit_square(np.full((3, 7, 7), 9, np.uint16), 28).dtype == np.uint16
    assert (fit_square(np.full((1, 1, 4000), 9, np.uint8), 8)[0].any(1)).sum() == 1
    whole = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    np.testing.assert_array_equal(fit_square(whole, 8), whole)
    np.testing.assert_array_equal(fit_square(whole, 4)[0], np.floor(whole[0].reshape(4, 2, 4, 2).mean((1, 3)) + 0.5))

"""A folder of pictures: every file is a case or a quarantined row, whatever lies in it."""

from __future__ import annotations

import hashlib
import struct
import zlib

import cv2
import numpy as np
import pytest

from meddx.errors import DataError
from meddx.ingest import folder, images

BY_NAME = {"id": "file_path", "patient": "@case"}


def picture(seed: int, ending: str = ".png", bits: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 2**bits, (16, 20), np.uint8 if bits == 8 else np.uint16)
    return bytes(cv2.imencode(ending, pixels)[1].tobytes())


def bomb() -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.fixture
def films(tmp_path):
    root = tmp_path / "films"
    for i in range(6):
        path = root / ("sick" if i % 2 else "well") / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
    return root


def test_labels_from_folders(films, make):
    (films / "sick" / "9.JPG").write_bytes(picture(9, ".jpg"))
    (films / "sick" / "8.png").write_bytes(picture(8, bits=16))
    made = make({"path": films, "label_from_folder": "finding"}, BY_NAME)
    assert dict(zip(made.column("case_id"), made.column("finding"), strict=True))["sick/9.JPG"] == "sick"
    assert made.column("finding").count("well") == 3
    assert made.column("image")[made.column("case_id").index("sick/8.png")] == picture(8, bits=16)  # the bytes as they were
    assert made.column("file_name")[0] == made.column("file_stem")[0] + ".png" or made.column("file_name")[0] == "8.png"


def test_garbage_is_quarantined_and_the_rest_is_read(films, make):
    garbage = {
        ".DS_Store": b"\x00\x00\x00\x01Bud1",
        "cut.png": picture(7)[:100],
        "cut.jpg": picture(7, ".jpg")[:200],
        "text.png": b"this is a text",
        "bomb.png": bomb(),
        "empty.png": b"",
        "notes.txt": b"hello",
        "flipped.png": picture(7)[:150] + bytes([picture(7)[150] ^ 1]) + picture(7)[151:],
    }
    for name, data in garbage.items():
        (films / name).write_bytes(data)
    made = make({"path": films}, BY_NAME)
    assert made.table.num_rows == 6
    reasons = {one["path_digest"]: one["reason"] for one in made.quarantine}
    expected = {
        ".DS_Store": "junk_file", "cut.png": "image_truncated", "cut.jpg": "image_truncated", "text.png": "not_image",
        "bomb.png": "image_bomb", "empty.png": "file_empty", "notes.txt": "not_image", "flipped.png": "image_damaged",
    }  # fmt: skip
    assert reasons == {hashlib.sha256(name.encode()).hexdigest()[:16]: reason for name, reason in expected.items()}
    shown = str([(one["source"], one["detail"]) for one in made.quarantine]) + str(made.record["inputs"])
    assert "cut" not in shown
    assert "0001" not in shown  # no name of a file, which may name a patient


def test_a_decoder_that_breaks_costs_its_row_only(films, make, monkeypatch):
    def broken(data: bytes) -> dict[str, object]:
        if data == picture(3):
            raise ZeroDivisionError
        return images_decode(data)

    images_decode = images.decode
    monkeypatch.setattr(images, "decode", broken)
    made = make({"path": films}, BY_NAME)
    assert (made.table.num_rows, made.reasons, made.quarantine[0]["detail"]) == (5, ["file_unreadable"], "ZeroDivisionError")


def test_many_small_batches_keep_the_order(films, make, monkeypatch):
    whole = make({"path": films}, {"id": "@row", "patient": "@case"}, out="whole")
    monkeypatch.setattr(folder, "BATCH_FILES", 2)
    monkeypatch.setattr(folder, "UNIT_FILES", 4)
    pieces = make({"path": films}, {"id": "@row", "patient": "@case"}, out="pieces")
    assert pieces.column("case_id") == [f"row-{i:09d}" for i in range(1, 7)]
    assert pieces.table.equals(whole.table)


def test_a_file_too_large_is_not_even_read(films, make, monkeypatch):
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", 100)
    with pytest.raises(DataError, match="file_too_large 6"):
        make({"path": films}, BY_NAME)


def test_a_taken_name_is_refused(films, make):
    with pytest.raises(DataError, match="'file_name' is a column already"):
        make({"path": films, "label_from_folder": "file_name"}, BY_NAME)

"""One PNG or JPEG file in; its bytes, checked by decoding them once, out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from meddx.ingest.headers import Unreadable, check_whole, picture_size

FIELDS: list[tuple[str, pa.DataType]] = []  # a plain picture tells nothing but itself


def decode(data: bytes) -> dict[str, Any]:
    """{"image": the bytes as they are}.  Raises Unreadable: not_image, image_bomb, image_truncated, image_damaged."""
    import cv2
    import numpy as np

    size = picture_size(data)
    check_whole(data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise Unreadable("image_damaged", "it cannot be decoded")
    if sorted(pixels.shape[:2]) != sorted((size.height, size.width)):
        raise Unreadable("image_damaged", "its size is not what its header says")
    return {"image": data}

"""A column of encoded pictures in; one array of square pictures, still 8 or 16 bit, out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError, DataError
from meddx.inputs.options import ImageInput
from meddx.inputs.types import Prepared

FIT_ROWS = 5_000  # pictures, evenly spaced over train, that the mean and deviation are taken from
_FULL = {8: 255, 16: 65_535}


def _threads() -> int:
    """The processors this process may use; Ray and batch systems say it in OMP_NUM_THREADS."""
    try:
        free = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        free = os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(free, int(asked) if asked.isdigit() and int(asked) else free, 16))


def _encoded(table: pa.Table, name: str, column: str) -> pa.ChunkedArray:
    places = table.schema.get_all_field_indices(column)
    if len(places) != 1:
        raise DataError(
            f"the column {column!r} with the pictures is {'not in the table' if not places else 'there twice'}", f"input {name}"
        )
    found = table.column(places[0])
    kind = found.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_null(kind)):
        raise DataError(f"the column {column!r} holds {kind}, not the bytes of PNG or JPEG pictures", f"input {name}")
    return found


@dataclass(frozen=True)
class ImagePreparation:
    """The fitted way of one image input: size and channels as the recipe says, bit depth, mean and deviation as train has them.

    A picture keeps its proportions and is padded to a square with black.  An 8-bit picture for a 16-bit model is widened
    (x 257); a 16-bit picture for an 8-bit model is the row error `bit_depth`, for how to narrow it was never decided.
    """

    name: str
    optional: bool
    column: str
    size: int
    channels: int
    bits: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, name: str, options: ImageInput, table: pa.Table) -> ImagePreparation:
        """Bit depth over all pictures of `table` (the train part alone), mean and deviation over at most 5,000 of them."""
        from meddx.inputs.picture import PictureError, read_header

        column = _encoded(table, name, options.column)
        bits = 8
        for value in column:
            try:
                if value.is_valid and read_header(value.as_py()).bits == 16:
                    bits = 16
                    break
            except PictureError:
                continue
        blank = cls(
            name,
            options.optional,
            options.column,
            options.size,
            options.channels,
            bits,
            (0.0,) * options.channels,
            (1.0,) * options.channels,
        )
        mean, deviation = _moments(blank, table.select([options.column]))
        return cls(name, options.optional, options.column, options.size, options.channels, bits, mean, deviation)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def transform(self, table: pa.Table) -> Prepared:
        """pixels uint8 or uint16 [n, c, size, size]; zeros where a picture is absent (null) or bad (see `errors`)."""
        rows = table.num_rows
        pixels = np.zeros((rows, self.channels, self.size, self.size), np.uint16 if self.bits == 16 else np.uint8)
        present, errors = np.zeros(rows, bool), {}
        if self.optional and self.column not in table.column_names:
            return Prepared({"pixels": pixels}, present)
        for row, result in self._results(_encoded(table, self.name, self.column)):
            if isinstance(result, str):
                errors[row] = result
            elif result is not None:
                pixels[row], present[row] = result, True
        return Prepared({"pixels": pixels}, present, errors)

    def _results(self, column: pa.ChunkedArray) -> Iterator[tuple[int, np.ndarray | str | None]]:
        import cv2

        cv2.setNumThreads(1)  # the threads are ours: one a picture
        chunk = 256
        with ThreadPoolExecutor(_threads()) as pool:
            for start in range(0, len(column), chunk):  # so that only so many decoded pictures wait
                values = column.slice(start, chunk).to_pylist()
                yield from enumerate(pool.map(self.picture, values), start)

    def picture(self, data: bytes | None) -> np.ndarray | str | None:
        """The pixels [c, size, size], a reason code, or None where there is no picture.  The edge where a row is decoded."""
        from meddx.inputs.picture import PictureError, decode, fit_square

        if data is None:
            return None
        try:
            pixels = decode(data, self.channels, size=self.size)
        except PictureError as error:
            return error.reason
        if pixels.dtype == np.uint16 and self.bits == 8:
            return "bit_depth"
        pixels = fit_square(pixels, self.size)
        return pixels.astype(np.uint16) * np.uint16(257) if pixels.dtype == np.uint8 and self.bits == 16 else pixels

    def spec(self) -> dict[str, Any]:
        """Sizes, and the mean and deviation a channel of train's pixels on the scale 0..1."""
        return {
            "kind": "image",
            "optional": self.optional,
            "channels": self.channels,
            "size": self.size,
            "max": _FULL[self.bits],
            "mean": list(self.mean),
            "std": list(self.deviation),
        }

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "image",
            "name": self.name,
            "optional": self.optional,
            "column": self.column,
            "size": self.size,
            "channels": self.channels,
            "bits": self.bits,
            "mean": list(self.mean),
            "std": list(self.deviation),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ImagePreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        try:
            made = cls(
                str(state["name"]),
                bool(state["optional"]),
                str(state["column"]),
                int(state["size"]),
                int(state["channels"]),
                int(state["bits"]),
                tuple(float(one) for one in state["mean"]),
                tuple(float(one) for one in state["std"]),
            )
            if made.bits not in _FULL or made.channels not in (1, 3) or not 1 <= made.size <= 1024 or len(made.mean) != made.channels:
                raise ValueError("sizes that cannot be")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of an image input is not readable", next_step="the bundle is damaged: build it again") from error
        return made


def _moments(blank: ImagePreparation, table: pa.Table) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, scaled to 0..1; exact sums, so the order of rows does not matter."""
    count, total, square = 0, np.zeros(blank.channels, object), np.zeros(blank.channels, object)
    rows = np.arange(0, table.num_rows, max(1, math.ceil(table.num_rows / FIT_ROWS)))
    for start in range(0, len(rows), 128):  # a few at a time: encoded pictures may be large
        prepared = blank.transform(table.take(rows[start : start + 128]))
        pixels = prepared.arrays["pixels"][prepared.present].astype(np.uint64)
        count += pixels.shape[0] * blank.size**2
        total += np.array([int(one) for one in pixels.sum((0, 2, 3))], object)
        square += np.array([int(one) for one in (pixels**2).sum((0, 2, 3))], object)
    if not count:
        raise DataError("no picture of train could be read", f"input {blank.name}", "look at the reasons in the dataset's quarantine")
    full = _FULL[blank.bits]
    mean = [float(one) / count / full for one in total]
    variance = [max(float(two) / count / full**2 - one**2, 0.0) for one, two in zip(mean, square, strict=True)]
    return tuple(mean), tuple(max(math.sqrt(one), 1e-3) for one in variance)

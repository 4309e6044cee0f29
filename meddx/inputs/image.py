"""Encoded pictures in, one a case or the latest few; one array of square pictures, still 8 or 16 bit, out."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError, DataError
from meddx.inputs.fold import is_joined, parents, rows_of
from meddx.inputs.normal import Normal, learn_exact, learn_floor, of_files, stated
from meddx.inputs.options import ImageInput
from meddx.inputs.types import Prepared

FIT_ROWS = 5_000  # pictures, evenly spaced over train, that the mean and deviation are taken from
HANDED = 16  # pictures that a thread is handed at once
_FULL = {8: 255, 16: 65_535}
FOLDED = ("mean", "max", "attention")  # rules by which a network folds several pictures of a case


_Look = tuple[int, int, float]  # channels and bits of the file, brightest less darkest pixel as a share of what its bits can hold
_Result = tuple[np.ndarray | str | None, _Look | None]


@dataclass(frozen=True)
class _Items:
    """Pictures, the case of each and its slot there (0 first in time); `several`: cases with several and no rule which counts."""

    column: pa.ChunkedArray
    case: np.ndarray
    slot: np.ndarray
    several: np.ndarray


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


def _chosen(offsets: np.ndarray, column: pa.ChunkedArray, many: str | None, at_most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(place of each picture that counts, its case, its slot): the first or latest one, or the latest `at_most`; nulls never count."""
    places = np.flatnonzero(np.concatenate([np.zeros(0, bool), *(np.asarray(chunk.is_valid()) for chunk in column.chunks)]))
    case = parents(offsets)[places]
    starts = np.searchsorted(case, np.arange(len(offsets)))
    rank, count = np.arange(len(case)) - starts[case], np.diff(starts)[case]
    if many == "first":
        keep, first = rank == 0, np.zeros(len(case), np.int64)
    else:
        first = np.maximum(count - (at_most if many in FOLDED else 1), 0)
        keep = rank >= first
    return places[keep], case[keep], (rank - first)[keep]


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
    source: str | None = None  # a joined source, or None for a column of the cases
    many: str | None = None
    at_most: int = 1
    normal: Normal | None = None

    @classmethod
    def fit(cls, name: str, options: ImageInput, table: pa.Table) -> ImagePreparation:
        """Bit depth over all pictures of `table` (the train part alone), mean and deviation over at most 5,000 of them."""
        source = options.source if is_joined(table, options.source) else None
        many = options.many if source is not None else None
        none, one = (0.0,) * options.channels, (1.0,) * options.channels
        at_most = options.at_most if many in FOLDED else 1
        blank = cls(name, options.optional, options.column, options.size, options.channels, 8, none, one, source, many, at_most)
        items = blank._items(table)
        if items.several.any():
            what = f"{int(items.several.sum()):,} case(s) have several rows in the source {source!r}"
            raise DataError(what, f"inputs.{name}", "say `many: latest`, first, mean, max or attention")
        blank = replace(blank, bits=_bits(items.column))
        mean, deviation, looks = _moments(blank, items.column)
        place = blank.columns[0]
        channels, bits, contrast = (np.array(one, float) for one in zip(*looks, strict=True))
        exact = {"channels": {place: learn_exact(channels)}, "bits": {place: learn_exact(bits)}}
        return replace(blank, mean=mean, deviation=deviation, normal=of_files({}, **exact, range={place: learn_floor(contrast)}))

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source or self.column,)

    def transform(self, table: pa.Table) -> Prepared:
        """pixels uint8 or uint16 [n, c, size, size]; zeros where a picture is absent (null) or bad (see `errors`).

        With `many` mean, max or attention pixels [n, at_most, c, size, size] and items bool [n, at_most], the earlier pictures first; a bad
        picture is left out, and the row is bad only where none of its pictures can be read.
        """
        rows, dtype = table.num_rows, np.uint16 if self.bits == 16 else np.uint8
        pixels = np.zeros((rows, self.at_most, self.channels, self.size, self.size), dtype)
        items = np.zeros((rows, self.at_most), bool)
        errors: dict[int, str] = {}
        outside: dict[str, np.ndarray] = {}
        if not (self.optional and self.columns[0] not in table.column_names):
            found = self._items(table)
            looks = np.full((3, len(found.column)), np.nan)
            for place, (result, look) in self._results(found.column):
                case, slot = int(found.case[place]), int(found.slot[place])
                if isinstance(result, str):
                    errors.setdefault(case, result)
                elif result is not None:
                    pixels[case, slot], items[case, slot], looks[:, place] = result, True, look
            if self.normal is not None:
                codes = [f"{kind}:{self.columns[0]}" for kind in ("channels", "bits", "range")]
                outside = {code: np.unique(found.case[places]) for code, places in self.normal.beyond(codes, looks).items()}
            items[found.several] = False
            errors |= dict.fromkeys(np.flatnonzero(found.several).tolist(), "several_rows")
        present = np.asarray(items.any(1))
        errors = {row: reason for row, reason in sorted(errors.items()) if not present[row]}
        if self.many in FOLDED:
            return Prepared({"pixels": pixels, "items": items}, present, errors, outside=outside)
        return Prepared({"pixels": pixels[:, 0]}, present, errors, outside=outside)

    def _items(self, table: pa.Table) -> _Items:
        none = np.zeros(table.num_rows, bool)
        if self.source is None:
            return _Items(_encoded(table, self.name, self.column), np.arange(table.num_rows), np.zeros(table.num_rows, np.int64), none)
        offsets, rows = rows_of(table, self.source)
        column = _encoded(rows, self.name, self.column) if rows.num_rows else pa.chunked_array([pa.nulls(0)])
        places, case, slot = _chosen(offsets, column, self.many, self.at_most)
        return _Items(column.take(pa.array(places)), case, slot, np.diff(offsets) > 1 if self.many is None else none)

    def _results(self, column: pa.ChunkedArray) -> Iterator[tuple[int, _Result]]:
        import cv2

        cv2.setNumThreads(1)  # the threads are ours: one a few pictures, for handing over costs as much as a tenth of decoding one
        threads = _threads()
        few = max(1, min(HANDED, -(-len(column) // threads)))
        starts = iter(range(0, len(column), few))
        with ThreadPoolExecutor(threads) as pool:
            waiting = deque(pool.submit(self._pictures, column.slice(start, few)) for start in islice(starts, 2 * threads))
            place = 0
            while waiting:  # so that only so many decoded pictures wait
                found = waiting.popleft().result()
                waiting.extend(pool.submit(self._pictures, column.slice(start, few)) for start in islice(starts, 1))
                yield from enumerate(found, place)
                place += len(found)

    def _pictures(self, column: pa.ChunkedArray) -> list[_Result]:
        return [self.picture(data) for data in column.to_pylist()]

    def picture(self, data: bytes | None) -> _Result:
        """The pixels [c, size, size], a reason code, or None where there is no picture, and how the file looks (`_Look`).  The edge where
        a row is decoded."""
        from meddx.inputs.picture import PictureError, decode, fit_square, read_header

        if data is None:
            return None, None
        try:
            header = read_header(data)
            pixels = decode(data, self.channels, size=self.size, header=header)
        except PictureError as error:
            return error.reason, None
        if pixels.dtype == np.uint16 and self.bits == 8:
            return "bit_depth", None
        look = (header.channels, header.bits, (int(pixels.max()) - int(pixels.min())) / np.iinfo(pixels.dtype).max)
        pixels = fit_square(pixels, self.size)
        return (pixels.astype(np.uint16) * np.uint16(257) if pixels.dtype == np.uint8 and self.bits == 16 else pixels), look

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
            "many": self.many if self.many in FOLDED else None,
            "items": self.at_most,
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
            "source": self.source,
            "many": self.many,
            "at_most": self.at_most,
            **stated(self.normal),
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
                None if state.get("source") is None else str(state["source"]),
                state.get("many"),
                int(state.get("at_most", 1)),
                Normal.from_state(state.get("normal")),
            )
            if made.many not in (None, "latest", "first", *FOLDED) or not 1 <= made.at_most <= (64 if made.many in FOLDED else 1):
                raise ValueError("rules that cannot be")
            if made.bits not in _FULL or made.channels not in (1, 3) or not 1 <= made.size <= 1024 or len(made.mean) != made.channels:
                raise ValueError("sizes that cannot be")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of an image input is not readable", next_step="the bundle is damaged: build it again") from error
        return made


def _bits(column: pa.ChunkedArray) -> int:
    """16 where one of the pictures has 16 bits, else 8."""
    from meddx.inputs.picture import PictureError, read_header

    for value in column:
        try:
            if value.is_valid and read_header(value.as_py()).bits == 16:
                return 16
        except PictureError:
            continue
    return 8


def _moments(blank: ImagePreparation, column: pa.ChunkedArray) -> tuple[tuple[float, ...], tuple[float, ...], list[_Look]]:
    """Mean and standard deviation a channel, scaled to 0..1, and how each file looks; exact sums, so the order of rows does not matter."""
    count, total, square = 0, np.zeros(blank.channels, object), np.zeros(blank.channels, object)
    rows = np.arange(0, len(column), max(1, math.ceil(len(column) / FIT_ROWS)))
    looks: list[_Look] = []
    for start in range(0, len(rows), 128):  # a few at a time: encoded pictures may be large
        results = [found for _, found in blank._results(column.take(pa.array(rows[start : start + 128])))]
        good = [result for result, _ in results if isinstance(result, np.ndarray)]
        looks += [look for _, look in results if look is not None]
        pixels = np.stack(good).astype(np.uint64) if good else np.zeros((0, blank.channels, 1, 1), np.uint64)
        count += pixels.shape[0] * blank.size**2
        total += np.array([int(one) for one in pixels.sum((0, 2, 3))], object)
        square += np.array([int(one) for one in (pixels**2).sum((0, 2, 3))], object)
    if not count:
        raise DataError("no picture of train could be read", f"input {blank.name}", "look at the reasons in the dataset's quarantine")
    full = _FULL[blank.bits]
    mean = [float(one) / count / full for one in total]
    variance = [max(float(two) / count / full**2 - one**2, 0.0) for one, two in zip(mean, square, strict=True)]
    return tuple(mean), tuple(max(math.sqrt(one), 1e-3) for one in variance), looks

"""NIfTI volumes in, one a case; one array of volumes of one spacing, orientation and size out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError, DataError
from meddx.inputs.fold import is_joined, parents, rows_of, several_rows
from meddx.inputs.normal import LEAST_FILES, Normal, learn, learn_distance, of_files, stated
from meddx.inputs.options import VolumeInput
from meddx.inputs.types import Prepared

FIT_ROWS = 500  # volumes, evenly spaced over train, that the mean and deviation are taken from
CLIP = 100.0  # standard deviations; a wrong unit at scoring time must not overflow float32
MANY = ("latest", "first")
_AXES = ("slices", "rows", "columns")
_Look = tuple[float, float, float, float]  # mm along the axes, and the mean of the stored values that the model sees


@dataclass(frozen=True)
class VolumePreparation:
    """The fitted way of one volume input: orientation, spacing (mm) and size as the recipe says; without a window mean and deviation
    of the stored values in train.

    Slices go from foot to head, rows from front to back, columns from the patient's right to the left, as a radiologist pages through
    them.  `size` is cut out about the middle; what lies outside the volume is as dark as can be: 0 with a window, else the
    volume's lowest value.
    """

    name: str
    optional: bool
    column: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float] | None
    window: tuple[float, float] | None
    mean: float = 0.0
    deviation: float = 1.0
    source: str | None = None  # a joined source, or None for a column of the cases
    many: str | None = None
    normal: Normal | None = None

    @classmethod
    def fit(cls, name: str, options: VolumeInput, table: pa.Table) -> VolumePreparation:
        """Mean and deviation over at most 500 volumes of `table` (the train part alone).  DataError where none can be read."""
        source = options.source if is_joined(table, options.source) else None
        many = options.many if source is not None else None
        shape = (options.size, options.spacing, options.window)
        blank = cls(name, options.optional, options.column, *shape, source=source, many=many)
        column, place, several = blank._items(table)
        if several.any():
            what = f"{int(several.sum()):,} case(s) have several rows in the source {source!r}"
            raise DataError(what, f"inputs.{name}", "say `many: latest` or first")
        there = place[place >= 0]
        there = there[:: max(1, math.ceil(len(there) / FIT_ROWS))]
        looks: list[_Look] = []
        good = _good((blank._bare(column[int(at)].as_py()) for at in there), looks)
        first = next(good, None)
        if first is None:
            raise DataError("no volume of train could be read", f"input {name}", "look at `column`, and at the dataset's quarantine")
        mean, deviation = _moments(chain([first], good))
        blank = replace(blank, normal=_normal(blank.columns[0], options, np.array(looks).T))
        return blank if options.window is not None else replace(blank, mean=mean, deviation=deviation)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source or self.column,)

    def transform(self, table: pa.Table) -> Prepared:
        """pixels float32 [n, 1, d, h, w], 0..1 with a window, else in deviations from train's mean; zeros where a volume is absent (null)
        or bad.

        Reasons: volume_unreadable, volume_too_large, not_3d, spacing_bad, volume_not_finite, several_rows.  One volume is unpacked at a
        time.
        """
        pixels = np.zeros((table.num_rows, 1, *self.size), np.float32)
        present, errors = np.zeros(table.num_rows, bool), {}
        looks = np.full((len(_AXES) + 1, table.num_rows), np.nan)
        if not (self.optional and self.columns[0] not in table.column_names):
            for row, (made, look) in self._results(table):
                if isinstance(made, str):
                    errors[row] = made
                else:
                    pixels[row, 0], present[row], looks[:, row] = made, True, look
        outside = {} if self.normal is None else self.normal.beyond(_codes(self.columns[0]), looks)
        return Prepared({"pixels": pixels}, present, errors, outside=outside)

    def _results(self, table: pa.Table) -> Iterator[tuple[int, tuple[np.ndarray | str, _Look | None]]]:
        column, place, several = self._items(table)
        for row in np.flatnonzero((place >= 0) | several).tolist():
            made, look = ("several_rows", None) if several[row] else self.look(column[int(place[row])].as_py())
            if made is not None:
                yield row, (made, look)

    def _items(self, table: pa.Table) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray]:
        """(encoded volumes, int64 [n] the place of each case's own or -1, bool [n] a case with several and no rule which counts)."""
        if self.source is None:
            column = _encoded(table, self.name, self.column)
            return column, np.where(_valid(column), np.arange(len(column)), -1), np.zeros(len(column), bool)
        offsets, rows = rows_of(table, self.source)
        column = _encoded(rows, self.name, self.column) if rows.num_rows else pa.chunked_array([pa.nulls(0)])
        places = np.flatnonzero(_valid(column))
        if self.many == "first":
            places = places[::-1]
        chosen = np.full(table.num_rows, -1, np.int64)
        chosen[parents(offsets)[places]] = places  # of repeated indices NumPy keeps the last
        several = several_rows(offsets) if self.many is None else np.zeros(table.num_rows, bool)
        return column, chosen, several

    def volume(self, data: bytes | None) -> np.ndarray | str | None:
        """float32 [d, h, w] as the network sees it, a reason code, or None where there is no volume."""
        return self.look(data)[0]

    def look(self, data: bytes | None) -> tuple[np.ndarray | str | None, _Look | None]:
        """`volume`, and what was measured of the file."""
        made, look = self._bare(data)
        if not isinstance(made, np.ndarray):
            return made, look
        if self.window is None:
            made = np.clip((made.astype(np.float64) - self.mean) / self.deviation, -CLIP, CLIP)
        return np.asarray(made, np.float32), look

    def _bare(self, data: bytes | None) -> tuple[np.ndarray | str | None, _Look | None]:
        """`look` before it is standardised.  The edge where a row is decoded."""
        from meddx.inputs.nifti import VolumeError, read_volume
        from meddx.inputs.resample import resample

        if data is None:
            return None, None
        try:
            found = read_volume(data)
            if self.spacing is None:
                ratio = None
            else:
                (z, y, x), (old_z, old_y, old_x) = self.spacing, found.spacing
                ratio = (z / old_z, y / old_y, x / old_x)
            depth, height, width = found.stored.shape
            made, inside = resample(found.slices(), (depth, height, width), self.size, ratio)
        except VolumeError as error:
            return error.reason, None
        if not np.isfinite(made).all():  # numbers near the end of float32 overflow in a sum
            return "volume_not_finite", None
        look = (*found.spacing, float(made.mean(where=inside, dtype=np.float64)))
        if self.window is None:
            return np.where(inside, made, made[inside].min()), look
        low, high = self.window
        return np.where(inside, np.clip((made.astype(np.float64) - low) / (high - low), 0, 1), 0.0).astype(np.float32), look

    def spec(self) -> dict[str, Any]:
        """Sizes; `max` is 1 where values lie in 0..1, and None where they are deviations from a mean."""
        return {
            "kind": "volume",
            "optional": self.optional,
            "size": list(self.size),
            "channels": 1,
            "max": None if self.window is None else 1.0,
        }

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "volume",
            "name": self.name,
            "optional": self.optional,
            "column": self.column,
            "size": list(self.size),
            "spacing": None if self.spacing is None else list(self.spacing),
            "window": None if self.window is None else list(self.window),
            "mean": self.mean,
            "std": self.deviation,
            "source": self.source,
            "many": self.many,
            **stated(self.normal),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> VolumePreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        try:
            depth, height, width = (int(one) for one in state["size"])
            spacing, window, source = state["spacing"], state["window"], state["source"]
            made = cls(
                str(state["name"]),
                bool(state["optional"]),
                str(state["column"]),
                (depth, height, width),
                None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2])),
                None if window is None else (float(window[0]), float(window[1])),
                float(state["mean"]),
                float(state["std"]),
                None if source is None else str(source),
                state["many"],
                Normal.from_state(state.get("normal")),
            )
            _check(made)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BundleError("the state of a volume input is not readable", next_step="the bundle is damaged: build it again") from error
        return made


def _codes(place: str) -> list[str]:
    return [*(f"spacing:{place}.{axis}" for axis in _AXES), f"range:{place}"]


def _good(found: Iterable[tuple[np.ndarray | str | None, _Look | None]], looks: list[_Look]) -> Iterator[np.ndarray]:
    """The volumes that can be read; what was measured of them goes into `looks`."""
    for made, look in found:
        if isinstance(made, np.ndarray) and look is not None:
            looks.append(look)
            yield made


def _normal(place: str, options: VolumeInput, looks: np.ndarray) -> Normal:
    """Limits of the spacing along each axis, and of the mean of the stored values: CT that lacks its offset of -1,024 is far off."""
    spacing = {f"{place}.{axis}": learn_distance(one) for axis, one in zip(_AXES, looks, strict=False)}
    units = {} if options.units is None else {place: options.units}
    return of_files(units, spacing=spacing, range={place: learn(looks[-1], LEAST_FILES)})


def _check(made: VolumePreparation) -> None:
    """ValueError for sizes and numbers that cannot be."""
    spacing, window = made.spacing or (1.0, 1.0, 1.0), made.window or (0.0, 1.0)
    numbers = all(map(math.isfinite, (*spacing, *window, made.mean, made.deviation))) and made.deviation > 0
    if not (1 <= min(made.size) <= max(made.size) <= 512 and numbers and min(spacing) > 0 and window[0] < window[1]):
        raise ValueError("sizes that cannot be")
    if made.many not in (None, *MANY):
        raise ValueError("a rule that cannot be")


def _encoded(table: pa.Table, name: str, column: str) -> pa.ChunkedArray:
    places = table.schema.get_all_field_indices(column)
    if len(places) != 1:
        state = "there twice" if places else "not in the table"
        raise DataError(f"the column {column!r} with the volumes is {state}", f"input {name}")
    found = table.column(places[0])
    kind = found.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_null(kind)):
        raise DataError(f"the column {column!r} holds {kind}, not the bytes of NIfTI volumes", f"input {name}")
    return found


def _valid(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([np.zeros(0, bool), *(np.asarray(chunk.is_valid()) for chunk in column.chunks)])


def _moments(volumes: Iterator[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation over all voxels of volumes of one size; exact sums, so their order does not matter.

    The squares are put together from those within each volume and those of the volumes' means (Chan, Golub & LeVeque 1983).
    """
    means: list[float] = []
    within: list[float] = []
    for one in volumes:
        wide = one.astype(np.float64)
        means.append(float(wide.mean()))
        within.append(float(wide.var()))
    middle = math.fsum(means) / len(means)
    spread = math.sqrt((math.fsum(within) + math.fsum((one - middle) ** 2 for one in means)) / len(means))
    return middle, spread if spread > 1e-7 * abs(middle) else 1.0  # train is all of one grey

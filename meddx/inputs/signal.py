"""A column of signals with named leads in; one array at one rate and length, and a summary for baselines, out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError, DataError
from meddx.inputs.filters import band_pass, factors, resample
from meddx.inputs.normal import Normal, stated
from meddx.inputs.options import SignalInput
from meddx.inputs.signal_normal import Measured, given, learn_signals, outside
from meddx.inputs.signal_rows import SignalRows, read_rows
from meddx.inputs.signal_summary import names_of, summarise
from meddx.inputs.types import Prepared

FIT_ROWS = 5_000  # signals, evenly spaced over train, that the mean and deviation are taken from
PIECE_ROWS = 2_048
PIECE_VALUES = 8 << 20  # values that are worked on at once
MAX_RESAMPLED = 1 << 26  # values of one lead after resampling; more is no signal of one case
MAX_STEPS = 1 << 20
CLIP = 100.0  # standard deviations; a wrong unit at scoring time must not overflow float32


@dataclass(frozen=True)
class SignalPreparation:
    """The fitted way of one signal input: leads by name, one rate, `steps` samples, mean and deviation a lead as train has them.

    The column is struct<rate, leads, samples: list<list<number>>>, or list<number> for a single lead at `rate`.  Each row is prepared
    by itself: filtered and resampled whole, then cut about its middle, or padded with zeros behind its end.
    """

    name: str
    optional: bool
    column: str
    source: str | None  # the joined source that holds the column
    leads: tuple[str, ...]
    rate: float
    steps: int
    band: tuple[float, float] | None
    normalize: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    normal: Normal | None = None

    @classmethod
    def fit(cls, name: str, options: SignalInput, table: pa.Table) -> SignalPreparation:
        """Mean and deviation a lead over at most 5,000 signals of `table` (the train part alone).  DataError where none can be read."""
        from meddx.inputs.fold import is_joined

        if len(set(options.leads)) != len(options.leads):
            raise DataError("a lead stands twice in `leads`", f"input {name}", "name each lead once")
        steps = round(options.rate * options.seconds)
        if not 1 <= steps <= MAX_STEPS:
            raise DataError(f"rate and seconds make {steps:,} samples", f"input {name}", f"1 to {MAX_STEPS:,} are possible")
        if options.band and not (0 <= options.band[0] < options.band[1]):
            raise DataError("the band is from the lower to the higher edge", f"input {name}", "band: [0.5, 40]")
        count = len(options.leads)
        source = options.source if is_joined(table, options.source) else None
        shape = (options.leads, options.rate, steps, options.band)
        blank = cls(name, options.optional, options.column, source, *shape, "none", (0.0,) * count, (1.0,) * count)
        mean, deviation, measured = _moments(blank, table.select(list(blank.columns)))
        normal = learn_signals(blank.columns[0], options, measured)
        if options.normalize != "train":
            mean, deviation = blank.mean, blank.deviation
        return replace(blank, normalize=options.normalize, mean=mean, deviation=deviation, normal=normal)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source or self.column,)

    def transform(self, table: pa.Table) -> Prepared:
        """samples float32 [n, leads, steps], length int32 [n]; zeros where a signal is absent or bad (see `errors`).

        Aside: summary float32 [n, k], NaN there.  Reasons: signal_unreadable, signal_empty, lead_missing, signal_not_finite.
        """
        prepared, measured = self.measure(table)
        if self.normal is None:
            return prepared
        return replace(prepared, outside=outside(self.normal, self.columns[0], self.leads, measured))

    def measure(self, table: pa.Table) -> tuple[Prepared, Measured]:
        """`transform` before anything is held against train, and what there is to hold."""
        rows = table.num_rows
        measured = Measured.nothing(rows, len(self.leads), ends=given(self.normal))
        samples = np.zeros((rows, len(self.leads), self.steps), np.float32)
        length, errors = np.zeros(rows, np.int32), {}
        column = self._column(table)
        if column is not None:
            for start in range(0, rows, PIECE_ROWS):  # so that the Arrow copies of only so many rows wait
                piece = read_rows(column.slice(start, PIECE_ROWS), self.leads, self.rate, self.name)
                errors.update({start + row: reason for row, reason in piece.errors.items()})
                for key, members in piece.groups.items():
                    self._fill(piece, key, members, start, samples, length, errors, measured)
        present = length > 0
        aside = {"summary": summarise(samples, length, len(self.leads))}
        return Prepared({"samples": samples, "length": length}, present, dict(sorted(errors.items())), aside), measured

    def _column(self, table: pa.Table) -> pa.ChunkedArray | None:
        """One signal a case, or None where an optional input's column is not there."""
        place = self.columns[0]
        found = len(table.schema.get_all_field_indices(place))
        if self.optional and not found:
            return None
        if found != 1:
            raise DataError(
                f"the column {place!r} with the signals is {'there twice' if found else 'not in the table'}", f"input {self.name}"
            )
        if self.source is None:
            return table.column(place)
        from meddx.inputs.fold import values_of

        return pa.chunked_array([values_of(table, self.source, self.column, "latest")])

    def _fill(
        self,
        piece: SignalRows,
        key: tuple[float, int],
        members: np.ndarray,
        start: int,
        samples: np.ndarray,
        length: np.ndarray,
        errors: dict[int, str],
        measured: Measured,
    ) -> None:
        """Prepare the rows `members` of a piece, which share rate and length, into the arrays of the whole table."""
        rate, count = key
        try:
            up, down = factors(rate, self.rate)
            fits = count * up / down <= MAX_RESAMPLED
        except ValueError:
            fits = False
        if not fits or (self.band and self.band[0] >= rate / 2):
            errors.update({start + int(row): "signal_unreadable" for row in members})
            return
        step = max(1, PIECE_VALUES // (len(self.leads) * count))
        for at in range(0, len(members), step):
            some = members[at : at + step]
            values = piece.values(some, count)
            good = np.isfinite(values).all((1, 2))
            errors.update({start + int(row): "signal_not_finite" for row in some[~good]})
            if good.any():
                bare = self._cut(values[good], rate)
                made = self._normalised(bare)
                places = some[good] + start
                fine = np.isfinite(made).all((1, 2))  # numbers near the end of float32 overflow in a filter
                errors.update({int(row): "signal_not_finite" for row in places[~fine]})
                samples[places[fine], :, : made.shape[2]] = made[fine]
                length[places[fine]] = made.shape[2]
                measured.put(places[fine], rate, bare[fine])

    def _cut(self, values: np.ndarray, rate: float) -> np.ndarray:
        """[rows, leads, at most steps] of float32 [rows, leads, n] at `rate`, in the units of the file."""
        if self.band:
            values = band_pass(values, rate, self.band)
        values = resample(values, rate, self.rate)
        first = max(0, (values.shape[2] - self.steps) // 2)
        return np.ascontiguousarray(values[:, :, first : first + self.steps])

    def _normalised(self, values: np.ndarray) -> np.ndarray:
        """float32, of the same shape."""
        if self.normalize == "none":
            with np.errstate(over="ignore"):
                return np.asarray(values, np.float32)
        wide = values.astype(np.float64)
        if self.normalize == "case":
            mean, deviation = wide.mean(2, keepdims=True), wide.std(2, keepdims=True)
            deviation = np.where(deviation > 1e-7 * np.abs(mean), deviation, 1.0)  # a flat lead stays flat
        else:
            mean, deviation = (np.array(one)[None, :, None] for one in (self.mean, self.deviation))
        return np.asarray(np.clip((wide - mean) / deviation, -CLIP, CLIP), np.float32)

    def spec(self) -> dict[str, Any]:
        """Sizes, the rate, and what the columns of the summary are."""
        return {
            "kind": "signal",
            "optional": self.optional,
            "leads": len(self.leads),
            "steps": self.steps,
            "rate": self.rate,
            "summary_names": names_of(self.leads, self.steps),
        }

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "signal",
            "name": self.name,
            "optional": self.optional,
            "column": self.column,
            "source": self.source,
            "leads": list(self.leads),
            "rate": self.rate,
            "steps": self.steps,
            "band": list(self.band) if self.band else None,
            "normalize": self.normalize,
            "mean": list(self.mean),
            "std": list(self.deviation),
            **stated(self.normal),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SignalPreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        try:
            band = state["band"]
            made = cls(
                str(state["name"]),
                bool(state["optional"]),
                str(state["column"]),
                None if state["source"] is None else str(state["source"]),
                tuple(str(one) for one in state["leads"]),
                float(state["rate"]),
                int(state["steps"]),
                None if band is None else (float(band[0]), float(band[1])),
                str(state["normalize"]),
                tuple(float(one) for one in state["mean"]),
                tuple(float(one) for one in state["std"]),
                Normal.from_state(state.get("normal")),
            )
            _check(made)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BundleError("the state of a signal input is not readable", next_step="the bundle is damaged: build it again") from error
        return made


def _check(made: SignalPreparation) -> None:
    """ValueError for sizes and numbers that cannot be."""
    count = len(made.leads)
    sizes = 1 <= made.steps <= MAX_STEPS and 1 <= count == len(made.mean) == len(made.deviation) == len(set(made.leads))
    numbers = all(map(math.isfinite, (made.rate, *made.mean, *made.deviation))) and made.rate > 0 and min(made.deviation, default=0) > 0
    band = made.band is None or 0 <= made.band[0] < made.band[1] < math.inf
    if not (sizes and numbers and band) or made.normalize not in ("train", "case", "none"):
        raise ValueError("sizes that cannot be")


def _moments(blank: SignalPreparation, table: pa.Table) -> tuple[tuple[float, ...], tuple[float, ...], Measured]:
    """Mean and standard deviation a lead over the samples that are there, and what was measured of each signal; exact sums, so the order of
    rows does not matter.

    The sum of squares is put together from those within each row and those of the rows' means (Chan, Golub & LeVeque 1983): a large
    offset, as of raw converter counts, costs no digits.
    """
    rows = np.arange(0, table.num_rows, max(1, math.ceil(table.num_rows / FIT_ROWS)))
    counts: list[int] = []
    means: list[np.ndarray] = []
    within: list[np.ndarray] = []
    measured: list[Measured] = []
    for start in range(0, len(rows), 256):
        prepared, found = blank.measure(table.take(rows[start : start + 256]))
        measured.append(found)
        for row in np.flatnonzero(prepared.present):
            count = int(prepared.arrays["length"][row])
            values = prepared.arrays["samples"][row, :, :count].astype(np.float64)
            counts.append(count)
            means.append(values.mean(1))
            within.append(((values - means[-1][:, None]) ** 2).sum(1))
    if not counts:
        raise DataError(
            "no signal of train could be read", f"input {blank.name}", "check `leads` and `column`, and the dataset's quarantine"
        )
    total = sum(counts)
    mean, deviation = [], []
    for lead in range(len(blank.leads)):
        middle = math.fsum(count * one[lead] for count, one in zip(counts, means, strict=True)) / total
        between = math.fsum(count * (one[lead] - middle) ** 2 for count, one in zip(counts, means, strict=True))
        spread = math.sqrt((between + math.fsum(one[lead] for one in within)) / total)
        mean.append(middle)
        deviation.append(spread if spread > 1e-7 * abs(middle) else 1.0)  # a lead that is flat in train
    return tuple(mean), tuple(deviation), Measured.joined(measured)

"""Many columns prepared at once, by blocks, give the bits of each column prepared by itself, whatever its type and whatever is missing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meddx.inputs.cells import as_numbers
from meddx.inputs.options import TableInput
from meddx.inputs.table import TablePreparation

ROWS = 403
FAR = 2**53 + 1  # the first whole number that float64 does not have
RNG = np.random.default_rng(5)


def _gaps(values: Any, kind: pa.DataType, every: int = 7) -> pa.Array:
    return pa.array([None if row % every == 3 else one for row, one in enumerate(values)], kind)


def nasty() -> dict[str, Any]:
    """Columns of every type that stands for a number."""
    plain = RNG.normal(50, 12, ROWS)
    odd = plain.copy()
    odd[::5], odd[1::50], odd[2::50], odd[3::50] = np.nan, np.inf, -np.inf, 1e300
    whole = RNG.integers(-9, 90, ROWS)
    day = dt.datetime(2024, 2, 29, 12)
    times = [day + dt.timedelta(hours=int(one)) for one in whole]
    return {
        "float32": plain.astype(np.float32),
        "float64": plain,
        "half": plain.astype(np.float16),
        "gaps32": _gaps(plain, pa.float32()),
        "odd": odd,
        "odd_gaps": pa.array(odd, mask=RNG.random(ROWS) < 0.3),
        "int8": pa.array(whole, pa.int8()),
        "gaps_int": _gaps(whole.tolist(), pa.int32()),
        "far": pa.array([FAR + int(one) for one in whole], pa.int64()),
        "far_gaps": _gaps([-FAR - int(one) for one in whole], pa.int64()),
        "unsigned": pa.array([2**64 - 1 - abs(int(one)) for one in whole], pa.uint64()),
        "decimal": _gaps([Decimal(int(one)) / 8 for one in whole], pa.decimal128(20, 3)),
        "coded": _gaps(whole.tolist(), pa.int64()).dictionary_encode(),
        "coded_float": pa.array(odd).dictionary_encode(),
        "when": _gaps(times, pa.timestamp("ns")),
        "when_zone": pa.array(times, pa.timestamp("us", "UTC")),
        "day": _gaps([one.date() for one in times], pa.date32()),
        "chunks": pa.chunked_array([plain[:100], plain[100:100], plain[100:]]),
        "chunks_gaps": pa.chunked_array([_gaps(plain[:200], pa.float64()), _gaps(plain[200:], pa.float64())]),
        "sliced": pa.array([0.0, *plain]).slice(1),
        "constant": np.full(ROWS, 3.0),
        "nothing": pa.nulls(ROWS, pa.float64()),
        "null": pa.nulls(ROWS),
    }


TEXTS = {
    "text": pa.array([f" {one:.3f} " for one in RNG.normal(50, 12, ROWS)], pa.large_string()),
    "view": pa.array(["1e3", "nan", None, "-inf", ""] * 80 + ["+7", "x", "0x1"], pa.string_view()),
    "words": pa.array(["12", None, "hello"] * 134 + ["4"], pa.string()).dictionary_encode(),
}


@pytest.mark.parametrize("block", [1 << 17, 1, 3 * ROWS])
def test_blocks_of_columns_give_the_bits_of_each_alone(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meddx.inputs.table._BLOCK", block)
    table = pa.table(nasty())
    made = TablePreparation.fit("t", TableInput(), table.column_names, table)
    assert [one.name for one in made.numbers] == table.column_names
    found = made.transform(table)
    for place, one in enumerate(made.numbers):
        column = table.column(one.name).combine_chunks()
        column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        scaled, missing = one.scale(as_numbers(column)[0])
        assert found.arrays["numbers"][:, place].tobytes() == scaled.tobytes(), one.name
        assert found.arrays["missing"][:, place].tobytes() == missing.tobytes(), one.name
    assert found.present.all() and not found.errors


def test_text_in_the_place_of_numbers_is_read_a_row_at_a_time() -> None:
    """A caller's text columns, among others that are numbers, where train had numbers everywhere."""
    numbers = nasty()
    train = pa.table({"float64": numbers["float64"]} | {name: RNG.normal(50, 12, ROWS) for name in TEXTS})
    made = TablePreparation.fit("t", TableInput(), train.column_names, train)
    found = made.transform(pa.table({"float64": numbers["float64"]} | TEXTS))
    for place, one in enumerate(made.numbers[1:], 1):
        column = TEXTS[one.name]
        values, _ = as_numbers(column.dictionary_decode() if pa.types.is_dictionary(column.type) else pc.cast(column, pa.string()))
        assert found.arrays["numbers"][:, place].tobytes() == one.scale(values)[0].tobytes(), one.name
    bad = [row for row in range(ROWS) if TEXTS["words"][row].as_py() == "hello" or row >= ROWS - 2]
    assert sorted(found.errors) == bad and not found.present[bad].any()

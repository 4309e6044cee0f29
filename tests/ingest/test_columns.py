"""A type is learned from all values; codes stay codes; missing is only what was declared."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError
from meddx.ingest.columns import ColumnType, Learner, MissingCodes, convert, matches, undecodable, words_of
from meddx.ingest.decide import decide
from meddx.ingest.options import SourceOptions

NOTHING = MissingCodes([])


def learned(values: list[str], missing: MissingCodes = NOTHING) -> Learner:
    one = Learner()
    for start in range(0, len(values), 2):  # in several batches, as in life
        one.see(words_of(pa.array(values[start : start + 2], pa.binary()), missing))
    return one


def decided(values: list[str], comma_parts: bool = True, text: tuple[str, ...] = (), **keys: object):
    return decide({"x": learned(values)}, SourceOptions(path="x", **keys), text, comma_parts, {}, "x.csv")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", " -3 ", "+4", ".5", "5.", "1e-3", ""], "number"),
        (["0", "0.5", "-0.1", "10"], "number"),
        (["0012", "12"], "text"),
        (["1", "NA"], "text"),
        (["1", "nan"], "text"),
        (["1", "inf"], "text"),
        (["1", "1e999"], "text"),
        (["12345678901234567", "1"], "text"),
        (["1,234", "2,345"], "text"),
        (["true", "false"], "text"),
        (["0x10", "1_000"], "text"),
        (["", ""], "number"),
        (["2020-01-31", "2021-02-03 10:00"], "date"),
        (["2020-01-31", "2020-02-31"], "text"),
        (["13/01/2020", "01/02/2020"], "date"),
        (["01/13/2020", "01/02/2020"], "date"),
        (["13/01/2020", "01/13/2020"], "text"),
        (["2020-01-31T00:00Z", "2020-01-31"], "text"),
        (["V57", "250.83", "401"], "text"),
    ],
)
def test_kinds(values, kind):
    assert decided(values).types["x"].kind == kind


def test_the_order_of_day_and_month_is_detected_stated_or_refused():
    assert decided(["13/01/2020", "01/02/2020"]).date_orders == {"x": "dmy"}
    assert decided(["01/13/2020", "01/02/2020"]).date_orders == {"x": "mdy"}
    with pytest.raises(DataError, match="'x' holds dates such as 03/04/2020") as error:
        decided(["03/04/2020", "05/06/2021"])
    assert "dates: {x: dmy}" in error.value.next_step
    assert decided(["03/04/2020"], dates={"x": "mdy"}).date_orders == {"x": "mdy"}
    assert decided(["03/04/2020"], text=("x",)).types["x"].kind == "text"


def test_the_decimal_mark_is_detected_or_asked_for():
    assert decided(["1,5", "2"], comma_parts=False).decimal == ","
    assert decided(["1,5", "2"], comma_parts=True).decimal == "."  # quoted, beside commas that part values
    assert decided(["1.5", "2"], comma_parts=False).decimal == "."
    with pytest.raises(DataError, match="a thousand or a fraction"):
        decided(["1,234", "2,345"], comma_parts=False)
    assert decided(["1,234", "2,345"], comma_parts=False, decimal=",").types["x"].kind == "number"
    with pytest.raises(DataError, match="comma in 'x' and with a dot in 'y'"):
        decide({"x": learned(["1,5"]), "y": learned(["1.5"])}, SourceOptions(path="x"), (), False, {}, "x.csv")
    thousands_beside_dots = {"x": learned(["1,234"]), "y": learned(["1.5"])}
    assert decide(thousands_beside_dots, SourceOptions(path="x"), (), False, {}, "x.csv").types["x"].kind == "text"


def test_a_column_that_is_nearly_a_number_is_told_of_without_its_values():
    notes = decided([str(i) for i in range(1, 20)] + ["unk"]).notes
    assert notes == ["column 'x': 1 of 20 values are no numbers, so it is text; is one a `missing` code?"]


def test_missing_codes():
    words = words_of(pa.array(["?", " ? ", "-1", "-1.0", "0", "00", "None", "NA", "null", "", "  "]), MissingCodes(["?", "-1", "0"]))
    assert words.texts.take(words.codes).to_pylist() == [None, None, None, None, None, "00", "None", "NA", "null", None, None]
    assert MissingCodes(["-1", "?"]).found_in_numbers(pa.array([-1.0, 1.0, None])).to_pylist() == [True, False, False]


def test_numbers_come_out_exactly_and_bad_ones_are_pointed_at():
    words = words_of(pa.array(["1,5", "+2", "x", None, "x", "2e3"]), NOTHING)
    values, wrong = convert(words, ColumnType("number"), ",")
    assert values.to_pylist() == [1.5, 2.0, None, None, None, 2000.0]
    assert wrong.tolist() == [False, False, True, False, True, False]
    assert convert(words_of(pa.array(["1.5"]), NOTHING), ColumnType("number"), ".")[1] is None


def test_bytes_that_are_not_of_the_encoding_are_found_by_row():
    words = words_of(pa.array([b"ok", b"K\xf6ln", b"ok", b"K\xf6ln", None], pa.binary()), NOTHING)
    assert undecodable(words).tolist() == [False, True, False, True, False]
    assert undecodable(words_of(pa.array([b"ok"], pa.binary()), NOTHING)) is None


def test_patterns():
    assert matches(["diag_*"], "diag_1")
    assert not matches(["diag_*"], "Diag_1")
    assert matches(["size[mm]"], "size[mm]")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15, width=64), min_size=1, max_size=20))
def test_any_float_written_by_python_comes_back(numbers):
    texts = [repr(number) for number in numbers]
    values, wrong = convert(words_of(pa.array(texts), NOTHING), ColumnType("number"), ".")
    assert wrong is None
    assert np.array_equal(values.to_numpy(), np.array(numbers))

"""Dates are read in one stated order; clock changes and zones do not shift a case by chance."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from meddx.errors import DataError
from meddx.ingest.dates import parse, to_instants, to_utc


@pytest.mark.parametrize(
    ("text", "order", "expected"),
    [
        ("2020-03-04", "ymd", datetime(2020, 3, 4)),
        ("2020/3/4 5:06", "ymd", datetime(2020, 3, 4, 5, 6)),
        ("2020-03-04T05:06:07.25", "dmy", datetime(2020, 3, 4, 5, 6, 7, 250000)),
        ("2020-03-04T05:06:07Z", "ymd", datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("03/04/2020", "dmy", datetime(2020, 4, 3)),
        ("03/04/2020", "mdy", datetime(2020, 3, 4)),
        ("3.4.2020 18:30", "dmy", datetime(2020, 4, 3, 18, 30)),
        ("1/2/2020 12:05 AM", "mdy", datetime(2020, 1, 2, 0, 5)),
        ("1/2/2020 3:05 pm", "mdy", datetime(2020, 1, 2, 15, 5)),
        ("20200304", "ymd", datetime(2020, 3, 4)),
        ("20200304", "dmy", None),
        ("2020-13-04", "ymd", None),
        ("31/02/2020", "dmy", None),
        ("03/04/20", "dmy", None),
        ("2020-01-01 25:00", "ymd", None),
        ("1/2/2020 13:05 pm", "mdy", None),
        ("yesterday", "ymd", None),
    ],
)
def test_parse(text, order, expected):
    assert parse(text, order) == expected


def test_a_zone_is_a_zone():
    assert parse("2020-03-04T05:06:07+0130", "ymd").astimezone(UTC) == datetime(2020, 3, 4, 3, 36, 7, tzinfo=UTC)
    mixed = ["2020-03-04", "2020-03-04T00:00Z"]
    assert to_instants(mixed, "ymd", zoned=False).null_count == 1
    assert to_instants(mixed, "ymd", zoned=True).null_count == 1


def test_naive_stamps_need_a_zone_and_a_doubled_hour_is_its_first():
    column = pa.chunked_array([to_instants(["2024-10-27 02:30", "2024-03-31 02:30", None], "ymd", zoned=False)])
    with pytest.raises(DataError, match="no time zone"):
        to_utc(column, None, "at")
    with pytest.raises(DataError, match="is not known"):
        to_utc(column, "Europe/Bärlin", "at")
    assert to_utc(column, "Europe/Berlin", "at").to_pylist() == [
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC), datetime(2024, 3, 31, 1, 0, tzinfo=UTC), None,
    ]  # fmt: skip


def test_texts_become_instants_or_are_refused():
    assert to_utc(pa.chunked_array([["2020-01-01T00:00Z"]]), None, "at").to_pylist() == [datetime(2020, 1, 1, tzinfo=UTC)]
    with pytest.raises(DataError, match="1 values of 'at' are no dates"):
        to_utc(pa.chunked_array([["2020-01-01", "soon"]]), "UTC", "at")
    with pytest.raises(DataError, match="some have none"):
        to_utc(pa.chunked_array([["2020-01-01", "2020-01-01T00:00Z"]]), "UTC", "at")
    with pytest.raises(DataError, match="is not a date"):
        to_utc(pa.chunked_array([[1.0]]), "UTC", "at")

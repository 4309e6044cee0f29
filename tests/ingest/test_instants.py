"""Stamps to instants: never earlier than a row can have been known, checked against Python's own time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError
from meddx.ingest.instants import Stamps
from meddx.ingest.keys import cause_of_no_match, pseudonym, shape

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(texts: list[str | None], zone: str | None = "Europe/Berlin", order: str | None = None) -> tuple[list[datetime | None], Stamps]:
    stamps = Stamps("t", zone, order)  # type: ignore[arg-type]
    column = pa.array(texts, pa.string())
    stamps.see(column)
    stamps.settle()
    micros, there, unreadable = stamps.micros(column)
    assert not (there & unreadable).any()
    return [EPOCH + timedelta(microseconds=int(one)) if known else None for one, known in zip(micros, there, strict=True)], stamps


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)), min_size=1, max_size=20),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Shanghai", "UTC"]),
    st.sampled_from(["%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M"]),
)
def test_like_pythons_zones_and_never_earlier(stamps, zone, form):
    texts = [one.strftime(form) for one in stamps]
    found, _ = read(texts, zone, "dmy")
    for text, instant in zip(texts, found, strict=True):
        local = datetime.strptime(text, form)  # noqa: DTZ007
        both = [local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
        assert instant is not None
        back = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert instant == max(both) if back == local else min(both) < instant < max(both)  # the end of a gap lies between the readings


def test_quick_and_slow_texts_beside_each_other():
    found, stamps = read(["2024-01-01 10:00", "2024-02-30 10:00", None, "2024-01-01", "2024-01-01T10:00:00+02:00", "20240101", "x"], "UTC")
    end = datetime(2024, 1, 1, 23, 59, 59, 999_999, UTC)
    assert found == [datetime(2024, 1, 1, 10, tzinfo=UTC), None, None, end, datetime(2024, 1, 1, 8, tzinfo=UTC), end, None]
    assert stamps.counts == {"date_only": 2, "unreadable": 2, "ambiguous": 0, "nonexistent": 0}


def test_a_bare_date_ends_in_its_own_zone():
    found, _ = read(["2024-07-01"])
    assert found == [datetime(2024, 7, 1, 21, 59, 59, 999_999, UTC)]


def test_no_zone_is_needed_where_every_stamp_has_one():
    assert read(["2024-07-01 10:00Z"], None)[0] == [datetime(2024, 7, 1, 10, tzinfo=UTC)]
    with pytest.raises(DataError, match="no time zone"):
        read(["2024-07-01 10:00Z", "2024-07-01 10:00"], None)
    assert read([None], None)[0] == [None]


def test_the_order_of_day_and_month_is_learned_from_all():
    assert read(["03/04/2024 10:00", "13/04/2024 10:00"], "UTC")[0][0] == datetime(2024, 4, 3, 10, tzinfo=UTC)
    assert read(["03/04/2024 10:00", "03/14/2024 10:00"], "UTC")[0][0] == datetime(2024, 3, 4, 10, tzinfo=UTC)
    with pytest.raises(DataError, match="months before days"):
        read(["13/04/2024 10:00", "03/14/2024 10:00"], "UTC")


@given(st.text(min_size=1, max_size=30))
def test_a_pseudonym_shows_no_key(key):
    shown = pseudonym(key)
    assert pseudonym(key) == shown and shown.endswith(f"({shape(key)})")
    if len(key) > 8:
        assert key not in shown


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True))
def test_causes_are_found_whatever_the_keys(numbers):
    plain = [str(number) for number in numbers]
    zeros, decimal = cause_of_no_match([f"00{key}" for key in plain], plain), cause_of_no_match([f"{key}.0" for key in plain], plain)
    assert zeros is not None and zeros[0].startswith("leading zeros")
    assert decimal is not None and decimal[0].startswith("a decimal part")
    assert cause_of_no_match(plain, ["x"]) is None
    assert np.all([shape(key).endswith(("digit", "digits")) for key in plain])

"""Filters over columns of every type, missing values, and the counts."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from meddx.dataset.cohort import Filter, cohort_columns, cohort_counts, cohort_mask
from meddx.dataset.options import CohortOptions
from meddx.errors import RecipeError

TABLE = pa.table(
    {
        "age": pa.array([17.0, 18.0, None, 80.0]),
        "whole": pa.array([1, 2, 3, None], pa.int64()),
        "code": ["11", "0011", None, " "],
        "seen": pa.array(
            [datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 6, 1, 12, tzinfo=UTC), None, datetime(2022, 1, 1, tzinfo=UTC)],
            pa.timestamp("us", tz="UTC"),
        ),
        "flag": pa.array([True, False, None, True]),
        "kind": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "image": pa.array([b"1", None, b"", b"2"], pa.binary()),
        "nothing": pa.nulls(4),
    }
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("age >= 18", [0, 1, 0, 1]),
        ("not age >= 18", [1, 0, 0, 0]),  # a missing age is not "under 18" either
        ("age >= 18 or age is missing", [0, 1, 1, 1]),
        ("age == 18.0", [0, 1, 0, 0]),
        ("age in [17, 8e1]", [1, 0, 0, 1]),
        ("whole < 3", [1, 1, 0, 0]),
        ("code in [11]", [1, 0, 0, 0]),
        ("code == '0011'", [0, 1, 0, 0]),
        ("code not in [11]", [0, 1, 0, 0]),
        ("code is missing", [0, 0, 1, 1]),
        ("seen >= 2021-01-01", [0, 1, 0, 1]),
        ("seen < '2021-06-01T14:00:00+02:00'", [1, 0, 0, 0]),
        ("seen == 2020-01-01", [1, 0, 0, 0]),
        ("flag == true", [1, 0, 0, 1]),
        ("kind == x", [1, 0, 1, 0]),
        ("image is missing", [0, 1, 0, 0]),
        ("nothing == 1", [0, 0, 0, 0]),
        ("nothing is missing", [1, 1, 1, 1]),
    ],
)
def test_masks(text: str, wanted: list[int]) -> None:
    assert Filter.parse(text).mask(TABLE).tolist() == [bool(one) for one in wanted]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("code >= 11", "'code' is text"),
        ("age == abc", "'age' holds numbers"),
        ("age == 1_000", "'age' holds numbers"),
        ("age == nan", "'age' holds numbers"),
        ("agee >= 18", "did you mean 'age'?"),
        ("seen >= yesterday", "not a date"),
        ("image == 1", "is missing"),
    ],
)
def test_refusals_name_the_column(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=None) as caught:
        Filter.parse(text, "cohort.keep.one").mask(TABLE)
    assert told in str(caught.value)
    assert "cohort.keep.one" in str(caught.value)


def test_a_missing_value_is_outside_keep_and_stays_under_leave_out() -> None:
    assert cohort_mask(CohortOptions(keep={"adult": "age >= 18"}), TABLE).tolist() == [False, True, False, True]
    assert cohort_mask(CohortOptions(leave_out={"minor": "age < 18"}), TABLE).tolist() == [False, True, True, True]
    assert cohort_mask(CohortOptions(leave_out={"not_adult": "not age >= 18"}), TABLE).tolist() == [False, True, True, True]


def test_counts_and_columns() -> None:
    options = CohortOptions(keep={"adult": "age >= 18"}, leave_out={"code": "code == 11 or kind == y"})
    assert cohort_columns(options) == {"age", "code", "kind"}
    assert cohort_counts(options, TABLE) == {"read": 4, "keep.adult": 2, "leave_out.code": 2, "outside": 3, "inside": 1}
    assert cohort_mask(CohortOptions(), TABLE).all() and cohort_columns(CohortOptions()) == set()


def test_an_empty_table_gives_an_empty_mask() -> None:
    assert cohort_mask(CohortOptions(keep={"a": "age > 1 and code == x and seen > 2020-01-01"}), TABLE.slice(0, 0)).dtype == np.bool_

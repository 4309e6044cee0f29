"""Predictions of each kind in, counts by band out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from meddx.predict import spans, spread


def table(**columns: object) -> pa.Table:
    status = ["scored", "scored", "outside_cohort", "quarantined", "scored"]
    return pa.table({"case_id": list("abcde"), "status": status, **columns})


def test_each_band_holds_its_lower_edge() -> None:
    found = spread.count_answers({"probability": np.array([0, 0.0009, 0.001, 0.5, 0.999, 1.0])})["probability"]
    assert len(found) == len(spread.PROBABILITY) + 1 and sum(found) == 6
    assert found[0] == 2 and found[1] == 1 and found[-1] == 2
    assert found[spread.PROBABILITY.index(0.5) + 1] == 1


def test_only_scored_rows_are_counted() -> None:
    values = pa.array([0.2, 0.3, 0.9, None, 0.3])
    found = spread.count_table(table(probability=values, decision=pa.array(["no"] * 5)))
    assert list(found) == ["probability"] and sum(found["probability"]) == 3
    assert found == spread.count_answers({"probability": np.array([0.2, 0.3, 0.3])})


def test_classes_and_labels_have_a_column_each_and_not_too_many() -> None:
    values = pa.array([0.2, 0.3, 0.9, None, 0.3])
    assert list(spread.count_table(table(p_a=values, p_b=values))) == ["p_a", "p_b"]
    many = {f"p_{number:02d}": values for number in range(40)}
    assert len(spread.count_table(table(**many))) == spread.MOST_COLUMNS
    assert spread.count_table(table(p_word=pa.array(list("abcde")))) == {}


def test_a_value_is_counted_in_deviations_and_only_where_they_are_known() -> None:
    values = pa.array([100.0, 115.0, 500.0, None, 130.0])
    assert spread.count_table(table(value=values)) == {}
    found = spread.count_table(table(value=values, low=values, high=values), (115.0, 15.0))
    places = [int(np.searchsorted(spread.DEVIATIONS, one, side="right")) for one in (-1, 0, 1)]
    assert list(found) == ["value"] and [found["value"][place] for place in places] == [1, 1, 1]


def test_spans_are_counted_a_text() -> None:
    one = {"start": 0, "end": 1, "label": "x", "score": 0.5}
    column = pa.array([[], [one] * 7, None, None, [one]], spans.TYPE)
    found = spread.count_table(table(spans=column))["spans"]
    assert found[0] == 1 and found[1] == 1 and found[6] == 1 and sum(found) == 3


def test_counts_are_added() -> None:
    one, two = {"p_a": [1, 2]}, {"p_a": [3, 4], "p_b": [1, 1]}
    assert spread.add([one, two, {}]) == {"p_a": [4, 6], "p_b": [1, 1]} and spread.add([]) == {}


@pytest.mark.parametrize("rows", [0, 3])
def test_without_a_scored_row_all_bands_are_empty(rows: int) -> None:
    empty = pa.table({"probability": pa.nulls(rows, pa.float64()), "status": pa.array(["quarantined"] * rows, pa.string())})
    assert set(spread.count_table(empty)["probability"]) == {0}

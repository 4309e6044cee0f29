"""meddx.predict.nested and rows: lists of records become the same Arrow column whatever they come as."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from meddx.errors import DataError
from meddx.predict.manifest import Column
from meddx.predict.rows import as_table

LABS = (Column(name="labs", use="events", required=True, joined=True),)
LEAD = (Column(name="ecg", use="signal", required=True),)
RECORDS = [
    [{"@time": -2.0, "item": "K", "value": 4.1}, {"@time": -1.5, "item": "Na", "value": 140}],
    [],
    None,
    [{"@time": -1, "item": "K", "value": None}],
]
EXPECTED = [
    [{"@time": -2.0, "item": "K", "value": 4.1}, {"@time": -1.5, "item": "Na", "value": 140.0}],
    [],
    None,
    [{"@time": -1.0, "item": "K", "value": None}],
]


def test_dicts_frames_and_arrow_are_one() -> None:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("item", pa.string()), ("value", pa.float64())]))
    table = pa.table({"labs": pa.array(EXPECTED, kind)})
    rows = [{"labs": one} for one in RECORDS]
    for given in (rows, pd.DataFrame({"labs": RECORDS}), table, table.to_pandas(), table.to_pylist()):
        found = as_table(given, LABS)["labs"]
        assert found.to_pylist() == EXPECTED
        assert found.type == kind


def test_a_text_among_numbers_costs_no_other_case() -> None:
    found = as_table([{"labs": [{"value": 1.5}]}, {"labs": [{"value": "high"}, {"value": 2}]}], LABS)["labs"]
    assert found.to_pylist() == [[{"value": "1.5"}], [{"value": "high"}, {"value": "2"}]]
    odd = as_table([{"labs": [{"value": 1.5}]}, {"labs": [{"value": [3]}, {"value": 2}]}], LABS)["labs"]
    assert odd.to_pylist() == [[{"value": "1.5"}], [{"value": ""}, {"value": "2"}]]


def test_fields_that_some_records_lack_are_null() -> None:
    found = as_table([{"labs": [{"a": 1}]}, {"labs": ({"b": "x"},)}], LABS)["labs"]
    assert found.to_pylist() == [[{"a": 1, "b": None}], [{"a": None, "b": "x"}]]
    assert as_table([{"labs": []}, {"labs": None}], LABS)["labs"].to_pylist() == [[], None]


@pytest.mark.parametrize("value", ["K 4.1", 4.1, {"K": 4.1}, ["K", 4.1], [None]])
def test_what_is_no_list_of_records_is_refused_and_counted_not_shown(value: object) -> None:
    with pytest.raises(DataError, match=r"'labs' holds 1 value\(s\) that are not lists of records, of 2") as caught:
        as_table([{"labs": [{"item": "K"}]}, {"labs": value}], LABS)
    assert "4.1" not in str(caught.value)


@pytest.mark.parametrize("outer", [pa.list_, pa.large_list, pa.list_view])
def test_dictionaries_and_views_inside_records_become_plain(outer: object) -> None:
    inner = pa.struct([("item", pa.dictionary(pa.int8(), pa.string())), ("note", pa.string_view())])
    names, notes = pa.array(["K", "Na", "K"]).dictionary_encode().cast(inner[0].type), pa.array(["a", "b", None]).cast(pa.string_view())
    items = pa.StructArray.from_arrays([names, notes], fields=list(inner))
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), items)
    given = lists if outer is pa.list_view else lists.cast(outer(lists.type.value_type))  # type: ignore[operator]
    found = as_table(pa.table({"labs": given}), LABS)["labs"]
    assert found.to_pylist() == [[{"item": "K", "note": "a"}, {"item": "Na", "note": "b"}], [{"item": "K", "note": None}]]
    assert found.type.value_type == pa.struct([("item", pa.string()), ("note", pa.string())])


def test_signals_may_be_arrays_and_a_bad_one_is_alone() -> None:
    samples = np.arange(6.0).reshape(2, 3)
    good = {"rate": 100.0, "leads": ["I", "II"], "samples": samples}
    found = as_table([{"ecg": good}, {"ecg": "broken"}, {"ecg": None}, {"ecg": {**good, "rate": "fast"}}, {"ecg": good}], LEAD)["ecg"]
    same = {"rate": 100.0, "leads": ["I", "II"], "samples": samples.tolist()}
    assert found.to_pylist() == [same, None, None, None, same]
    frame = pd.DataFrame({"ecg": [np.arange(3.0), np.arange(4.0)]})
    assert as_table(frame, LEAD)["ecg"].to_pylist() == [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]]


def test_a_list_in_a_numbers_place_costs_no_other_case() -> None:
    columns = (Column(name="x", use="number", required=True),)
    assert as_table([{"x": 1.5}, {"x": [1, 2]}, {"x": 2}], columns)["x"].to_pylist() == ["1.5", "", "2"]

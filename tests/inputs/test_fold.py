from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError
from meddx.inputs.fold import is_joined, one_a_case, rows_of, values_of

NAN = float("nan")
LABS = [
    [{"@time": -3.0, "v": 1.0, "s": "a"}, {"@time": -1.0, "v": 2.0, "s": "b"}, {"@time": 0.0, "v": None, "s": None}],
    [],
    None,
    [{"@time": -2.0, "v": NAN, "s": "c"}],
]


def joined(rows: list[object]) -> pa.Table:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("v", pa.float64()), ("s", pa.string())]))
    return pa.table({"labs": pa.array(rows, kind), "age": [1.0] * len(rows)})


def test_a_joined_source_is_a_column_of_lists_of_rows() -> None:
    table = joined(LABS)
    assert is_joined(table, "labs") and not is_joined(table, "age") and not is_joined(table, "nowhere") and not is_joined(table, None)
    offsets, rows = rows_of(table, "labs")
    assert offsets.tolist() == [0, 3, 3, 3, 4] and offsets.dtype == np.int64
    assert rows.column("s").to_pylist() == ["a", "b", None, "c"]


def test_rows_after_predict_at_or_without_a_time_change_nothing() -> None:
    later = [
        *LABS[0],
        {"@time": 0.01, "v": 99.0, "s": "z"},
        {"@time": None, "v": 98.0, "s": "y"},
        {"@time": NAN, "v": 97.0, "s": "x"},
        None,
    ]
    for many in ("latest", "first", "mean", "max"):
        assert one_a_case(joined([later, *LABS[1:]]), "labs", many).equals(one_a_case(joined(LABS), "labs", many))


def test_each_rule_folds_a_case() -> None:
    def fold(many: str) -> list[dict[str, object]]:
        return one_a_case(joined(LABS), "labs", many).select(["v", "s"]).to_pylist()

    assert fold("latest") == [{"v": 2.0, "s": "b"}, {"v": None, "s": None}, {"v": None, "s": None}, {"v": None, "s": "c"}]
    assert fold("first")[0] == {"v": 1.0, "s": "a"}
    assert fold("mean")[0] == {"v": 1.5, "s": "b"}
    assert fold("max")[0] == {"v": 2.0, "s": "b"} and fold("max")[3] == {"v": None, "s": "c"}
    assert values_of(joined(LABS), "labs", "s", "first").to_pylist() == ["a", None, None, "c"]


def test_an_infinite_number_is_left_out_of_mean_and_maximum() -> None:
    table = joined([[{"@time": -2.0, "v": float("inf"), "s": None}, {"@time": -1.0, "v": 2.0, "s": None}]])
    assert [one_a_case(table, "labs", many).column("v").to_pylist() for many in ("mean", "max")] == [[2.0], [2.0]]


def test_without_a_rule_two_rows_are_refused_and_one_is_taken() -> None:
    with pytest.raises(DataError, match=r"1 case\(s\) have several rows"):
        one_a_case(joined(LABS), "labs", None)
    assert one_a_case(joined(LABS[1:]), "labs", None).column("s").to_pylist() == [None, None, "c"]


def test_rows_in_the_wrong_order_are_ordered_by_time_and_ties_stay() -> None:
    rows = [{"@time": -1.0, "v": 2.0, "s": "b"}, {"@time": -3.0, "v": 1.0, "s": "a"}, {"@time": -1.0, "v": 3.0, "s": "c"}]
    assert rows_of(joined([rows]), "labs")[1].column("v").to_pylist() == [1.0, 2.0, 3.0]


def test_what_is_no_list_of_rows_is_refused_and_lists_without_a_type_are_empty() -> None:
    with pytest.raises(DataError, match="not in the table"):
        rows_of(pa.table({"a": [1]}), "labs")
    with pytest.raises(DataError, match="list of rows"):
        rows_of(pa.table({"labs": [1]}), "labs")
    with pytest.raises(DataError, match="no column 'w'"):
        values_of(joined(LABS), "labs", "w", "latest")
    with pytest.raises(DataError, match="no numbers"):
        rows_of(pa.table({"labs": [[{"@time": "yesterday"}]]}), "labs")
    for empty in (pa.table({"labs": [[], None]}), pa.table({"labs": pa.nulls(2)})):
        assert rows_of(empty, "labs")[0].tolist() == [0, 0, 0]
        assert one_a_case(empty, "labs", None).num_rows == 2 and values_of(empty, "labs", "v", None).to_pylist() == [None, None]


_ROW = st.fixed_dictionaries(
    {"@time": st.none() | st.floats(-9, 1), "v": st.none() | st.floats(), "s": st.none() | st.sampled_from(["a", "b"])}
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.none() | st.lists(st.none() | _ROW, max_size=4), min_size=1, max_size=6),
    st.sampled_from(["latest", "first", "mean", "max"]),
)
def test_each_case_is_folded_by_itself_in_any_order_and_any_chunks(rows: list[object], many: str) -> None:
    whole = one_a_case(joined(rows), "labs", many).to_pylist()
    alone = [one_a_case(joined([row]), "labs", many).to_pylist()[0] for row in rows]
    turned = one_a_case(joined(rows[::-1]), "labs", many).to_pylist()[::-1]
    pieces = one_a_case(pa.concat_tables([joined(rows).slice(1), joined(rows).slice(0, 1)]), "labs", many).to_pylist()
    assert repr(whole) == repr(alone) == repr(turned) == repr(pieces[-1:] + pieces[:-1])


def test_a_million_rows_take_a_second_at_most() -> None:
    cases, each = 4000, 250
    hours = np.tile(np.linspace(-48, 0, each), cases)
    rows = pa.StructArray.from_arrays([pa.array(hours), pa.array(hours), pa.array(["x"] * len(hours))], names=["@time", "v", "s"])
    table = pa.table({"labs": pa.ListArray.from_arrays(pa.array(np.arange(0, cases * each + 1, each), pa.int32()), rows)})
    start = time.perf_counter()
    one_a_case(table, "labs", "mean")
    assert time.perf_counter() - start < 3  # 0.1 s alone on one processor; a loop over cases takes half a minute

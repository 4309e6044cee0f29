from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.events import EventsPreparation
from meddx.inputs.options import EventsInput
from meddx.inputs.summary import STATISTICS

KIND = pa.list_(pa.struct([("@time", pa.float64()), ("test", pa.string()), ("result", pa.float64()), ("unit", pa.string())]))
Row = tuple[float | None, str | None, float | None, str | None]
TRAIN: list[list[Row]] = [
    [(-4.0, "hr", 80.0, "bpm"), (-3.5, "hr", 90.0, "bpm"), (-1.0, "na", 140.0, "mmol/L")],
    [(-2.0, "hr", 100.0, "bpm"), (-2.0, "na", 130.0, "mmol/L"), (0.0, "hr", 60.0, "bpm")],
    [],
]


def cases(rows: list[list[Row]], kind: pa.DataType = KIND) -> pa.Table:
    names = ("@time", "test", "result", "unit")
    return pa.table({"labs": pa.array([[dict(zip(names, row, strict=True)) for row in case] for case in rows], kind)})


def options(**more: Any) -> EventsInput:
    page = {"kind": "events", "from": "labs", "variable": "test", "value": "result", "unit": "unit", "window": ["-4h", "0h"], **more}
    return EventsInput(**page)


def fitted(rows: list[list[Row]] = TRAIN, **more: Any) -> EventsPreparation:
    return EventsPreparation.fit("labs", options(**more), cases(rows))


def same(one: Any, two: Any) -> bool:
    return one.errors == two.errors and all(
        np.array_equal(a[name], b[name], equal_nan=True)
        for a, b in ((one.arrays, two.arrays), (one.aside, two.aside), ({"p": one.present}, {"p": two.present}))
        for name in a
    )


def test_values_are_put_on_the_grid_averaged_carried_forward_and_standardised() -> None:
    prep = fitted()
    hr = prep.variables[0]
    assert prep.names == ("hr", "na") and prep.columns == ("labs",) and prep.spec()["steps"] == 4
    assert hr.mean == pytest.approx(82.5, abs=0.1)
    made = prep.transform(cases(TRAIN))
    back = made.arrays["values"] * [one.deviation for one in prep.variables] + [one.mean for one in prep.variables]
    np.testing.assert_allclose(back[0, :, 0], [85, 85, 85, 85], atol=0.2)  # two readings in the first hour
    np.testing.assert_allclose(back[1, 2:, 0], [100, 60], atol=0.2)  # the end of the window belongs to the last step
    assert made.arrays["values"][1, :2, 0].tolist() == [0, 0]  # not yet seen: train's mean
    assert made.arrays["seen"][0].T.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(made.arrays["since"][0, :, 0], np.log1p([0, 1, 2, 3]), rtol=1e-6)
    np.testing.assert_allclose(made.arrays["since"][2], np.log1p(4.0), rtol=1e-6)
    assert all(array.dtype == np.float32 for array in made.arrays.values())
    assert made.present.tolist() == [True, True, True]
    assert fitted(optional=True).transform(cases(TRAIN)).present.tolist() == [True, True, False]


def test_a_value_after_predict_at_or_before_the_window_changes_nothing() -> None:
    prep = fitted()
    more: list[list[Row]] = [[*TRAIN[0], (0.5, "hr", 300.0, "bpm"), (None, "hr", 1.0, "bpm"), (-4.01, "na", 9.0, "bad unit")], *TRAIN[1:]]
    assert same(prep.transform(cases(TRAIN)), prep.transform(cases(more)))
    assert fitted(more) == prep
    early = {"window": ["-4h", "-1h"]}  # a window may end before predict_at
    late: list[list[Row]] = [[*TRAIN[0], (-0.9, "hr", 300.0, "bpm"), (-0.9, "na", 300.0, "odd")], *TRAIN[1:]]
    assert same(fitted(**early).transform(cases(TRAIN)), fitted(**early).transform(cases(late)))


def test_an_unknown_variable_is_passed_over_and_missing_values_are_no_readings() -> None:
    prep = fitted()
    more: list[list[Row]] = [
        [*TRAIN[0], (-1.0, "zinc", 5.0, "furlong"), (-1.0, None, 5.0, "bpm"), (-0.5, "hr", None, "?"), (-0.5, "hr", float("nan"), "?")],
        *TRAIN[1:],
    ]
    assert same(prep.transform(cases(TRAIN)), prep.transform(cases(more)))


def test_an_infinite_or_unreadable_value_is_a_row_error_and_spoils_no_other_row() -> None:
    prep = fitted()
    made = prep.transform(cases([TRAIN[0], [(-1.0, "hr", float("inf"), "bpm"), (-1.0, "na", 140.0, "mmol/L")], TRAIN[1]]))
    assert made.errors == {1: "value_unreadable"} and made.present.tolist() == [True, False, True]
    assert not made.arrays["seen"][1].any()
    assert np.array_equal(made.arrays["values"][[0, 2]], prep.transform(cases(TRAIN[:2])).arrays["values"])
    text = pa.list_(pa.struct([("@time", pa.float64()), ("test", pa.string()), ("result", pa.string()), ("unit", pa.string())]))
    written: Any = [[(-1.0, "hr", value, "bpm")] for value in ("80", "high", "-inf", "", None, "zinc")]
    made = prep.transform(cases(written, text))
    assert made.errors == {1: "value_unreadable", 2: "value_unreadable", 5: "value_unreadable"}
    assert made.arrays["seen"].any((1, 2)).tolist() == [True, False, False, False, False, False]


def test_a_unit_that_train_did_not_have_is_refused_unless_it_is_converted() -> None:
    glucose: list[list[Row]] = [[(-1.0, "glu", 90.0 + one, "mg/dL")] for one in range(8)]
    odd: list[list[Row]] = [[(-1.0, "glu", 5.25, "mmol/L")], [(-1.0, "glu", 90.0, "MG / dl")], [(-1.0, "glu", 90.0, None)]]
    made = fitted(glucose).transform(cases(odd))
    assert made.errors == {0: "unit_unexpected", 2: "unit_unexpected"} and made.present.tolist() == [False, True, False]
    prep = fitted(glucose, convert={"glu": {"mmol/L": 18.0}})
    assert prep.transform(cases(odd)).errors == {2: "unit_unexpected"}
    whole = prep.transform(cases([[(-1.0, "glu", 94.5, "mg/dL")]]))
    assert np.array_equal(prep.transform(cases(odd)).arrays["values"][:1], whole.arrays["values"])  # 5.25 x 18 = 94.5
    assert fitted([*glucose, [(-1.0, "glu", 91.0, None)]]).transform(cases(odd)).errors == {0: "unit_unexpected"}
    with pytest.raises(DataError, match="mmol/l"):
        fitted(glucose + odd[:1] * 3)
    assert fitted(glucose + odd[:1] * 30, convert={"glu": {"mmol/L": 18.0}}).variables[0].units[0] == ("mg/dl", 1.0)


def test_the_recipes_names_decide_which_variables_count() -> None:
    assert fitted(drop=("h*",)).names == ("na",)
    assert fitted(variables=("hr",)).names == ("hr",)
    with pytest.raises(RecipeError, match="'heartrate'"):
        fitted(variables=("heartrate",))
    with pytest.raises(DataError, match="no variable left"):
        fitted(min_share=0.9)
    with pytest.raises(RecipeError, match="not finite"):
        fitted(convert={"hr": {"Hz": 0.0}})
    with pytest.raises(RecipeError, match="needs `from`"):
        EventsPreparation.fit("labs", options(), pa.table({"labs": [1.0]}))


def test_rows_without_time_value_or_variable_are_refused_by_name() -> None:
    rows = cases(TRAIN).column("labs").combine_chunks()
    for lacking in ("@time", "result", "test", "unit"):
        flat = rows.flatten()
        names = [field.name for field in flat.type if field.name != lacking]
        fewer = pa.StructArray.from_arrays([flat.field(name) for name in names], names=names)
        with pytest.raises(DataError, match=lacking):
            fitted().transform(pa.table({"labs": pa.ListArray.from_arrays(rows.offsets, fewer)}))
    assert not fitted(optional=True).transform(pa.table({"age": [1.0]})).present.any()
    assert fitted().transform(pa.table({"labs": [[], None]})).present.all()


def test_the_summary_says_first_last_extremes_mean_count_slope_and_age() -> None:
    made = fitted().transform(cases([[(-4.0, "hr", 80.0, "bpm"), (-2.0, "hr", 70.0, "bpm"), (-1.0, "hr", 90.0, "bpm")]]))
    summary = made.aside["summary"][0]
    slope = np.polyfit([-4.0, -2.0, -1.0], [80.0, 70.0, 90.0], 1)[0]
    np.testing.assert_allclose(summary[:8], [80, 90, 70, 90, 80, 3, slope, 1], rtol=1e-4)
    count = STATISTICS.index("count")
    assert summary[8 + count] == 0 and np.isnan(np.delete(summary[8:], count)).all()
    assert fitted().spec()["summary_names"][:2] == ["hr first", "hr last"] and made.aside["summary"].dtype == np.float32


def test_one_wild_value_of_train_does_not_move_the_scale() -> None:
    rows: list[list[Row]] = [[(-1.0, "hr", float(60 + one % 40), "bpm")] for one in range(3000)]
    wild = fitted([*rows, [(-1.0, "hr", 1e12, "bpm")]])
    assert wild.variables[0].deviation == pytest.approx(fitted(rows).variables[0].deviation, rel=0.01)
    assert np.abs(wild.transform(cases([[(-1.0, "hr", 1e300, "bpm")]])).arrays["values"]).max() < 5


_ROW = st.tuples(
    st.floats(-6, 1) | st.none(),
    st.sampled_from(["hr", "na", "x", None]),
    st.none() | st.floats(),
    st.sampled_from(["bpm", "mmol/L", None]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_ROW, max_size=6), min_size=1, max_size=5), st.randoms())
def test_a_case_depends_on_its_own_rows_alone_and_not_on_columns_or_chunks(rows: list[list[Row]], random: Any) -> None:
    prep = fitted()
    whole = prep.transform(cases(rows))
    order = list(range(len(rows)))
    random.shuffle(order)
    moved = prep.transform(pa.concat_tables([cases([rows[place]]) for place in order]))
    for place, row in enumerate(order):
        assert whole.errors.get(row) == moved.errors.get(place)
        for name in whole.arrays:
            assert np.array_equal(whole.arrays[name][row], moved.arrays[name][place])
            assert np.isfinite(whole.arrays[name]).all()
    turned = pa.list_(pa.struct([KIND.value_type.field(one) for one in ("unit", "result", "@time", "test")]))
    names = ("@time", "test", "result", "unit")
    other = pa.table({"labs": pa.array([[dict(zip(names, row, strict=True)) for row in case] for case in rows], turned)})
    assert same(whole, prep.transform(other))


def test_the_state_goes_through_json_exactly_and_damage_is_found() -> None:
    prep = fitted(convert={"hr": {"Hz": 60.0}})
    state = json.loads(json.dumps(prep.state(), allow_nan=False))
    assert EventsPreparation.from_state(state) == prep
    for broken in ({}, {**state, "steps": 10**9}, {**state, "bin": 0}, {**state, "variables": [["hr"]]}, {**state, "fields": ["a"]}):
        with pytest.raises(BundleError):
            EventsPreparation.from_state(broken)
    none = {**state, "variables": [[*state["variables"][0][:5], 0.0]]}
    with pytest.raises(BundleError):
        EventsPreparation.from_state(none)


def test_many_cases_are_as_each_alone_across_the_chunks_of_the_grid() -> None:
    rng = np.random.default_rng(0)
    rows: list[list[Row]] = [
        [(float(hour), "hr", float(70 + hour), "bpm") for hour in -4 * rng.random(rng.integers(0, 4))] for _ in range(1100)
    ]
    prep = fitted()
    whole = prep.transform(cases(rows))
    for row in (0, 511, 512, 1023, 1024, 1099):
        assert np.array_equal(whole.arrays["values"][row], prep.transform(cases([rows[row]])).arrays["values"][0])


def test_an_intensive_care_set_takes_seconds_at_most() -> None:
    rng, stays, each = np.random.default_rng(0), 2000, 430
    count = stays * each
    names = np.array([f"v{one}" for one in range(37)])[rng.integers(0, 37, count)]
    hour = np.sort(rng.uniform(-48, 0, (stays, each)), axis=1).ravel()
    rows = pa.StructArray.from_arrays(
        [pa.array(hour), pa.array(names), pa.array(rng.normal(size=count))], names=["@time", "test", "result"]
    )
    table = pa.table({"labs": pa.ListArray.from_arrays(pa.array(np.arange(0, count + 1, each), pa.int32()), rows)})
    start = time.perf_counter()
    EventsPreparation.fit("labs", options(unit=None, window=["-48h", "0h"]), table).transform(table)
    assert time.perf_counter() - start < 8  # 1.2 s alone; a loop over rows takes minutes

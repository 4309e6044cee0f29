from __future__ import annotations

import json
import time
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.options import TableInput
from meddx.inputs.table import CLIP, MAX_LEVELS, MISSING, OTHER, TablePreparation


def small_table() -> pa.Table:
    return pa.table(
        {
            "age": [40.0, 60.0, None, 80.0, 50.0, float("inf")],
            "sex": ["F", "M", "F", None, "F", "M"],
            "ward": [1.0, 2.0, 2.0, None, 2.0, 1.0],
        }
    )


def fitted(**options: object) -> TablePreparation:
    return TablePreparation.fit(
        "t", TableInput(**{"min_count": 1, "category": ("ward",), **options}), ["age", "sex", "ward"], small_table()
    )


def same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], two[name]) for name in one)


def test_numbers_are_imputed_by_the_train_median_and_standardised() -> None:
    arrays = fitted().transform(small_table()).arrays
    known = np.array([40.0, 60.0, 80.0, 50.0])
    expected = (np.array([40, 60, 55, 80, 50, 55]) - known.mean()) / known.std()
    np.testing.assert_allclose(arrays["numbers"][:, 0], expected, atol=1e-6)
    assert arrays["missing"][:, 0].tolist() == [0, 0, 1, 0, 0, 1]  # infinity is missing
    assert arrays["numbers"].dtype == arrays["missing"].dtype == np.float32


def test_categories_count_from_two_by_frequency_with_missing_and_unseen_apart() -> None:
    rows = pa.table({"age": [1.0, 2.0, 3.0, 4.0], "sex": ["F", "M", "unheard of", None], "ward": ["2", "1", "7", ""]})
    codes = fitted().transform(rows).arrays["codes"]
    assert codes.tolist() == [[2, 2], [3, 3], [OTHER, OTHER], [MISSING, MISSING]]
    assert codes.dtype == np.int64


def test_a_code_is_the_same_level_as_text_float_or_integer() -> None:
    prep = fitted()
    asked = [
        prep.transform(pa.table({"age": [1.0, 1.0], "sex": ["F", "F"], "ward": values})).arrays["codes"][:, 1].tolist()
        for values in (["2", "1"], [2.0, 1.0], [2, 1], pa.array(["2", "1"]).dictionary_encode())
    ]
    assert asked == [[2, 3]] * 4


def test_leading_zeros_are_kept_apart() -> None:
    table = pa.table({"code": ["0012", "0012", "12"]})
    codes = TablePreparation.fit("t", TableInput(min_count=1), ["code"], table).transform(table).arrays["codes"]
    assert codes[:, 0].tolist() == [2, 2, 3]


def test_rare_levels_are_other_and_levels_are_limited() -> None:
    prep = TablePreparation.fit("t", TableInput(min_count=2), ["c"], pa.table({"c": ["a", "a", "b"]}))
    assert prep.transform(pa.table({"c": ["a", "b"]})).arrays["codes"][:, 0].tolist() == [2, OTHER]
    many = pa.table({"c": [str(one) for one in range(1000)] * 2})
    prep = TablePreparation.fit("t", TableInput(min_count=1), ["c"], many)
    assert prep.spec()["categories"] == [MAX_LEVELS]
    assert prep.transform(many).arrays["codes"].max() == MAX_LEVELS - 1


def test_constant_and_empty_columns_give_zeros_whatever_comes_later() -> None:
    prep = TablePreparation.fit(
        "t", TableInput(), ["same", "none"], pa.table({"same": [0.1] * 7, "none": pa.array([None] * 7, pa.float64())})
    )
    arrays = prep.transform(pa.table({"same": [0.1, 9e9, None], "none": [1.0, None, -4.0]})).arrays
    assert not arrays["numbers"].any()
    assert arrays["missing"].tolist() == [[0, 0], [0, 1], [1, 0]]


def test_huge_values_stay_finite() -> None:
    prep = TablePreparation.fit("t", TableInput(), ["x"], pa.table({"x": [1e300, -1e300, 1.0, 2.0]}))
    assert np.isfinite(prep.transform(pa.table({"x": [1e308, -1e308, 0.0]})).arrays["numbers"]).all()
    prep = TablePreparation.fit("t", TableInput(), ["x"], pa.table({"x": [1.0, 2.0, 3.0]}))
    assert prep.transform(pa.table({"x": [1e30]})).arrays["numbers"][0, 0] == CLIP


def test_text_in_a_numbers_place_is_parsed_or_a_row_error() -> None:
    rows = pa.table({"age": ["40", " 6e1 ", "", "about 50", None, "+80"], "sex": ["F"] * 6, "ward": ["1"] * 6})
    prepared = fitted().transform(rows)
    assert prepared.errors == {3: "number_unreadable"}
    assert prepared.present.tolist() == [True, True, True, False, True, True]
    assert prepared.arrays["missing"][:, 0].tolist() == [0, 0, 1, 1, 1, 0]
    whole = fitted().transform(pa.table({"age": [40.0, 60.0, None, None, None, 80.0], "sex": ["F"] * 6, "ward": ["1"] * 6}))
    np.testing.assert_array_equal(prepared.arrays["numbers"], whole.arrays["numbers"])


def test_an_absent_column_is_refused_by_name_unless_the_input_is_optional() -> None:
    rows = small_table().drop_columns(["sex"])
    with pytest.raises(DataError, match="sex"):
        fitted().transform(rows)
    assert (fitted(optional=True).transform(rows).arrays["codes"][:, 0] == MISSING).all()
    with pytest.raises(DataError, match="not in the table"):
        TablePreparation.fit("t", TableInput(), ["nowhere"], rows)
    with pytest.raises(DataError, match="no columns"):
        TablePreparation.fit("t", TableInput(), [], rows)


def test_an_optional_input_is_absent_where_every_column_is_empty() -> None:
    rows = pa.table({"age": [None, 50.0], "sex": [None, None], "ward": [None, None]})
    assert fitted(optional=True).transform(rows).present.tolist() == [False, True]
    assert fitted().transform(rows).present.tolist() == [True, True]
    assert not fitted(optional=True).transform(pa.table({"other": [1, 2]})).present.any()


def test_a_column_that_stands_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    with pytest.raises(DataError, match="2 times"):
        TablePreparation.fit("t", TableInput(), ["x"], table)


@pytest.mark.parametrize("options", [{}, {"category": ("x",)}])
def test_a_column_of_lists_is_refused(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(DataError, match="list"):
        TablePreparation.fit("t", TableInput(**options), ["x"], pa.table({"x": [[1], [2]]}))


def test_times_are_days_and_booleans_are_categories() -> None:
    table = pa.table({"seen": [datetime(2020, 1, 1), datetime(2020, 1, 3), None], "smoker": [True, False, True]})
    prep = TablePreparation.fit("t", TableInput(min_count=1), ["seen", "smoker"], table)
    assert prep.numbers[0].deviation == pytest.approx(1.0)
    assert prep.categories[0].levels == ("true", "false")


def test_column_order_types_and_chunks_of_the_table_change_nothing() -> None:
    prep, table = fitted(), small_table()
    plain = prep.transform(table).arrays
    turned = table.select(["ward", "age", "sex"])
    assert same(plain, prep.transform(turned).arrays)
    assert same(plain, prep.transform(pa.concat_tables([table.slice(0, 2), table.slice(2)])).arrays)
    assert same(plain, prep.transform(pa.Table.from_pandas(pd.DataFrame(table.to_pandas()), preserve_index=False)).arrays)
    assert prep == TablePreparation.fit("t", TableInput(min_count=1, category=("ward",)), ["age", "sex", "ward"], turned)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.floats(), st.none() | st.sampled_from(["F", "M", "", "x"])), min_size=1, max_size=12), st.randoms()
)
def test_rows_are_prepared_each_by_itself(rows: list[tuple[float | None, str | None]], random: object) -> None:
    table = pa.table(
        {
            "age": pa.array([age for age, _ in rows], pa.float64()),
            "sex": pa.array([sex for _, sex in rows], pa.string()),
            "ward": ["1"] * len(rows),
        }
    )
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    whole, moved = fitted().transform(table).arrays, fitted().transform(table.take(order)).arrays
    assert same({name: array[order] for name, array in whole.items()}, moved)
    assert all(np.isfinite(array).all() for array in whole.values())


def test_state_goes_through_json_exactly() -> None:
    prep = fitted()
    again = TablePreparation.from_state(json.loads(json.dumps(prep.state(), allow_nan=False)))
    assert again == prep
    assert same(prep.transform(small_table()).arrays, again.transform(small_table()).arrays)
    with pytest.raises(BundleError):
        TablePreparation.from_state({"name": "t", "optional": False, "numbers": [["age"]], "categories": []})


def test_an_empty_table_and_no_number_columns() -> None:
    arrays = fitted().transform(small_table().slice(0, 0)).arrays
    assert arrays["numbers"].shape == (0, 1) and arrays["codes"].shape == (0, 2)
    only = TablePreparation.fit("t", TableInput(min_count=1), ["sex"], small_table()).transform(small_table()).arrays
    assert only["numbers"].shape == (6, 0)


def test_a_large_table_takes_seconds_at_most() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"code {one}" for one in range(300)])
    table = pa.table({f"c{one}": words[rng.integers(0, 300, 40_000)] if one % 3 else rng.normal(size=40_000) for one in range(40)})
    start = time.perf_counter()
    TablePreparation.fit("t", TableInput(), table.column_names, table).transform(table)
    assert time.perf_counter() - start < 5  # 0.3 s alone on one processor; a loop over cells takes half a minute


def labs(*rows: list[tuple[float, object, object]] | None, number: pa.DataType | None = None) -> pa.Table:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("crp", number or pa.float64()), ("site", pa.string())]))
    made = [None if row is None else [{"@time": at, "crp": crp, "site": site} for at, crp, site in row] for row in rows]
    return pa.table({"labs": pa.array(made, kind), "age": [1.0] * len(rows)})


JOINED = labs([(-3, 1.0, "arm"), (-1, 5.0, None)], [], [(-2, 3.0, "leg")], None)


def of_labs(table: pa.Table = JOINED, **options: object) -> TablePreparation:
    page = TableInput(**{"from": "labs", "min_count": 1, "many": "latest", **options})
    return TablePreparation.fit("labs", page, ["labs"], table)


def test_a_joined_source_gives_its_fields_with_one_row_a_case() -> None:
    prep = of_labs()
    assert prep.columns == ("labs",) and prep.spec()["names"] == ["crp"] and prep.spec()["category_names"] == ["site"]
    made = prep.transform(JOINED)
    assert made.arrays["missing"][:, 0].tolist() == [0, 1, 0, 1] and made.arrays["codes"][:, 0].tolist() == [2, 0, 3, 0]
    flat = pa.table({"crp": [5.0, None, 3.0, None], "site": ["arm", None, "leg", None]})
    assert same(made.arrays, TablePreparation.fit("labs", TableInput(min_count=1), ["crp", "site"], flat).transform(flat).arrays)
    mean = of_labs(many="mean").transform(labs([(-3, 1.0, "arm"), (-1, 5.0, None)], [(-1, 3.0, "arm")])).arrays
    assert mean["numbers"][0] == mean["numbers"][1]
    assert made.present.all() and of_labs(optional=True).transform(JOINED).present.tolist() == [True, False, True, False]
    assert not of_labs(optional=True).transform(pa.table({"age": [1.0]})).present.any()


def test_a_joined_row_after_predict_at_and_the_order_of_its_fields_change_nothing() -> None:
    prep = of_labs()
    later = labs([(-3, 1.0, "arm"), (-1, 5.0, None), (0.1, 99.0, "head")], [(0.1, 2.0, "leg")], [(-2, 3.0, "leg")], None)
    assert same(prep.transform(JOINED).arrays, prep.transform(later).arrays) and of_labs(later) == prep
    turned = pa.list_(pa.struct([("site", pa.string()), ("crp", pa.float64()), ("@time", pa.float64())]))
    other = pa.table({"labs": pa.array(JOINED.column("labs").to_pylist(), turned)})
    assert same(prep.transform(JOINED).arrays, prep.transform(other).arrays)


def test_codes_among_joined_numbers_are_never_averaged() -> None:
    table = labs([(-3, 1.0, "a"), (-1, 4.0, "a")], [(-1, 4.0, "a")])
    assert of_labs(table, many="mean", category=("crp",)).transform(table).arrays["codes"][:, 0].tolist() == [2, 2]


def test_the_fields_of_a_joined_source_go_by_the_recipes_names() -> None:
    assert of_labs(columns=("c*",)).spec()["names"] == ["crp"] and of_labs(drop=("crp",)).spec()["names"] == []
    assert of_labs(columns=("@time",)).spec()["names"] == ["@time"]  # only where it is named
    with pytest.raises(RecipeError, match="'crq'"):
        of_labs(columns=("crq",))
    with pytest.raises(DataError, match="no columns"):
        of_labs(drop=("*",))


def test_several_joined_rows_without_a_rule_and_texts_for_numbers_are_row_errors() -> None:
    with pytest.raises(DataError, match="several rows"):
        of_labs(many=None)
    one = labs([(-1, 1.0, "arm")], [(-1, 2.0, "arm")])
    assert of_labs(one, many=None).transform(JOINED).errors == {0: "several_rows"}
    written = labs([(-2, "4", "arm"), (-1, "5.0", None)], [(-1, "high", None)], [(-1, "", "leg")], number=pa.string())
    made = of_labs(many="mean").transform(written)
    assert made.errors == {1: "number_unreadable"} and made.arrays["missing"][2, 0] == 1
    assert made.arrays["numbers"][0] == of_labs(many="mean").transform(labs([(-1, 4.5, None)])).arrays["numbers"][0]
    with pytest.raises(DataError, match="crp"):
        of_labs().transform(pa.table({"labs": [[{"@time": -1.0, "site": "arm"}]]}))


def test_the_state_of_a_joined_table_goes_through_json_and_that_of_an_older_bundle_is_read() -> None:
    prep = of_labs()
    state = json.loads(json.dumps(prep.state(), allow_nan=False))
    assert TablePreparation.from_state(state) == prep
    older = {key: value for key, value in fitted().state().items() if key not in ("source", "many")}
    assert TablePreparation.from_state(older) == fitted()
    with pytest.raises(BundleError):
        TablePreparation.from_state({**state, "many": "sum"})


def test_columns_stacked_in_blocks_are_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (50, 30)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    table = pa.table({f"g{one:02}": pa.array(values[:, one], from_pandas=one % 2 == 0) for one in range(30)} | {"n": [None, *range(49)]})
    prep = TablePreparation.fit("g", TableInput(), table.column_names, table)
    whole = prep.transform(table).arrays
    for place, name in enumerate(table.column_names):
        alone = TablePreparation.fit("g", TableInput(), [name], table)
        assert alone.numbers[0] == prep.numbers[place]
        scaled, missing = alone.numbers[0].scale(np.array(table.column(name).to_pylist(), float))
        assert np.array_equal(scaled, whole["numbers"][:, place]) and np.array_equal(missing, whole["missing"][:, place])
    monkeypatch.setattr("meddx.inputs.table._BLOCK", 120)
    assert TablePreparation.fit("g", TableInput(), table.column_names, table) == prep and same(whole, prep.transform(table).arrays)


def test_thousands_of_columns_take_half_a_second() -> None:
    values = np.random.default_rng(0).normal(size=(7129, 62))
    table = pa.table({f"g{one}": row for one, row in enumerate(values)})
    start = time.perf_counter()
    TablePreparation.fit("g", TableInput(), table.column_names, table).transform(table)
    assert time.perf_counter() - start < 2  # 0.3 s alone on one processor, three times that a column at a time

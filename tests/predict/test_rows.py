"""meddx.predict.rows: rows of every kind become the same table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from meddx.errors import DataError
from meddx.predict.manifest import Column
from meddx.predict.rows import as_table

COLUMNS = (Column(name="x", use="number", required=True), Column(name="c", use="category", required=False))


def test_ids_are_text_and_a_missing_one_is_the_number_of_the_row() -> None:
    found = as_table([{"x": 1, "case_id": 7}, {"x": 2.5}, {"x": None, "case_id": "0012", "patient_id": 3}], COLUMNS)
    assert found.column_names == ["case_id", "patient_id", "x"]
    assert found["case_id"].to_pylist() == ["7", "1", "0012"]
    assert found["patient_id"].to_pylist() == [None, None, "3"]
    assert found["x"].to_pylist() == [1.0, 2.5, None]
    frame = pd.DataFrame({"case_id": [7.0, np.nan], "x": [1, 2]}, index=[5, 5])
    assert as_table(frame, COLUMNS)["case_id"].to_pylist() == ["7", "1"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array(["a", None, "b"], pa.string_view()),
    ],
)
def test_every_type_of_text_is_text(values: pa.Array) -> None:
    found = as_table(pa.table({"x": [1.0, 2, 3], "c": values}), COLUMNS)
    assert found["c"].to_pylist() == ["a", None, "b"]
    assert not pa.types.is_dictionary(found["c"].type)
    assert not pa.types.is_string_view(found["c"].type)


@pytest.mark.parametrize(
    "series", [pd.Categorical(["a", None, "b"]), pd.array(["a", None, "b"], dtype="string"), np.array(["a", np.nan, "b"], object)]
)
def test_every_type_of_a_frames_text_is_text(series: object) -> None:
    assert as_table(pd.DataFrame({"x": [1, 2, 3], "c": series}), COLUMNS)["c"].to_pylist() == ["a", None, "b"]


def test_a_column_of_mixed_values_becomes_text_a_value_at_a_time() -> None:
    mixed = [1, "a", None, True, 2.5, np.float64(3), float("nan"), b"bytes", object()]
    expected = ["1", "a", None, "true", "2.5", "3", None, "", None]
    assert as_table([{"x": one} for one in mixed], COLUMNS)["x"].to_pylist() == expected
    assert as_table(pd.DataFrame({"x": pd.Series(mixed, dtype=object)}), COLUMNS)["x"].to_pylist() == expected


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match=r"lack 1 column\(s\) that the bundle needs: 'x' \(is it 'xx'\?\)"):
        as_table(pa.table({"xx": [1]}), COLUMNS)
    with pytest.raises(DataError, match="'x' stands twice"):
        as_table(pa.table([[1], [2]], names=["x", "x"]), COLUMNS)
    with pytest.raises(DataError, match="'x' stands twice"):
        as_table(pd.DataFrame([[1, 2]], columns=["x", "x"]), COLUMNS)
    for rows in ("x", {"x": [1]}, [1, 2], None):
        with pytest.raises(DataError, match="are not known"):
            as_table(rows, COLUMNS)  # type: ignore[arg-type]


def test_many_missing_columns_are_counted_and_five_are_named() -> None:
    columns = [Column(name=f"lab_{place}", use="number", required=True) for place in range(9)]
    with pytest.raises(DataError, match="lack 9 .* and 4 more"):
        as_table(pa.table({"x": [1]}), columns)


def test_no_rows() -> None:
    assert as_table(pa.table({"x": pa.array([], pa.float64())}), COLUMNS).num_rows == 0

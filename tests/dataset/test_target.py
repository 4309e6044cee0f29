"""Labels as text, unknown ones refused by name and count, empty ones unlabelled."""

from __future__ import annotations

import pyarrow as pa
import pytest

from meddx.dataset.options import TargetOptions
from meddx.dataset.target import TargetCoder
from meddx.errors import DataError, RecipeError


def binary(**more: object) -> TargetCoder:
    return TargetCoder(TargetOptions.model_validate({"kind": "binary", "column": "y", **more}))


def test_binary_text_labels_and_unlabelled() -> None:
    coder = binary(positive=["<30"], negative=["NO", ">30"], unlabelled=["?"])
    labels = coder.encode(pa.table({"y": ["<30", "NO", None, "", " ", "?", ">30"]}))
    assert coder.classes == ("NO", "<30")
    assert labels.values.tolist() == [1, 0, 0, 0, 0, 0, 0] and str(labels.values.dtype) == "float32"
    assert labels.known.tolist() == [True, True, False, False, False, False, True]
    assert labels.take(labels.labelled).values.tolist() == [1, 0, 0]


@pytest.mark.parametrize("column", [pa.array([1.0, 0.0, None, float("nan")]), pa.array([1, 0, None, None]), pa.array(["1", "0", None, ""])])
def test_numbers_compare_as_their_shortest_text(column: pa.Array) -> None:
    labels = binary(positive=[1], negative=[0]).encode(pa.table({"y": column}))
    assert labels.values.tolist() == [1, 0, 0, 0] and labels.known.tolist() == [True, True, False, False]


def test_leading_zeros_and_booleans_are_other_labels() -> None:
    with pytest.raises(DataError, match="'01'"):
        binary(positive=[1], negative=[0]).encode(pa.table({"y": ["01", "0"]}))
    assert binary(positive=["true"], negative=["false"]).encode(pa.table({"y": [True, False]})).values.tolist() == [1, 0]
    assert binary(positive=["0.5"], negative=["0.25"]).encode(pa.table({"y": [0.5, 0.25]})).values.tolist() == [1, 0]


def test_unknown_labels_are_named_with_counts_at_most_five() -> None:
    values = ["yes", "no"] + ["maybe"] * 3 + [f"v{i}" for i in range(7)]
    with pytest.raises(DataError) as caught:
        binary(positive=["yes"], negative=["no"]).encode(pa.table({"y": values}))
    text = str(caught.value)
    assert "'maybe' (3 cases), 'v0' (1 cases)" in text and "3 more values" in text and "v4" not in text
    assert "target.unlabelled" in text and caught.value.exit_code == 3


def test_positive_above() -> None:
    coder = binary(positive_above=0)
    assert coder.classes == ("no", "yes")
    assert coder.encode(pa.table({"y": [0.0, 1.0, 4.0, None]})).values.tolist() == [0, 1, 1, 0]
    assert coder.encode(pa.table({"y": ["0", "2e-1", None]})).values.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="not numbers: 'high'"):
        coder.encode(pa.table({"y": ["0", "high"]}))


def test_multiclass_keeps_the_declared_order() -> None:
    coder = TargetCoder(TargetOptions(kind="multiclass", column="y", classes=("c", "a", "b")))
    labels = coder.encode(pa.table({"y": ["a", "b", "c", None]}))
    assert labels.values.tolist() == [1, 2, 0, 0] and str(labels.values.dtype) == "int64" and labels.known.tolist() == [True] * 3 + [False]
    with pytest.raises(DataError, match="target.classes"):
        coder.encode(pa.table({"y": ["d"]}))


def test_multilabel_masks_each_label() -> None:
    coder = TargetCoder(TargetOptions(kind="multilabel", columns=("a", "b"), positive=("1",), negative=("0",)))
    labels = coder.encode(pa.table({"a": ["1", "0", None], "b": ["0", None, None]}))
    assert coder.classes == ("a", "b")
    assert labels.values.tolist() == [[1, 0], [0, 0], [0, 0]] and labels.known.tolist() == [[True, True], [True, False], [False, False]]
    assert labels.labelled.tolist() == [True, True, False]


def test_missing_column_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'yy'"):
        binary(positive=[1], negative=[0]).encode(pa.table({"yy": [1]}))


def test_empty_table() -> None:
    assert binary(positive=[1], negative=[0]).encode(pa.table({"y": pa.array([], pa.string())})).values.shape == (0,)


def test_classes_of_several_values_and_ordinal() -> None:
    page = {"kind": "ordinal", "column": "y", "classes": {"none": ["0"], "some": ["1", "2"], "much": ["3"]}, "unlabelled": ["Q"]}
    coder = TargetCoder(TargetOptions.model_validate(page))
    labels = coder.encode(pa.table({"y": ["2", "0", "3", "Q", "1", None]}))
    assert coder.classes == ("none", "some", "much")
    assert labels.values.tolist() == [1, 0, 2, 0, 1, 0] and labels.known.tolist() == [True, True, True, False, True, False]
    assert str(labels.values.dtype) == "int64"
    with pytest.raises(ValueError, match="two classes"):
        TargetOptions.model_validate({**page, "classes": {"a": ["0"], "b": ["0"]}})
    with pytest.raises(ValueError, match="twice"):
        TargetOptions.model_validate({**page, "classes": ["a", "b", "a"]})


def test_amounts_of_a_regression() -> None:
    coder = TargetCoder(TargetOptions.model_validate({"kind": "regression", "column": "y", "unlabelled": ["lost"]}))
    labels = coder.encode(pa.table({"y": ["1.5", "", "lost", "-2"]}))
    assert labels.values.tolist() == [1.5, 0, 0, -2] and labels.known.tolist() == [True, False, False, True]
    assert coder.encode(pa.table({"y": [0.25, None]})).values.tolist() == [0.25, 0]
    with pytest.raises(DataError, match="'high'"):
        coder.encode(pa.table({"y": ["1", "high"]}))


def test_a_case_followed_for_less_than_the_horizon_is_unlabelled_never_negative() -> None:
    from datetime import UTC, datetime

    page = {"kind": "binary", "column": "y", "positive": ["1"], "negative": ["0"], "horizon": "30d", "followed_until": "seen"}
    start = datetime(2020, 1, 1, tzinfo=UTC)
    seen = [datetime(2020, 1, 31, tzinfo=UTC), datetime(2020, 1, 30, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC), None]
    table = pa.table({"y": ["0", "0", "1", "0"], "predict_at": [start] * 4, "seen": seen})
    labels = TargetCoder(TargetOptions.model_validate(page)).encode(table)
    assert labels.known.tolist() == [True, False, True, False]

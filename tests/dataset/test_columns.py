"""Names and patterns, and what a model may never look at."""

from __future__ import annotations

import pyarrow as pa
import pytest

from meddx.dataset.columns import match, table_columns, wide_columns
from meddx.errors import LeakError, MeddxError, RecipeError
from meddx.inputs.options import TableInput

TEXT, NUMBER = pa.string(), pa.float64()
SCHEMA = pa.schema(
    [
        ("case_id", TEXT),
        ("patient_id", TEXT),
        ("predict_at", pa.timestamp("us", tz="UTC")),
        ("age", NUMBER),
        ("lab_a", NUMBER),
        ("lab_b", NUMBER),
        ("dose [mg]", NUMBER),
        ("image", pa.binary()),
        ("day", pa.timestamp("us")),
        ("died", TEXT),
        ("label", TEXT),
    ]
)


def columns(after: tuple[str, ...] = (), **options: object) -> list[str]:
    return table_columns(TableInput.model_validate(options), SCHEMA, after_outcome=after, never=["label"])


def test_star_reaches_only_what_may_be_seen() -> None:
    assert columns() == ["age", "lab_a", "lab_b", "dose [mg]", "died"]
    assert columns(after=("died",)) == ["age", "lab_a", "lab_b", "dose [mg]"]
    assert columns(drop=["lab_*", "died"]) == ["age", "dose [mg]"]
    assert columns(columns=["lab_?", "age"]) == ["age", "lab_a", "lab_b"]
    assert columns(columns=["dose [mg]"]) == ["dose [mg]"]
    assert columns(columns=["lab_a", "died"], drop=["died"], after=("died",)) == ["lab_a"]
    assert columns(columns=["*_?", "patient*", "age"]) == ["age", "lab_a", "lab_b"]
    assert columns(columns=["da*", "age"]) == ["age"] and columns(columns=["day", "age"]) == ["age", "day"]


@pytest.mark.parametrize(
    ("options", "after", "kind", "told"),
    [
        ({"columns": ["died"]}, ("died",), LeakError, "after the outcome"),
        ({"columns": ["died"]}, ("di*",), LeakError, "after the outcome"),
        ({"columns": ["label"]}, (), LeakError, "never an input"),
        ({"columns": ["patient_id"]}, (), LeakError, "never an input"),
        ({"columns": ["image"]}, (), RecipeError, "pictures"),
        ({"columns": ["agee"]}, (), RecipeError, "did you mean 'age'"),
        ({"columns": ["labs_*"]}, (), RecipeError, "matches no column"),
        ({"drop": ["deid"]}, (), RecipeError, "did you mean 'died'"),
        ({"category": ["lab_c"]}, (), RecipeError, "did you mean 'lab_"),
        ({}, ("dead",), RecipeError, "timing.after_outcome"),
        ({"columns": ["died"], "drop": ["died"]}, (), RecipeError, "no column left"),
    ],
)
def test_refusals(options: dict[str, object], after: tuple[str, ...], kind: type[MeddxError], told: str) -> None:
    with pytest.raises(kind) as caught:
        columns(after=after, **options)
    assert told in str(caught.value)


def test_match_is_case_sensitive_and_keeps_the_order_of_names() -> None:
    assert match(["b*", "A"], ["B1", "b1", "a", "A", "b2"]) == ["b1", "A", "b2"]


def test_wide_patterns() -> None:
    names = ["age", *(f"g{i}" for i in range(60)), *(f"h{i}" for i in range(49))]
    assert wide_columns(TableInput(columns=("g*", "h*", "age")), names) == {f"g{i}" for i in range(60)}
    assert wide_columns(TableInput(columns=("*",)), names) == set()

"""The filter parser: what it reads, what it refuses, and that it agrees with a second evaluator on random filters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.dataset.cohort import Filter
from meddx.dataset.grammar import MAX_DEPTH, Both, Compare, Missing, Not, parse
from meddx.errors import RecipeError


def test_reads_the_grammar() -> None:
    assert parse("age >= 18", "x") == Compare("age", ">=", ("18",))
    assert parse("disposition in [11, '19 x', F]", "x") == Compare("disposition", "==", ("11", "19 x", "F"))
    assert parse("d not in [1]", "x") == Not(Compare("d", "==", ("1",)))
    assert parse('"age at entry" is not missing', "x") == Not(Missing("age at entry"))
    assert parse("a = 1 or b != 2 and not c is missing", "x") == Both(
        (Compare("a", "==", ("1",)), Both((Not(Compare("b", "==", ("2",))), Not(Missing("c"))), every=True)), every=False
    )
    assert parse("d.time < -1e-3", "x") == Compare("d.time", "<", ("-1e-3",))
    assert parse("地区 == 北京", "x") == Compare("地区", "==", ("北京",))
    assert parse("state in [OR, IN, in, not]", "x").literals == ("OR", "IN", "in", "not")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a column's name expected (position 1)"),
        ("age >=", "a number or text expected (position 7)"),
        ("age >= 18 and", "a column's name expected (position 14)"),
        ("18 <= age <= 80", "'<=' is not expected"),
        ("age >= 18 AND sex == F", "`and` or `or` (lower case) (position 11)"),
        ("(age >= 18", "')' expected (position 11)"),
        ("sex in [F, M", "']' expected"),
        ("sex in []", "a number or text expected (position 9)"),
        ("sex in F", "'[' expected"),
        ("sex == 'F", "a quote is not closed (position 8)"),
        ("__import__('os').system('true')", "position 11"),
        ("age; drop", "the sign ';' is not known here"),
        ("a is present", "'missing' expected"),
        ("not", "a column's name expected"),
        ("and == 1", "not the word 'and'"),
    ],
)
def test_refuses_with_position(text: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "cohort.keep.adult")
    assert told in str(caught.value)
    assert "cohort.keep.adult" in str(caught.value)


@pytest.mark.parametrize("text", ["(" * 40 + "a == 1" + ")" * 40, "not " * 40 + "a == 1", "a == 1 or " * 300 + "a == 2"])
def test_limits(text: str) -> None:
    with pytest.raises(RecipeError):
        parse(text, "x")
    assert parse("(" * (MAX_DEPTH - 1) + "a == 1" + ")" * (MAX_DEPTH - 1), "x")


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parse(text, "x")
    except RecipeError:
        return


TABLE = pd.DataFrame({"n": [1.0, 2.0, np.nan, 3.0, 2.0, np.nan], "t": ["a", "b", "a", None, "c", None]})
atoms = st.sampled_from(
    [
        "n >= 2",
        "n < 3",
        "n == 2",
        "n != 1",
        "n in [1, 3]",
        "n not in [2]",
        "n is missing",
        "t == a",
        "t != b",
        "t in [a, c]",
        "t not in [a]",
        "t is not missing",
    ]
)
filters = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) and ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) or ({two[1]})"),
        inner.map(lambda one: f"not ({one})"),
    ),
    max_leaves=6,
)


def oracle(text: str, row: dict[str, object]) -> bool | None:
    """The same filter by Kleene's tables, from the tree, one row at a time."""

    def walk(node: object) -> bool | None:
        if isinstance(node, Not):
            inner = walk(node.inner)
            return None if inner is None else not inner
        if isinstance(node, Both):
            found = [walk(part) for part in node.parts]
            decisive = not node.every
            return decisive if decisive in found else (None if None in found else not decisive)
        value = row[node.column]  # type: ignore[attr-defined]
        gone = value is None or value != value
        if isinstance(node, Missing):
            return gone
        assert isinstance(node, Compare)
        if gone:
            return None
        if isinstance(value, str):
            return value in node.literals
        first = float(node.literals[0])
        return {"==": value in [float(one) for one in node.literals], ">=": value >= first, "<": value < first}[node.op]  # type: ignore[operator]

    return walk(parse(text, "x"))


@given(filters)
@settings(max_examples=200, deadline=None)
def test_agrees_with_three_valued_logic(text: str) -> None:
    mask = Filter.parse(text).mask(pa.Table.from_pandas(TABLE))
    assert mask.tolist() == [oracle(text, row) is True for row in TABLE.to_dict("records")]

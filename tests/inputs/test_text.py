from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import BundleError, DataError
from meddx.inputs.options import TextInput
from meddx.inputs.text import UNKNOWN, TextPreparation

TRAIN = ["Chest pain since monday", "no chest pain", "pain", None, ""]


def notes(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def fitted(table: pa.Table | None = None, **options: Any) -> TextPreparation:
    page = {"kind": "text", "min_count": 1, "max_tokens": 4, **options}
    return TextPreparation.fit("note", TextInput(**page), notes(*TRAIN) if table is None else table)


def joined(*rows: list[tuple[float, str | None]] | None) -> pa.Table:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("text", pa.string())]))
    return pa.table({"notes": pa.array([None if row is None else [{"@time": at, "text": text} for at, text in row] for row in rows], kind)})


def test_the_vocabulary_is_that_of_train_by_frequency_then_spelling() -> None:
    prep = fitted()
    assert prep.words == ("pain", "chest", "monday", "no", "since")
    assert fitted(min_count=2).words == ("pain", "chest") and fitted(max_words=3).words == ("pain", "chest", "monday")
    assert prep.spec() == {"kind": "text", "optional": False, "tokens": 4, "words": 7}
    assert fitted(notes(*TRAIN[::-1])) == prep


def test_words_become_numbers_padded_with_zero_and_unknown_ones_are_one() -> None:
    made = fitted().transform(notes("Pain, chest", "PAIN zebra"))
    assert made.arrays["tokens"].tolist() == [[2, 3, 0, 0], [2, UNKNOWN, 0, 0]] and made.arrays["length"].tolist() == [2, 2]
    assert made.arrays["tokens"].dtype == made.arrays["length"].dtype == np.int32


def test_a_long_text_loses_its_middle_and_that_is_counted() -> None:
    prep = fitted(max_tokens=3)
    assert prep.transform(notes("chest zebra zebra zebra no pain")).arrays["tokens"].tolist() == [[3, UNKNOWN, 2]]
    assert prep.transform(notes("chest no pain")).arrays["tokens"].tolist() == [[3, 5, 2]]
    assert prep.truncated == pytest.approx(1 / 3) and fitted().truncated == 0
    assert fitted(max_tokens=1).transform(notes("chest pain")).arrays["tokens"].tolist() == [[3]]


def test_an_empty_text_is_a_row_error_and_a_null_is_absent() -> None:
    made = fitted().transform(notes("pain", "", None, " \u200b ... "))
    assert made.errors == {1: "text_empty", 3: "text_empty"} and made.present.tolist() == [True, False, False, False]
    assert not made.arrays["tokens"][1:].any()


def test_what_cannot_be_used_is_refused_with_a_reason() -> None:
    with pytest.raises(DataError, match="no text"):
        fitted(notes(None, ""))
    with pytest.raises(DataError, match="seen 9 times"):
        fitted(min_count=9)
    with pytest.raises(DataError, match="not in the table"):
        fitted().transform(pa.table({"other": ["a"]}))
    with pytest.raises(DataError, match="not text"):
        fitted().transform(pa.table({"text": [1.5]}))
    assert not fitted(optional=True).transform(pa.table({"other": ["a"]})).present.any()


def test_of_several_notes_the_rule_takes_one_or_all() -> None:
    table = joined([(-3, "chest"), (-1, "pain no"), (0, " "), (0.1, "monday")], [], None, [(-1, "")])
    tokens = {
        many: fitted(joined([(-1, "chest pain no monday since pain pain chest")]), **{"from": "notes", "many": many}).transform(table)
        for many in ("latest", "first", "join")
    }
    words = ("pain", "chest", "monday", "no", "since")
    numbers = {word: place for place, word in enumerate(words, 2)}
    for many, text in (("latest", "pain no"), ("first", "chest"), ("join", "chest pain no")):
        length = tokens[many].arrays["length"]
        assert tokens[many].arrays["tokens"][0, : length[0]].tolist() == [numbers[word] for word in text.split()]
        assert tokens[many].present.tolist() == [True, False, False, False] and tokens[many].errors == {3: "text_empty"}


def test_without_a_rule_several_notes_are_refused_in_train_and_are_a_row_error_later() -> None:
    several = joined([(-2, "pain"), (-1, "chest")], [(-1, "pain")])
    with pytest.raises(DataError, match="several rows"):
        fitted(several, **{"from": "notes"})
    made = fitted(joined([(-1, "pain")]), **{"from": "notes"}).transform(several)
    assert made.errors == {0: "several_rows"} and made.present.tolist() == [False, True]


def test_text_state_goes_through_json_exactly() -> None:
    prep = fitted(joined([(-1, "pain")]), **{"from": "notes", "many": "join"})
    state = json.loads(json.dumps(prep.state(), allow_nan=False))
    assert TextPreparation.from_state(state) == prep and prep.columns == ("notes",)
    for broken in ({}, {**state, "max_tokens": 0}, {**state, "many": "mean"}, {**state, "words": ["a", "a"]}, {**state, "words": None}):
        with pytest.raises(BundleError):
            TextPreparation.from_state(broken)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.text(max_size=8) | st.sampled_from(["chest pain", "no no no no no no"]), min_size=1, max_size=6))
def test_each_text_is_prepared_by_itself_whatever_the_type_of_the_column(texts: list[str | None]) -> None:
    prep = fitted()
    whole = prep.transform(notes(*texts))
    for row, text in enumerate(texts):
        alone = prep.transform(notes(text))
        assert np.array_equal(alone.arrays["tokens"][0], whole.arrays["tokens"][row]) and alone.present[0] == whole.present[row]
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()):
        other = pa.table({"text": pa.array(texts, pa.string()).cast(kind) if kind != pa.string_view() else pa.array(texts, kind)})
        assert np.array_equal(prep.transform(other).arrays["tokens"], whole.arrays["tokens"])
    assert (whole.arrays["tokens"] > 0).sum(1).tolist() == whole.arrays["length"].tolist()

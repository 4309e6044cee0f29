from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError
from meddx.inputs.options import TokensInput
from meddx.inputs.pieces import pieces
from meddx.inputs.tags import label_arrays, tag_names, tags_of, word_spans, words_to_spans
from meddx.inputs.tokens import TokensPreparation
from meddx.inputs.types import Prepared

TEXT = "severe heart failure and asthma"  # words at 0-6, 7-12, 13-20, 21-24, 25-31
CLASSES = ("Chemical", "Disease")


def prepared(*texts: str | None, size: int = 6) -> Prepared:
    options = TokensInput(kind="tokens", min_count=1, max_tokens=size)
    return TokensPreparation.fit("note", options, pa.table({"text": [TEXT]})).transform(pa.table({"text": pa.array(texts, pa.string())}))


def tags(*spans: tuple[int, int, int]) -> tuple[list[int], int, int]:
    values, known, widened, overlapping = label_arrays(prepared(TEXT), [list(spans)], CLASSES)
    assert known.tolist() == [[True] * 5 + [False]]
    return values[0].tolist(), widened, overlapping


def test_the_first_word_of_an_entity_is_b_and_the_others_i() -> None:
    assert tag_names(CLASSES) == ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"]
    assert tags((7, 20, 1), (25, 31, 0)) == ([0, 3, 4, 0, 1, 0], 0, 0)
    assert tags((0, 6, 1), (7, 20, 1)) == ([3, 3, 4, 0, 0, 0], 0, 0)


def test_a_span_that_cuts_a_word_is_widened_and_counted() -> None:
    assert tags((9, 14, 1)) == ([0, 3, 4, 0, 0, 0], 1, 0)
    assert tags((6, 12, 1)) == ([0, 3, 0, 0, 0, 0], 1, 0)  # begins at a space
    values, widened = tags_of(np.array([0, 5, 0]), np.array([4, 9, 0]), 2, [(2, 6, 0)], CLASSES)
    assert values.tolist() == [1, 2, 0] and widened == 1 and values.dtype == np.int64


def test_of_overlapping_spans_the_longer_wins_in_whatever_order_they_come() -> None:
    for spans in ([(13, 20, 0), (7, 20, 1)], [(7, 20, 1), (13, 20, 0)]):
        assert tags(*spans) == ([0, 3, 4, 0, 0, 0], 0, 1)
    assert tags((0, 12, 0), (7, 20, 1)) == ([0, 3, 4, 0, 0, 0], 0, 1)  # as many words: the more characters
    assert tags((7, 20, 1), (7, 20, 0)) == ([0, 1, 2, 0, 0, 0], 0, 1)  # the same place: the first label
    assert tags((10, 12, 0), (7, 10, 1)) == ([0, 3, 0, 0, 0, 0], 2, 1)  # one word has one tag


def test_what_nobody_marked_and_what_has_no_text_is_not_known() -> None:
    made = prepared(TEXT, TEXT, None, " ")
    values, known, widened, overlapping = label_arrays(made, [None, [], [(0, 3, 0)], [(0, 1, 0)]], CLASSES)
    assert known.sum(axis=1).tolist() == [0, 5, 0, 0] and not values.any() and (widened, overlapping) == (0, 0)


@pytest.mark.parametrize("span", [(40, 45, 0), (31, 40, 0), (6, 7, 0), (8, 8, 0), (9, 8, 0), (20, 21, 1)])
def test_a_span_without_a_word_is_refused_for_its_places_are_wrong(span: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="no word") as caught:
        tags(span)
    assert "code points" in caught.value.next_step and "heart" not in str(caught.value)


def test_a_label_that_is_not_there_is_refused() -> None:
    for label in (2, -1):
        with pytest.raises(DataError, match="label number"):
            tags((0, 6, label))


def test_an_i_that_continues_nothing_opens_an_entity() -> None:
    assert word_spans(np.array([2, 2, 4, 3, 4, 1, 2]), 6) == [(0, 1, 0), (2, 2, 1), (3, 4, 1), (5, 5, 0)]


def test_label_and_score_are_handed_on() -> None:
    start, end = np.array([0, 7, 13]), np.array([6, 12, 20])
    assert words_to_spans(start, end, [(1, 2, 1, 0.5), (0, 0, 0, 0.25)]) == [(7, 20, 1, 0.5), (0, 6, 0, 0.25)]


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.data())
def test_spans_on_words_come_back_from_their_tags(text: str, data: st.DataObject) -> None:
    places = pieces(text)
    spans, first = [], 0
    while first < len(places):
        last = data.draw(st.integers(first, len(places) - 1))
        label = data.draw(st.sampled_from([None, 0, 1]))
        if label is not None:
            spans.append((places[first][0], places[last][1], label))
        first = last + 1
    made = prepared(text, size=40)
    values, _, widened, overlapping = label_arrays(made, [spans], CLASSES)
    found = word_spans(values[0], int(made.arrays["length"][0]))
    assert words_to_spans(made.aside["start"][0], made.aside["end"][0], found) == spans and widened == overlapping == 0

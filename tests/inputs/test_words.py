from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meddx.inputs.words import tokens_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t take 3.5mg, q.d.", ["don't", "take", "3.5mg", "q", "d"]),
        ("RR 1,000 'quoted' b12's", ["rr", "1,000", "quoted", "b12's"]),
        ("caf\u00e9 cafe\u0301 NAI\u0308VE", ["caf\u00e9", "caf\u00e9", "na\u00efve"]),
        ("\u60a3\u8005\u7537\uff0c38.5\u2103", ["\u60a3", "\u8005", "\u7537", "38.5", "\u00b0", "c"]),
        ("pain\u200bful\u00ad ness\ufeff", ["painful", "ness"]),
        ("a\u0000b\tc\nd\u00a0e", ["ab", "c", "d", "e"]),
        ("\uff21\uff22\uff23 \ufb01ne", ["abc", "fine"]),
        ("SpO2 < 90% ? (yes) low-back", ["spo2", "<", "90", "%", "?", "yes", "low", "back"]),
        ("\u0e01\u0e34\u0e19 \ud55c\uad6d", ["\u0e01\u0e34\u0e19", "\ud55c\uad6d"]),
        ("", []),
        (" \u200b\ufe0f!\u0301 ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_place_of_a_word_is_in_the_text_as_it_was_given() -> None:
    text = "x\u200b Cafe\u0301 \ufb01ne \u60a3 can\u2019t"
    assert [text[start:end] for _, start, end in tokens_of(text)] == ["x", "Cafe\u0301", "\ufb01ne", "\u60a3", "can\u2019t"]
    assert tokens_of("\u00bd") == [("1", 0, 1), ("2", 0, 1)]  # one character stands for two words


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    st.sampled_from("aZ9'.,\u2019\u0301\u0327\u200d\u0130\u03a3\u00bd\ufb01\u60a3\u1100\u1161\u11a8\uff9e\uff76\u034f\u1160 %"), max_size=12
)


@settings(max_examples=600, deadline=None)
@given(_TEXT)
@example("\u0130\u0307")
@example("J\u030c")
@example("e\u200d\u0301")
@example("\u1100\u034f\u1161\u11a8")
@example("\u03a3\u03a3 ")
def test_offsets_run_forward_inside_the_text_and_nfkc_changes_no_word(text: str) -> None:
    found = tokens_of(text)
    assert all(0 <= start < end <= len(text) and word for word, start, end in found)
    assert all(one[1] <= two[1] and one[2] <= two[2] for one, two in zip(found, found[1:], strict=False))
    assert tokens_of(text) == found
    words = [word for word, _, _ in found]
    assert words_of(unicodedata.normalize("NFKC", text)) == words
    assert words_of(" ".join(words)) == words  # words are words


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(max_codepoint=127), max_size=20), st.sampled_from(["\u200b", "\ufeff", "\u00ad", "\u2060"]), st.integers(0, 20)
)
def test_an_invisible_character_changes_no_word(text: str, unseen: str, place: int) -> None:
    assert words_of(text[:place] + unseen + text[place:]) == words_of(text)

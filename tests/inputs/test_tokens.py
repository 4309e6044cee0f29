from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs import pieces as shapes
from meddx.inputs.options import TokensInput
from meddx.inputs.pieces import lowered, pieces, plain, shape
from meddx.inputs.prepare import Preparations, fit
from meddx.inputs.tokens import UNKNOWN, TokensPreparation, word_hash

TRAIN = ["No chest pain .", "chest pain", "Chest", None, ""]


def notes(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def fitted(table: pa.Table | None = None, **options: Any) -> TokensPreparation:
    page = {"kind": "tokens", "min_count": 1, "max_tokens": 4, "characters": 3, **options}
    return TokensPreparation.fit("note", TokensInput(**page), notes(*TRAIN) if table is None else table)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in pieces(text)]


def test_runs_of_letters_and_digits_and_every_other_sign_alone() -> None:
    assert words("L-dopa 3.5mg, IL2 (p<0.05)!") == [
        "L",
        "-",
        "dopa",
        "3",
        ".",
        "5",
        "mg",
        ",",
        "IL",
        "2",
        "(",
        "p",
        "<",
        "0",
        ".",
        "05",
        ")",
        "!",
    ]
    assert words("a_b") == ["a", "_", "b"] and words(" \t\n\u00a0\u3000") == [] == words("")


def test_ideographs_and_kana_stand_alone_and_accents_stay_with_their_letter() -> None:
    assert words("糖尿病type2です") == ["糖", "尿", "病", "type", "2", "で", "す"]
    assert words("e\u0301te\u0301 x") == ["e\u0301te\u0301", "x"] and words("so\u00adft ca\u200bt") == ["so\u00adft", "ca\u200bt"]
    assert words("한국어 привет") == ["한국어", "привет"]


@given(st.text())
def test_pieces_cover_every_sign_that_is_no_space_exactly_once_rising_and_never_empty(text: str) -> None:
    found = pieces(text)
    assert all(start < end for start, end in found) and all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))
    covered = [place for start, end in found for place in range(start, end)]
    assert covered == [place for place, sign in enumerate(text) if not sign.isspace()]


@given(st.text())
def test_composed_and_decomposed_texts_have_the_same_plain_words(text: str) -> None:
    both = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert len({tuple(lowered(plain(word)) for word in words(one)) for one in both}) == 1


def test_shapes() -> None:
    found = [shape(word) for word in ("pain", "Pain", "PAIN", "A", "mRNA", "McX", "42", "病", "-", "İstanbul", "éa", "")]
    expected = ["LOWER", "CAPITALISED", "UPPER", "UPPER", "MIXED", "MIXED", "DIGITS", "OTHER", "OTHER", "CAPITALISED", "LOWER", "OTHER"]
    assert found == [getattr(shapes, name) for name in expected]


def test_the_vocabulary_and_the_alphabet_are_those_of_train_by_frequency_then_spelling() -> None:
    prep = fitted()
    assert prep.words == ("chest", "pain", ".", "no")
    assert fitted(min_count=2).words == ("chest", "pain") and fitted(max_words=1).words == ("chest",)
    assert fitted(notes("bb a Ab")).letters == ("b", "A", "a")
    assert set(prep.letters) == set("NochestpainC.") and fitted(notes(*TRAIN[::-1])) == prep
    spec = {"kind": "tokens", "optional": False, "tokens": 4, "words": 6, "letters": len(prep.letters) + 2, "characters": 3, "shapes": 7}
    assert prep.spec() == spec


def test_words_are_looked_up_in_lower_case_and_characters_in_their_own() -> None:
    prep = fitted()
    made = prep.transform(notes("CHEST zebra  .", "pain"))
    assert made.arrays["tokens"].tolist() == [[2, UNKNOWN, 4, 0], [3, 0, 0, 0]] and made.arrays["length"].tolist() == [3, 1]
    assert made.arrays["shape"].tolist() == [[3, 1, 6, 0], [1, 0, 0, 0]]
    number = {letter: place for place, letter in enumerate(prep.letters, 2)}
    assert made.arrays["characters"][0].tolist() == [
        [number["C"], UNKNOWN, UNKNOWN],
        [UNKNOWN, number["e"], UNKNOWN],
        [number["."], 0, 0],
        [0, 0, 0],
    ]
    assert made.aside["start"].tolist() == [[0, 6, 13, 0], [0, 0, 0, 0]] and made.aside["end"].tolist() == [[5, 11, 14, 0], [4, 0, 0, 0]]
    assert {one.dtype for one in (*made.arrays.values(), made.aside["start"], made.aside["end"])} == {np.dtype(np.int32)}


def test_the_hash_knows_words_beyond_the_vocabulary_and_their_plural() -> None:
    made = fitted(max_tokens=9).transform(notes("Tumour tumours TUMOUR glass glas gas caf\u00e9", "cafe\u0301s"))
    found = made.aside["hash"]
    assert found.dtype == np.uint64 and len(set(found[0, :3].tolist())) == 1 and not found[0, 7:].any() and found[0, :7].all()
    assert len(set(found[0, 2:7].tolist())) == 5 and found[0, 6] == found[1, 0]
    assert word_hash("tumours") == int.from_bytes(hashlib.blake2b(b"tumour", digest_size=8).digest(), "little") == found[0, 0]


def test_normalisation_finds_the_word_and_leaves_the_places() -> None:
    prep = fitted(notes("caf\u00e9 noir"))
    text = "xx cafe\u0301 so\u00ad"
    made = prep.transform(notes(text))
    assert made.arrays["tokens"][0, 1] == prep.words.index("caf\u00e9") + 2
    assert text[made.aside["start"][0, 1] : made.aside["end"][0, 1]] == "cafe\u0301"


def test_an_empty_or_too_long_text_is_a_row_error_and_a_null_is_absent() -> None:
    made = fitted().transform(notes("pain", " ", None, "a b c d e", "a b c d"))
    assert made.errors == {1: "text_empty", 3: "text_too_long"} and made.present.tolist() == [True, False, False, False, True]
    assert not any(one[1:4].any() for one in (*made.arrays.values(), *made.aside.values()))


def test_only_when_all_are_too_long_fitting_says_the_longest() -> None:
    assert fitted(notes("a b c d e f", "chest")).words == ("chest",)
    with pytest.raises(DataError, match="the longest has 6") as caught:
        fitted(notes("a b c d e f", "a b c d e", None))
    assert "max_tokens" in caught.value.where
    with pytest.raises(DataError, match="no text"):
        fitted(notes("", None, " "))
    with pytest.raises(DataError, match="seen 9 times"):
        fitted(min_count=9)


def test_a_joined_source_and_a_column_of_another_kind_are_refused() -> None:
    rows = pa.table({"notes": pa.array([[{"text": "a"}]], pa.list_(pa.struct([("text", pa.string())])))})
    with pytest.raises(RecipeError, match="one text a case"):
        TokensPreparation.fit("note", TokensInput(**{"kind": "tokens", "from": "notes"}), rows)
    with pytest.raises(DataError, match="not text"):
        fitted(pa.table({"text": [1.5]}))
    with pytest.raises(DataError, match="not in the table"):
        fitted(pa.table({"other": ["a"]}))


def test_an_optional_input_may_lack_its_column() -> None:
    made = fitted(optional=True).transform(pa.table({"other": [1, 2]}))
    assert not made.present.any() and made.aside["start"].shape == (2, 4) and not made.errors


def test_the_state_comes_back_through_json_and_a_damaged_one_is_refused() -> None:
    fitted_all = fit({"note": TokensInput(kind="tokens", min_count=1)}, {"note": ["text"]}, notes(*TRAIN))
    again = Preparations.from_state(json.loads(json.dumps(fitted_all.state())))
    assert again == fitted_all and isinstance(again.inputs[0], TokensPreparation)
    good = fitted().state()
    for change in ({"max_tokens": 0}, {"characters": 65}, {"words": ["a", "a"]}, {"letters": None}, {"words": None}):
        with pytest.raises(BundleError):
            TokensPreparation.from_state({**good, **change})
    with pytest.raises(BundleError):
        TokensPreparation.from_state({"kind": "tokens"})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.none(), max_size=4))
def test_any_text_is_prepared_and_its_places_give_its_words_back(texts: list[str | None]) -> None:
    made = fitted().transform(notes(*texts))
    for row, text in enumerate(texts):
        count = made.arrays["length"][row]
        places = list(zip(made.aside["start"][row, :count].tolist(), made.aside["end"][row, :count].tolist(), strict=True))
        assert made.present[row] == (count > 0) and (not count or places == pieces(text or ""))
        assert (made.arrays["tokens"][row] > 0).sum() == (made.arrays["shape"][row] > 0).sum() == count
        assert (text is None) == (not made.present[row] and row not in made.errors)

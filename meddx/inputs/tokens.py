"""A column of texts in; words, their characters, shapes and places of one length out, by a vocabulary fitted on train only."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.fold import flat_column, is_joined
from meddx.inputs.options import TokensInput
from meddx.inputs.pieces import SHAPES, lowered, pieces, plain, shape
from meddx.inputs.types import Prepared

__all__ = ["FIRST", "PAD", "UNKNOWN", "TokensPreparation", "pieces"]

PAD, UNKNOWN, FIRST = 0, 1, 2
MAX_LETTERS = 4000  # of the alphabet; only a large Chinese train comes near it


@dataclass(frozen=True)
class TokensPreparation:
    """The fitted way of one input to be tagged: `words` and `letters` have the numbers 2, 3, ..., the most frequent first.

    Words are looked up in lower case, characters in their own; both of composed (NFC) copies, so that places stay those of the text.
    """

    name: str
    optional: bool
    column: str
    max_tokens: int
    characters: int
    words: tuple[str, ...]
    letters: tuple[str, ...]

    normal: ClassVar[None] = None  # what of a text is normal nobody has said

    @classmethod
    def fit(cls, name: str, options: TokensInput, table: pa.Table) -> TokensPreparation:
        """Vocabulary and alphabet of `table`, which must be the train part alone; ties go to the first by spelling.

        A text that is too long is not looked at, for it is never read.  DataError where there is no text, or all are too long; RecipeError
        where the texts are rows of a joined source: an entity has its place in one text a case.
        """
        if is_joined(table, options.source):
            what = f"the input {name!r} takes one text a case, not the rows of {options.source!r}"
            raise RecipeError(what, f"inputs.{name}.from", "make the texts the cases (case.from)")
        blank = cls(name, options.optional, options.column, options.max_tokens, options.characters, (), ())
        counts, letters, known, longest = _count(blank._texts(table), options.max_tokens)
        if not known and longest:
            what = f"every text of train has more than max_tokens = {options.max_tokens} words; the longest has {longest:,}"
            raise DataError(what, f"inputs.{name}.max_tokens", "raise it, or cut the texts into sentences")
        if not known:
            raise DataError(f"train has no text for the input {name!r}", f"inputs.{name}", "look at `column`, and at the dataset")
        words = _ranked(counts, options.min_count)
        if not words:
            what = f"no word of train is seen {options.min_count} times"
            raise DataError(what, f"inputs.{name}.min_count", "lower it, or give more cases")
        alphabet = tuple(_ranked(letters, options.min_count)[:MAX_LETTERS])
        return cls(
            name, options.optional, options.column, options.max_tokens, options.characters, tuple(words[: options.max_words]), alphabet
        )

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @cached_property
    def _word_codes(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words, FIRST)}

    @cached_property
    def _letter_codes(self) -> dict[str, int]:
        return {letter: place for place, letter in enumerate(self.letters, FIRST)}

    def transform(self, table: pa.Table) -> Prepared:
        """Arrays, all int32 and 0 beyond the text: tokens [n, L], characters [n, L, C] (1 = not in the vocabulary), shape [n, L],
        length [n]; aside start and end [n, L], places in the text as it is given, in code points, end exclusive, and hash uint64 [n, L],
        by which a dictionary knows a word that is not in the vocabulary too.

        Row errors: text_empty (no word), text_too_long (more than L words).  A null is an absent text.
        """
        rows, size = table.num_rows, self.max_tokens
        length, present, errors = np.zeros(rows, np.int32), np.zeros(rows, bool), {}
        start, end = np.zeros((rows, size), np.int32), np.zeros((rows, size), np.int32)
        numbers, forms = np.zeros((rows, size), np.int64), {"": 0}  # every word of the table by its number here; 0 beyond a text
        texts = [] if self.optional and self.column not in table.column_names else self._texts(table).to_pylist()
        for row, text in enumerate(texts):
            if text is None:
                continue
            found = pieces(text)
            if not found or len(found) > size:
                errors[row] = "text_too_long" if found else "text_empty"
                continue
            present[row], length[row] = True, len(found)
            start[row, : len(found)], end[row, : len(found)] = zip(*found, strict=True)
            numbers[row, : len(found)] = [forms.setdefault(text[first:last], len(forms)) for first, last in found]
        words, letters, shapes, hashes = self._encode(list(forms))
        arrays = {"tokens": words[numbers], "characters": letters[numbers], "shape": shapes[numbers], "length": length}
        return Prepared(arrays, present, errors, {"start": start, "end": end, "hash": hashes[numbers]})

    def _encode(self, forms: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(int32 numbers of the words [forms], of their characters [forms, C], int32 shapes, uint64 hashes [forms]); the first form stands
        for no word and has 0 everywhere.
        """
        plain_forms = [plain(form) for form in forms]
        small = [lowered(form) for form in plain_forms]
        words = np.array([self._word_codes.get(form, UNKNOWN) for form in small], np.int32)
        hashes = np.array([word_hash(form) for form in small], np.uint64)
        shapes = np.array([shape(form) for form in plain_forms], np.int32)
        letters = np.zeros((len(forms), self.characters), np.int32)
        for place, form in enumerate(plain_forms):
            codes = [self._letter_codes.get(letter, UNKNOWN) for letter in form[: self.characters]]
            letters[place, : len(codes)] = codes
        words[0] = shapes[0] = hashes[0] = PAD
        return words, letters, shapes, hashes

    def _texts(self, table: pa.Table) -> pa.Array:
        if len(table.schema.get_all_field_indices(self.column)) != 1:
            raise DataError(f"the column {self.column!r} with the text is not in the table, or there twice", f"input {self.name}")
        column = flat_column(table, self.column)
        kind = column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)):
            raise DataError(f"the column {self.column!r} holds {kind}, not text", f"input {self.name}")
        return pc.cast(column, pa.large_string())

    def spec(self) -> dict[str, Any]:
        """Sizes for the encoder: words a text, characters a word; vocabulary and alphabet with padding and unknown; shapes with padding."""
        return {
            "kind": "tokens",
            "optional": self.optional,
            "tokens": self.max_tokens,
            "words": len(self.words) + FIRST,
            "letters": len(self.letters) + FIRST,
            "characters": self.characters,
            "shapes": SHAPES,
        }

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "tokens",
            "name": self.name,
            "optional": self.optional,
            "column": self.column,
            "max_tokens": self.max_tokens,
            "characters": self.characters,
            "words": list(self.words),
            "letters": list(self.letters),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TokensPreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        try:
            made = cls(
                str(state["name"]),
                bool(state["optional"]),
                str(state["column"]),
                int(state["max_tokens"]),
                int(state["characters"]),
                tuple(str(word) for word in state["words"]),
                tuple(str(letter) for letter in state["letters"]),
            )
            twice = len(set(made.words)) < len(made.words) or len(set(made.letters)) < len(made.letters)
            if not 1 <= made.max_tokens <= 4096 or not 1 <= made.characters <= 64 or twice:
                raise ValueError("sizes that cannot be")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                "the state of an input to be tagged is not readable", next_step="the bundle is damaged: build it again"
            ) from error
        return made


def word_hash(word: str) -> int:
    """A 64-bit number of a word in lower case, the same everywhere, of `tumours` that of `tumour`: a plural is the same name."""
    form = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
    return int.from_bytes(hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _count(texts: pa.Array, most: int) -> tuple[Counter[str], Counter[str], int, int]:
    """(how often each word, each character, number of texts that can be read, words of the longest text of all)."""
    forms: Counter[str] = Counter()
    known = longest = 0
    for text in texts.to_pylist():
        found = pieces(text) if text else []
        longest = max(longest, len(found))
        if 0 < len(found) <= most:
            known += 1
            forms.update(text[start:end] for start, end in found)
    counts: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for form, times in forms.items():
        word = plain(form)
        counts[lowered(word)] += times
        for letter in word:
            letters[letter] += times
    del counts[""]  # a piece of unseen signs alone has no form to be known by
    return counts, letters, known, longest


def _ranked(counts: Counter[str], least: int) -> list[str]:
    """What is seen `least` times or more, the most frequent first, then by spelling."""
    return sorted((one for one, count in counts.items() if count >= least), key=lambda one: (-counts[one], one))

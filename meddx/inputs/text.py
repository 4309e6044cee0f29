"""A column of texts in; numbers of words of one length out, by a vocabulary fitted on train only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import BundleError, DataError
from meddx.inputs.fold import flat_column, is_joined, parents, pick, rows_of, several_rows
from meddx.inputs.options import TextInput
from meddx.inputs.types import Prepared
from meddx.inputs.words import words_of

PAD, UNKNOWN, FIRST = 0, 1, 2


@dataclass(frozen=True)
class TextPreparation:
    """The fitted way of one text input: `words` have the numbers 2, 3, ..., the most frequent first.

    `truncated`: the share of train's texts that were longer than `max_tokens`.
    """

    name: str
    optional: bool
    source: str | None  # a joined source, or None for a column of the cases
    column: str
    many: str | None
    max_tokens: int
    words: tuple[str, ...]
    truncated: float

    normal: ClassVar[None] = None  # what of a text is normal nobody has said

    @classmethod
    def fit(cls, name: str, options: TextInput, table: pa.Table) -> TextPreparation:
        """The vocabulary of `table`, which must be the train part alone.  Of words seen equally often the first by spelling is kept.

        DataError where there is no text, or several a case and no `many`.  With `pretrained` a `PretrainedTextPreparation`.
        """
        if options.pretrained is not None:
            from meddx.inputs.pretrained import PretrainedTextPreparation

            return PretrainedTextPreparation.fit(name, options, table)
        texts, source = cls.train_texts(name, options, table)
        counts: Counter[str] = Counter()
        long = known = 0
        for text in texts.to_pylist():
            words = words_of(text) if text else []
            counts.update(words)
            known += bool(words)
            long += len(words) > options.max_tokens
        if not known:
            raise DataError(f"train has no text for the input {name!r}", f"inputs.{name}", "look at `column`, and at the dataset")
        ranked = sorted((word for word, count in counts.items() if count >= options.min_count), key=lambda word: (-counts[word], word))
        if not ranked:
            what = f"no word of train is seen {options.min_count} times"
            raise DataError(what, f"inputs.{name}.min_count", "lower it, or give more cases")
        kept = tuple(ranked[: options.max_words])
        return cls(name, options.optional, source, options.column, options.many, options.max_tokens, kept, long / known)

    @staticmethod
    def train_texts(name: str, options: TextInput, table: pa.Table) -> tuple[pa.Array, str | None]:
        """(one text a case, null where none; the joined source).  DataError where a case has several and nobody said which."""
        source = options.source if is_joined(table, options.source) else None
        blank = TextPreparation(name, options.optional, source, options.column, options.many, options.max_tokens, (), 0.0)
        texts, several = blank._texts(table)
        if several.any():
            what = f"{int(several.sum()):,} case(s) have several rows in the source {source!r}"
            raise DataError(what, f"inputs.{name}", "say `many: latest`, `first` or `join`")
        return texts, source

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source or self.column,)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words, FIRST)}

    def transform(self, table: pa.Table) -> Prepared:
        """tokens int32 [n, max_tokens] (0 beyond the text's end, 1 a word that is not in the vocabulary), length int32 [n].

        A longer text keeps its beginning and its end.  Row errors: text_empty (a text without a word), several_rows (several texts a case,
        and no rule which counts).  A null is an absent text.
        """
        rows = table.num_rows
        tokens, length = np.zeros((rows, self.max_tokens), np.int32), np.zeros(rows, np.int32)
        present, errors = np.zeros(rows, bool), {}
        if self.optional and self.columns[0] not in table.column_names:
            return Prepared({"tokens": tokens, "length": length}, present)
        texts, several = self._texts(table)
        for row, text in enumerate(texts.to_pylist()):
            if several[row]:
                errors[row] = "several_rows"
            elif text is not None:
                codes = self.encode(text)
                if codes:
                    tokens[row, : len(codes)], length[row], present[row] = codes, len(codes), True
                else:
                    errors[row] = "text_empty"
        return Prepared({"tokens": tokens, "length": length}, present, errors)

    def encode(self, text: str) -> list[int]:
        """The numbers of its words, at most `max_tokens` of them."""
        codes = [self._codes.get(word, UNKNOWN) for word in words_of(text)]
        if len(codes) > self.max_tokens:
            tail = self.max_tokens // 2
            codes = codes[: self.max_tokens - tail] + codes[len(codes) - tail :]
        return codes

    def _texts(self, table: pa.Table) -> tuple[pa.Array, np.ndarray]:
        """(one text a case, null where none; bool: several rows and no rule which counts)."""
        if self.source is None:
            if len(table.schema.get_all_field_indices(self.column)) != 1:
                raise DataError(f"the column {self.column!r} with the text is not in the table, or there twice", f"input {self.name}")
            return self._text(flat_column(table, self.column)), np.zeros(table.num_rows, bool)
        offsets, rows = rows_of(table, self.source)
        several = several_rows(offsets) if self.many is None else np.zeros(table.num_rows, bool)
        if not rows.num_rows:
            return pa.nulls(table.num_rows, pa.large_string()), several
        if self.column not in rows.column_names:
            raise DataError(f"the rows of {self.source!r} have no column {self.column!r}", f"input {self.name}", "look at its spelling")
        texts = self._text(flat_column(rows, self.column))
        blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
        full = pc.if_else(blank, None, texts)  # an empty note says nothing: the one before it counts
        folded = _join(offsets, full) if self.many == "join" else pick(offsets, full, first=self.many == "first")
        return pc.if_else(pc.is_null(folded), pick(offsets, texts, first=True), folded), several

    def _text(self, column: pa.Array) -> pa.Array:
        kind = column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)):
            raise DataError(f"the column {self.column!r} holds {kind}, not text", f"input {self.name}")
        return pc.cast(column, pa.large_string())

    def spec(self) -> dict[str, Any]:
        """Sizes for the encoder: the length of a text, and the vocabulary with padding and unknown."""
        return {"kind": "text", "optional": self.optional, "tokens": self.max_tokens, "words": len(self.words) + FIRST}

    def state(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "kind": "text",
            "name": self.name,
            "optional": self.optional,
            "source": self.source,
            "column": self.column,
            "many": self.many,
            "max_tokens": self.max_tokens,
            "words": list(self.words),
            "truncated": self.truncated,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TextPreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description."""
        if "tokenizer" in state:
            from meddx.inputs.pretrained import PretrainedTextPreparation

            return PretrainedTextPreparation.from_state(state)
        return cls(**cls.fields_of(state))

    @staticmethod
    def fields_of(state: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that every text input has.  BundleError where they are not there, or cannot be."""
        try:
            source, many = state["source"], state["many"]
            made = {
                "name": str(state["name"]),
                "optional": bool(state["optional"]),
                "source": None if source is None else str(source),
                "column": str(state["column"]),
                "many": None if many is None else str(many),
                "max_tokens": int(state["max_tokens"]),
                "words": tuple(str(word) for word in state["words"]),
                "truncated": float(state["truncated"]),
            }
            if (
                not 1 <= int(state["max_tokens"]) <= 16384
                or many not in (None, "latest", "first", "join")
                or len(set(state["words"])) < len(state["words"])
            ):
                raise ValueError("sizes that cannot be")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError("the state of a text input is not readable", next_step="the bundle is damaged: build it again") from error
        return made


def _join(offsets: np.ndarray, texts: pa.Array) -> pa.Array:
    """The texts of a case beneath each other, in their order; null where it has none."""
    known = np.asarray(texts.is_valid())
    cases = len(offsets) - 1
    count = np.bincount(parents(offsets)[known], minlength=cases)
    lists = pa.LargeListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(count)]), pa.int64()), texts.drop_null())
    return pc.if_else(pa.array(count > 0), pc.binary_join(lists, pa.scalar("\n", pa.large_string())), None)

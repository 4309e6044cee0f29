"""Tokenised notes with entities, as the tokens input and the tags make them, for tests of the dictionary baseline."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from meddx.inputs.pieces import LOWER, UPPER
from meddx.inputs.types import Prepared

CLASSES = ["drug", "disease"]
SPECS = {"note": {"kind": "tokens", "tokens": 8, "optional": False}}
Entity = tuple[int, int, int]  # first word, words, label


class Known:
    def __init__(self, values: np.ndarray, known: np.ndarray) -> None:
        self.values, self.known = values, known


def hash_of(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.lower().encode(), digest_size=8).digest(), "little")


def head_of(tokens: int = 8) -> dict[str, Any]:
    return {"kind": "tags", "classes": CLASSES, "tokens": tokens}


def prepared(texts: list[list[str]], tokens: int = 8) -> Prepared:
    """As the tokens input makes it, without vocabulary and characters, which a dictionary does not read."""
    shape = (len(texts), tokens)
    arrays = {"tokens": np.zeros(shape, np.int32), "shape": np.zeros(shape, np.int32)}
    aside = {"start": np.zeros(shape, np.int32), "end": np.zeros(shape, np.int32), "hash": np.zeros(shape, np.uint64)}
    for row, words in enumerate(texts):
        at = 0
        for place, word in enumerate(words):
            arrays["shape"][row, place] = UPPER if word.isupper() else LOWER
            aside["start"][row, place], aside["end"][row, place] = at, at + len(word)
            aside["hash"][row, place] = hash_of(word)
            at += len(word) + 1
    arrays["length"] = np.array([len(one) for one in texts], np.int32)
    return Prepared(arrays, np.ones(len(texts), bool), {}, aside)


def labels(texts: list[list[str]], entities: list[list[Entity]], tokens: int = 8) -> Known:
    values = np.zeros((len(texts), tokens), np.int64)
    for row, found in enumerate(entities):
        for first, size, label in found:
            values[row, first : first + size] = 2 + 2 * label
            values[row, first] = 1 + 2 * label
    return Known(values, np.arange(tokens) < np.array([len(one) for one in texts])[:, None])

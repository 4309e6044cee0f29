"""Entities with their places in a text in, BIO tags of its words out; and back again.

Of k labels: 0 = O (no entity), 1 + 2j = B, the first word of an entity with label j, 2 + 2j = I, each further word of it (Ramshaw and
Marcus 1995, in the form where every entity begins with B).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from meddx.errors import DataError
from meddx.inputs.types import Prepared

OUTSIDE = 0
Span = tuple[int, int, int]  # start, end (exclusive) in code points, number of the label


def tag_names(classes: Sequence[str]) -> list[str]:
    """The names of the tags by their numbers: O, B-x, I-x, B-y, ..."""
    return ["O", *(f"{mark}-{name}" for name in classes for mark in "BI")]


def tags_of(start: np.ndarray, end: np.ndarray, length: int, spans: Sequence[Span], classes: Sequence[str]) -> tuple[np.ndarray, int]:
    """(tags int64 [L], 0 beyond the text; how many spans were brought to whole words) of one text.

    `start`, `end`: int [L], places of its words, of which the first `length` count; `spans`: (start, end, label number).  Of spans that
    meet in a word the longest (by words, then by characters) is kept, of equally long ones the first.  DataError for a span without a
    word, or of no label.
    """
    values, widened, _ = _tags(start, end, length, spans, len(classes))
    return values, widened


def label_arrays(
    prepared: Prepared, spans: Sequence[Sequence[Span] | None], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(tags int64 [n, L], known bool [n, L], spans brought to whole words, spans left out because a longer one overlaps them).

    `spans`: one list a case, None where nobody has marked it; known are the words of marked cases that have a text.  A case without a
    usable text has no words: its spans are not looked at.  DataError as `tags_of`.
    """
    start, end, length = prepared.aside["start"], prepared.aside["end"], prepared.arrays["length"]
    values, known = np.zeros(start.shape, np.int64), np.zeros(start.shape, bool)
    widened = overlapping = 0
    for row, found in enumerate(spans):
        count = int(length[row])
        if found is None or not count:
            continue
        values[row], wider, over = _tags(start[row], end[row], count, found, len(classes))
        known[row, :count] = True
        widened, overlapping = widened + wider, overlapping + over
    return values, known, widened, overlapping


def _tags(start: np.ndarray, end: np.ndarray, length: int, spans: Sequence[Span], labels: int) -> tuple[np.ndarray, int, int]:
    """(tags int64 [L], widened, overlapping).  Overlaps are judged by whole words, for a word has one tag."""
    values = np.zeros(len(start), np.int64)
    placed, widened, overlapping = [], 0, 0
    for first, last, label in spans:
        if not 0 <= label < labels:
            raise DataError(
                f"an entity has the label number {label}, of {labels}", "target", "report this: labels are numbered by the page"
            )
        one = int(np.searchsorted(end[:length], first, side="right"))  # the first word that ends after the span begins
        two = int(np.searchsorted(start[:length], last, side="left")) - 1  # the last word that begins before it ends
        if first >= last or two < one:
            raise DataError(
                "an entity lies where its text has no word",
                "target",
                "start and end count code points of the text from 0, end exclusive; not bytes, nor UTF-16 units",
            )
        widened += bool(start[one] != first or end[two] != last)
        placed.append((one - two, first - last, one, two, label))
    for _, _, one, two, label in sorted(placed):  # the longest first: by words, then by characters, then as they come in the text
        if values[one : two + 1].any():
            overlapping += 1
            continue
        values[one], values[one + 1 : two + 1] = 1 + 2 * label, 2 + 2 * label
    return values, widened, overlapping


def word_spans(values: np.ndarray, length: int) -> list[tuple[int, int, int]]:
    """(first word, last word, label number) of the entities that tags int [L] say, in order.

    An I that continues nothing opens an entity, as in IOB1: no tag is passed over.
    """
    found: list[tuple[int, int, int]] = []
    before = OUTSIDE
    for place, tag in enumerate(values[:length].tolist()):
        if tag != OUTSIDE:
            label = (tag - 1) // 2
            if tag % 2 == 0 and before in (tag, tag - 1):
                found[-1] = (found[-1][0], place, label)
            else:
                found.append((place, place, label))
        before = tag
    return found


def words_to_spans(start: np.ndarray, end: np.ndarray, found: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """(start, end, ...) in the text for each (first word, last word, ...): label and score are handed on as they are.

    `start`, `end`: int [L], places of the text's words.
    """
    return [(int(start[first]), int(end[last]), *rest) for first, last, *rest in found]

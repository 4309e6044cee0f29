"""Logits of tags and where the words stand in; entities at their places in the text out, as lists and as a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.errors import BundleError
from meddx.inputs.types import Prepared
from meddx.predict.manifest import MANIFEST

Entity = tuple[int, int, int, float]  # start, end (exclusive) in code points of the text, label, score
COLUMN = "spans"
TYPE = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string()), ("score", pa.float64())]))


def words_input(head: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the input whose words are tagged.  BundleError unless there is exactly one, of the head's length."""
    names = [name for name, spec in specs.items() if spec["kind"] == "tokens"]
    if len(names) != 1 or specs[names[0]]["tokens"] != head["tokens"]:
        raise BundleError("a tags answer needs one input of words, of its length", MANIFEST, "make the bundle again")
    return names[0]


def spans_of(head: Mapping[str, Any], logits: NDArray[Any], words: Prepared) -> list[list[Entity]]:
    """The entities of each row, from left to right.

    `logits` [n, columns] as a tags head has them; `words`: the tokens input of the same rows, with `start` and `end` aside [n, L].
    """
    from meddx.models.heads import make_head

    start, end = words.aside["start"], words.aside["end"]
    found: list[list[tuple[int, int, int, float]]] = make_head(head).spans(logits)  # type: ignore[attr-defined]
    return [
        [(int(start[row, first]), int(end[row, last]), label, float(score)) for first, last, label, score in one]
        for row, one in enumerate(found)
    ]


def column(count: int, rows: NDArray[np.int64], found: Sequence[Sequence[Entity]], classes: Sequence[str]) -> pa.Array:
    """`TYPE` [count] with `found` at `rows` (rising), an empty list for a text without entities; null elsewhere."""
    missing = np.ones(count, bool)
    missing[rows] = False
    lengths = np.zeros(count, np.int64)
    lengths[rows] = [len(one) for one in found]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.int32())
    flat = [one for each in found for one in each]
    fields = [
        pa.array([one[0] for one in flat], pa.int32()),
        pa.array([one[1] for one in flat], pa.int32()),
        pa.array([classes[one[2]] for one in flat], pa.string()),
        pa.array([one[3] for one in flat], pa.float64()),
    ]
    inner = pa.StructArray.from_arrays(fields, fields=list(TYPE.value_type))
    return pa.ListArray.from_arrays(offsets, inner, type=TYPE, mask=pa.array(missing))

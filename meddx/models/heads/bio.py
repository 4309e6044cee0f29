"""BIO tags in, entities out: which tag may follow which, and where an entity begins and ends.

Tag 0 is O, 1 + 2j begins an entity of label j, 2 + 2j is inside one.  An entity is a row of an int64 array [m, 4]: case, first word, last
word (inclusive), label.
"""

from __future__ import annotations

import numpy as np


def forbidden(count: int) -> tuple[np.ndarray, np.ndarray]:
    """bool [T, T] from -> to and bool [T] at the start, true where BIO forbids it; `count`: how many tags."""
    tag = np.arange(count)
    inside = (tag > 0) & (tag % 2 == 0)
    same = (tag[:, None] > 0) & ((tag[:, None] - 1) // 2 == (tag[None, :] - 1) // 2)
    return inside[None, :] & ~same, inside


def entities(tags: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The entities of tags int [n, L], the first `length` int [n] of a row; int64 [m, 4], by case and place.

    Every B begins one; so does an I that cannot go on with what stands before it, as in a file that was tagged by hand.
    """
    if not tags.size:
        return np.zeros((0, 4), np.int64)
    tags = np.where(np.arange(tags.shape[1])[None, :] < length[:, None], tags, 0).astype(np.int64)
    label = np.where(tags > 0, (tags - 1) // 2, -1)
    before = np.pad(label, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    begins = (tags > 0) & ((tags % 2 == 1) | (before != label))
    after = np.pad(label, ((0, 0), (0, 1)), constant_values=-1)[:, 1:]
    fresh = np.pad(begins, ((0, 0), (0, 1)), constant_values=False)[:, 1:]
    ends = (tags > 0) & (fresh | (after != label))
    case, first = np.nonzero(begins)
    return np.stack([case, first, np.nonzero(ends)[1], label[case, first]], axis=1).astype(np.int64)


def f1(found: np.ndarray, true: np.ndarray) -> float:
    """Micro F1 of entities that agree in case, both ends and label; NaN where there is none on either side."""
    if not len(found) + len(true):
        return float("nan")
    both = len({*map(tuple, found.tolist())} & {*map(tuple, true.tolist())})
    return 2 * both / (len(found) + len(true))

"""Logits of a conditional random field in, its likeliest tags and the exact probability of each entity out.  NumPy, float64, by rows.

The layout is that of `crf.Emissions`: emissions [L, T], transitions [T, T] from -> to, start [T], end [T].  A row is computed from its own
numbers only.  Here what BIO forbids is -inf: no emission, however large, brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from meddx.models.heads.bio import forbidden

_NO_WORD = -5e8  # all emissions below this: a place without a word
_NUMBERS = 4_000_000  # of the largest array at a time, 32 MB


@dataclass(frozen=True)
class Chain:
    """Some rows.  emissions [n, L, T], transitions [n, T, T] and start [n, T] with -inf where forbidden, end [n, T], length int64 [n]."""

    emissions: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray
    length: np.ndarray


def chains(logits: np.ndarray, tokens: int, tags: int, length: np.ndarray | None = None) -> Iterator[tuple[int, Chain]]:
    """(first row, chain) in blocks, each without the places that no row of it has.  `length` int [n]: words of a row, else by the mark."""
    block = max(1, _NUMBERS // max(1, tokens * tags, tags * tags * 8))
    for at in range(0, len(logits), block):
        part = np.asarray(logits[at : at + block], np.float64)
        emissions = part[:, : tokens * tags].reshape(-1, tokens, tags)
        words = (emissions > _NO_WORD).any(2).sum(1) if length is None else length[at : at + block]
        into, first = forbidden(tags)
        chain = part[:, tokens * tags :]
        yield (
            at,
            Chain(
                emissions[:, : max(1, int(words.max(initial=1)))],
                np.where(into, -np.inf, chain[:, : tags * tags].reshape(-1, tags, tags)),
                np.where(first, -np.inf, chain[:, tags * tags : tags * (tags + 1)]),
                chain[:, tags * (tags + 1) :],
                words.astype(np.int64),
            ),
        )


def viterbi(chain: Chain) -> np.ndarray:
    """The likeliest tags int64 [n, L], 0 beyond a row's length; of equals the lower tag (Viterbi 1967; Rabiner 1989)."""
    rows, places, _ = chain.emissions.shape
    best = chain.start + chain.emissions[:, 0]
    came = np.zeros((places, rows, best.shape[1]), np.int16)
    for place in range(1, places):
        paths = best[:, :, None] + chain.transitions
        came[place] = paths.argmax(1)
        moved = paths.max(1) + chain.emissions[:, place]
        best = np.where((place < chain.length)[:, None], moved, best)
    tags = np.zeros((rows, places), np.int64)
    tag = (best + chain.end).argmax(1)
    every = np.arange(rows)
    for place in range(places - 1, -1, -1):
        there = place < chain.length
        tags[there, place] = tag[there]
        tag = np.where(there, came[place, every, tag], tag)
    return tags


def posteriors(chain: Chain, found: np.ndarray) -> np.ndarray:
    """float64 [m] P(exactly this entity) of entities int64 [m, 4]: its tags, and no going on after its last word.

    By the forward and backward recursions held to the entity's tags (Culotta & McCallum 2004, "Confidence estimation for information
    extraction").
    """
    if not len(found):
        return np.zeros(0)
    alpha, beta = _forward(chain), _backward(chain)
    every = np.arange(len(alpha))
    whole = _log_sum(alpha[every, np.maximum(chain.length - 1, 0)] + chain.end)
    row, first, last, label = found.T
    begin, inside = 1 + 2 * label, 2 + 2 * label
    more = last - first
    running = np.pad(np.cumsum(chain.emissions, axis=1), ((0, 0), (1, 0), (0, 0)))
    path = alpha[row, first, begin] + running[row, last + 1, inside] - running[row, first + 1, inside]
    path += np.where(more > 0, chain.transitions[row, begin, inside], 0) + np.maximum(more - 1, 0) * chain.transitions[row, inside, inside]
    tag = np.where(more > 0, inside, begin)
    after = np.minimum(last + 1, alpha.shape[1] - 1)
    leave = chain.transitions[row, tag] + chain.emissions[row, after] + beta[row, after]
    leave[np.arange(len(row)), inside] = -np.inf
    tail = np.where(last + 1 < chain.length[row], _log_sum(leave), chain.end[row, tag])
    return np.asarray(np.minimum(np.exp(path + tail - whole[row]), 1.0))


def log_partition(chain: Chain) -> np.ndarray:
    """[n] log Z."""
    return _log_sum(_forward(chain)[np.arange(len(chain.length)), np.maximum(chain.length - 1, 0)] + chain.end)


def _forward(chain: Chain) -> np.ndarray:
    """[n, L, T]: log of the sum over all paths that end at a place in a tag."""
    alpha = np.empty_like(chain.emissions)
    alpha[:, 0] = chain.start + chain.emissions[:, 0]
    for place in range(1, alpha.shape[1]):
        alpha[:, place] = _log_sum(alpha[:, place - 1, :, None] + chain.transitions, 1) + chain.emissions[:, place]
    return alpha


def _backward(chain: Chain) -> np.ndarray:
    """[n, L, T]: log of the sum over all paths that go on from a tag at a place to the row's end."""
    beta = np.repeat(chain.end[:, None], chain.emissions.shape[1], axis=1)
    for place in range(beta.shape[1] - 2, -1, -1):
        ahead = (chain.emissions[:, place + 1] + beta[:, place + 1])[:, None, :]
        on = _log_sum(chain.transitions + ahead, 2)
        beta[:, place] = np.where((place + 1 < chain.length)[:, None], on, chain.end)
    return beta


def _log_sum(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """log sum exp along an axis; at least one number of it is finite, for O is always allowed."""
    most = x.max(axis, keepdims=True)
    return np.asarray(np.log(np.exp(x - most).sum(axis)) + most.squeeze(axis))

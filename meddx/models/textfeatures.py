"""Token ids in, sparse TF-IDF of words and word pairs out; and its leading components for models that want dense columns.

Fitted on train without labels.  What is kept is a dict of plain arrays, so that a bundle needs no further type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

PAIRS = 1 << 18  # columns that word pairs are hashed to
SCALE = 10.0  # length of a row: with rows of length 1 the best ridge penalty lies 100 times lower than for table columns
COMPONENTS = 100
_FIRST_WORD = 2  # 0 is padding, 1 an unknown word


def word_counts(tokens: np.ndarray, length: np.ndarray, words: int) -> sparse.csr_matrix:
    """float32 [n, words + PAIRS]: how often each word and each pair of neighbours stands in a text.

    `tokens` int [n, L], of which the first `length` [n] count; `words`: size of the vocabulary.  Unknown words count for
    nothing.  Pairs share a column where their hashes meet (Weinberger et al. 2009).
    """
    tokens = np.where(np.arange(tokens.shape[1]) < np.asarray(length)[:, None], tokens, 0).astype(np.int64)
    known = (tokens >= _FIRST_WORD) & (tokens < words)
    rows, at = np.nonzero(known)
    pair_rows, pair_at = np.nonzero(known[:, :-1] & known[:, 1:])
    pairs = words + _mixed(tokens[pair_rows, pair_at], tokens[pair_rows, pair_at + 1])
    columns = np.concatenate([tokens[rows, at], pairs])
    ones = np.ones(len(columns), np.float32)
    counts = sparse.csr_matrix((ones, (np.concatenate([rows, pair_rows]), columns)), shape=(len(tokens), words + PAIRS))
    counts.sum_duplicates()
    return counts


def _mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 hash of ordered pairs in 0..PAIRS-1; the same on every machine (the finalizer of SplitMix64)."""
    value = first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((value ^ (value >> np.uint64(31))) % np.uint64(PAIRS)).astype(np.int64)


def fit_tfidf(counts: sparse.csr_matrix) -> dict[str, Any]:
    """{"columns": int64 [m], "idf": float64 [m]}: the columns that at least two texts have, and ln((1 + n) / (1 + df)) + 1."""
    found = np.bincount(counts.indices, minlength=counts.shape[1])
    columns = np.flatnonzero(found >= min(2, max(1, found.max(initial=0))))
    return {"columns": columns.astype(np.int64), "idf": np.log((1 + counts.shape[0]) / (1 + found[columns])) + 1}


def tfidf(state: dict[str, Any], counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """float64 [n, m]: (1 + ln count) * idf, each row of length SCALE (of length 0 where it has no known word)."""
    own = counts[:, state["columns"]].astype(np.float64)
    own.data = 1 + np.log(own.data)
    own = own.multiply(state["idf"][None]).tocsr()
    lengths = np.sqrt(np.asarray(own.multiply(own).sum(axis=1)).ravel())
    return sparse.diags(SCALE / np.where(lengths > 0, lengths, 1.0)).dot(own).tocsr()


def fit_components(weights: sparse.csr_matrix, seed: int) -> np.ndarray:
    """float32 [c, m], c at most 100: directions of the largest singular values of the TF-IDF (latent semantic analysis)."""
    from sklearn.utils.extmath import randomized_svd

    wanted = min(COMPONENTS, *(side - 1 for side in weights.shape))
    if wanted < 1:
        return np.zeros((0, weights.shape[1]), np.float32)
    directions = randomized_svd(weights, wanted, n_iter=5, random_state=seed)[2]
    return np.asarray(directions, np.float32)

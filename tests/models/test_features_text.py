from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from meddx.models.textfeatures import COMPONENTS, PAIRS, SCALE, fit_components, fit_tfidf, tfidf, word_counts


def padded(texts: list[list[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.zeros((len(texts), width), np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return tokens, np.array([len(text) for text in texts], np.int32)


def test_words_and_pairs_are_counted_and_unknown_ones_are_not() -> None:
    counts = word_counts(*padded([[2, 3, 2, 3], [2, 1, 3], [1, 1], []], 6), words=4)
    assert counts.shape == (4, 4 + PAIRS) and counts.dtype == np.float32
    assert counts[:, :4].toarray().tolist() == [[0, 0, 2, 2], [0, 0, 1, 1], [0] * 4, [0] * 4]
    pairs = counts[:, 4:].tocsr()
    assert sorted(pairs[0].data) == [1, 2]  # 2-3 twice, 3-2 once: the order counts
    assert pairs[1:].nnz == 0  # an unknown word stands between


def test_padding_and_what_lies_behind_the_length_change_nothing() -> None:
    texts = [[5, 6, 7], [6, 5]]
    first = word_counts(*padded(texts, 3), words=9)
    tokens, length = padded(texts, 50)
    tokens[0, 3:] = 8
    assert (first != word_counts(tokens, length, words=9)).nnz == 0


def test_ids_outside_the_vocabulary_count_for_nothing() -> None:
    assert word_counts(*padded([[4, 900, -3, 4]], 4), words=5).toarray()[0].sum() == 2


def test_pairs_are_spread_over_the_columns() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 5000, (200, 100)).astype(np.int32)
    counts = word_counts(tokens, np.full(200, 100), words=5000)[:, 5000:]
    pairs = len(np.unique(tokens[:, :-1].astype(np.int64) * 5000 + tokens[:, 1:]))
    expected = PAIRS * (1 - (1 - 1 / PAIRS) ** pairs)
    assert abs(len(np.unique(counts.indices)) - expected) < 0.02 * expected


def test_the_weights_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    rng = np.random.default_rng(1)
    counts = word_counts(rng.integers(2, 30, (40, 12)).astype(np.int32), rng.integers(1, 13, 40), words=30)
    counts = sparse.csr_matrix(counts[:, :30])
    state = fit_tfidf(counts)
    expected = TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, state["columns"]]).toarray() * SCALE
    np.testing.assert_allclose(tfidf(state, counts).toarray(), expected, atol=1e-6)


def test_a_word_of_one_text_is_left_out_and_an_empty_text_is_all_zero() -> None:
    counts = word_counts(*padded([[2, 3], [2, 4], []], 2), words=5)
    state = fit_tfidf(counts)
    assert state["columns"].tolist() == [2]
    np.testing.assert_allclose(tfidf(state, counts).toarray(), [[SCALE], [SCALE], [0]])
    alone = fit_tfidf(word_counts(*padded([[2, 3]], 2), words=5))  # then there would be none
    assert len(alone["columns"]) == 3


def test_texts_without_a_word_have_no_columns_and_no_components() -> None:
    counts = word_counts(*padded([[], [1]], 3), words=5)
    state = fit_tfidf(counts)
    weights = tfidf(state, counts)
    assert weights.shape == (2, 0) and np.isfinite(state["idf"]).all()
    assert (weights @ fit_components(weights, 0).T).shape == (2, 0)


@pytest.mark.parametrize("rows", [10, 300])
def test_components_keep_what_is_large(rows: int) -> None:
    rng = np.random.default_rng(2)
    tokens = np.concatenate([rng.integers(2, 20, (rows // 2, 30)), rng.integers(20, 38, (rows - rows // 2, 30))]).astype(np.int32)
    counts = word_counts(tokens, np.full(rows, 30), words=40)
    weights = tfidf(fit_tfidf(counts), counts)
    directions = fit_components(weights, seed=0)
    assert directions.shape == (min(COMPONENTS, rows - 1), weights.shape[1]) and directions.dtype == np.float32
    assert np.array_equal(directions, fit_components(weights, seed=0))
    reached = np.square(weights @ directions[:2].T).sum()
    best = np.square(np.linalg.svd(weights.toarray(), compute_uv=False)[:2]).sum()
    assert reached == pytest.approx(best, rel=1e-4)

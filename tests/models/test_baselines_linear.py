from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from meddx.models.features import Features
from meddx.models.linear import Span, best_columns, logistic, matrix, plain_table, ridge
from meddx.models.search import log_loss, splits


def wide(rows: int = 60, columns: int = 3000, seed: int = 0) -> tuple[Features, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    dense = rng.normal(size=(rows, columns)).astype(np.float32)
    dense[:, :5] += 1.5 * labels[:, None]
    return Features(dense, {}), labels


def shares(model: Any, features: Features) -> np.ndarray:
    if isinstance(model, dict):
        return np.asarray(model["model"].predict_proba(matrix(model, features))[:, 1])
    return np.asarray(model.predict_proba(features.dense)[:, 1])


def test_the_fit_in_the_span_is_the_fit_on_the_wide_rows() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge

    features, labels = wide(40, 300)
    ready = features.dense.astype(np.float64) - features.dense.mean(0)
    span, rows = Span.of(ready)
    assert rows.shape[0] == 40 and rows.shape[1] <= 40
    np.testing.assert_allclose(span.rows(ready), rows, atol=1e-8)
    for make in (lambda: LogisticRegression(C=0.1, tol=1e-10, max_iter=5000), lambda: Ridge(alpha=3.0)):
        np.testing.assert_allclose(span.weights(make().fit(rows, labels).coef_).ravel(), make().fit(ready, labels).coef_.ravel(), atol=1e-6)
    np.testing.assert_allclose(Span.of(sparse.csr_matrix(ready))[0].rows(sparse.csr_matrix(ready)) ** 2, rows**2, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_on_wide_rows_the_search_compares_finished_fits(seed: int) -> None:
    """Separable rows: a warm start that stops at the usual tolerance looks better than what its penalty really gives."""
    from sklearn.linear_model import LogisticRegression

    features, labels = wide(50, 400, seed)
    labels = np.where(np.arange(50) % 9 == 0, 1 - labels, labels)  # some answers are wrong, so weak penalties cost something
    grid, losses = np.logspace(-3.5, 1.5, 6), np.zeros(6)
    for fit, held in splits(labels, None, 0, features.width):
        centre = features.dense[fit].mean(0)
        for place, strength in enumerate(grid):
            model = LogisticRegression(C=strength, tol=1e-10, max_iter=20_000).fit(features.dense[fit] - centre, labels[fit])
            losses[place] += log_loss(model.predict_proba(features.dense[held] - centre), labels[held])
    chosen = logistic(features, labels, 6, 0, None).named_steps["logistic"]
    assert abs(np.log10(chosen.C) - np.log10(grid[losses.argmin()])) < 1e-9
    ready = features.dense.astype(np.float64) - features.dense.mean(0)
    exact = LogisticRegression(C=chosen.C, tol=1e-10, max_iter=20_000).fit(ready, labels)
    np.testing.assert_allclose(chosen.coef_, exact.coef_, atol=1e-5)


def test_thousands_of_columns_are_fast_and_give_plain_weights() -> None:
    features, labels = wide(60, 8000)
    start = time.process_time()
    model = logistic(features, labels, 8, 0, None)
    assert time.process_time() - start < 20
    assert model.named_steps["logistic"].coef_.shape == (1, 8000)
    assert ((shares(model, features) > 0.5) == labels).all()


def test_selected_columns_are_chosen_inside_each_fit() -> None:
    """Columns of noise: chosen once outside the folds they look very good, and the search would take a weak penalty."""
    features, labels = wide(60, 3000)
    noise = Features(features.dense[:, 5:], {})
    chosen = logistic(noise, labels, 7, 0, None, select=20)
    assert chosen["kept"].shape == (20,) and chosen["model"].coef_.shape == (1, 20)
    outside = Features(noise.dense[:, chosen["kept"]], {})
    assert chosen["model"].C < logistic(outside, labels, 7, 0, None).named_steps["logistic"].C
    good = logistic(features, labels, 7, 0, None, select=5)
    unseen, truth = wide(400, 3000, seed=9)
    assert set(good["kept"]) & set(range(5)) and ((shares(good, unseen) > 0.5) == truth).mean() > 0.75


def test_best_columns_are_those_of_select_k_best() -> None:
    from sklearn.feature_selection import SelectKBest, f_classif, f_regression

    features, labels = wide(50, 200)
    for values, score in ((labels, f_classif), (labels + np.random.default_rng(0).normal(size=50), f_regression)):
        expected = np.flatnonzero(SelectKBest(score, k=7).fit(features.dense, values).get_support())
        assert best_columns(features.dense, values, 7, score is f_regression).tolist() == expected.tolist()


def test_a_constant_column_is_chosen_last() -> None:
    ready = np.stack([np.ones(20), np.arange(20) % 2 + 0.1 * np.arange(20), np.zeros(20), np.arange(20) % 3], 1)
    assert best_columns(ready, np.arange(20) % 2, 2, False).tolist() == [1, 3]
    assert best_columns(ready, np.arange(20) * 1.0, 2, True).tolist() == [1, 3]


def test_columns_in_units_of_their_own_are_scaled() -> None:
    """A summary in thousands beside one in thousandths: the ridge penalty must treat both alike."""
    rng = np.random.default_rng(3)
    dense = rng.normal(size=(200, 2)).astype(np.float32)
    labels = (dense.sum(1) > 0).astype(int)
    dense *= np.array([1e4, 1e-4], np.float32)
    weights = logistic(Features(dense, {}, raw=(0, 1)), labels, 5, 0, None).named_steps["logistic"].coef_[0]
    assert weights[0] == pytest.approx(weights[1], rel=0.2) and weights[0] > 0.5


def test_nan_in_a_summary_becomes_the_median_and_an_indicator() -> None:
    dense = np.array([[1.0], [np.nan], [3.0], [5.0]], np.float32)
    plain = plain_table(Features(dense, {}, raw=(0,)))
    made = plain.fit_transform(dense)
    assert made.shape == (4, 2) and np.isfinite(made).all() and made[1, 0] == made[2, 0]


def test_ridge_finds_the_line_and_the_size_of_the_error() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(500, 4)).astype(np.float32)
    values = dense @ [1, 2, 0, 0] + 0.5 * rng.normal(size=500)
    model, deviation = ridge(Features(dense, {}), values, 8, 0, None)
    np.testing.assert_allclose(model.named_steps["ridge"].coef_, [1, 2, 0, 0], atol=0.1)
    assert deviation == pytest.approx(0.5, rel=0.1)


def test_the_error_of_ridge_is_that_of_unseen_rows() -> None:
    """60 rows of 3,000 columns of noise: the fit is perfect, the error is not 0."""
    values = np.random.default_rng(1).normal(size=60)
    model, deviation = ridge(wide(60, 3000)[0], values, 8, 0, None)
    assert deviation > 0.7
    assert model.named_steps["ridge"].coef_.shape == (3000,)


def test_few_rows_of_a_number_are_fitted_all_the_same() -> None:
    model, deviation = ridge(Features(np.arange(3, dtype=np.float32)[:, None], {}), np.array([0.0, 1.0, 2.0]), 8, 0, None)
    assert np.isfinite(model.predict(np.ones((1, 1)))).all() and np.isfinite(deviation)

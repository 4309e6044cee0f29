from __future__ import annotations

import numpy as np
import pytest

from meddx.models.search import group_folds, log_loss, search_rows, splits


def test_groups_stay_whole_and_strata_are_dealt_evenly() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 2000)
    strata = (rng.random(300) < 0.1)[groups].astype(float)
    fold = group_folds(strata, groups, 5, seed=0)
    assert all(len(np.unique(fold[groups == one])) == 1 for one in np.unique(groups))
    positive = [len(np.unique(groups[(fold == one) & (strata == 1)])) for one in range(5)]
    assert max(positive) - min(positive) <= 1


def test_text_groups_and_none_are_fine_and_the_seed_decides() -> None:
    strata = np.tile([0, 1], 50)
    names = np.array([f"p{row // 2}" for row in range(100)], dtype=object)
    assert np.array_equal(group_folds(strata, names, 4, 1), group_folds(strata, names, 4, 1))
    assert not np.array_equal(group_folds(strata, None, 4, 1), group_folds(strata, None, 4, 2))
    assert np.bincount(group_folds(strata, None, 4, 1)).tolist() == [25] * 4


def test_a_search_sees_at_most_so_many_rows() -> None:
    labels = np.tile([0] * 9 + [1], 5_000)
    rows = search_rows(labels, None, seed=0)
    assert 15_000 <= len(rows) <= 20_000
    assert labels[rows].mean() == pytest.approx(0.1, abs=0.001)
    assert len(search_rows(labels, None, 0, width=1000)) <= 2_100
    assert len(search_rows(labels[:900], None, 0, width=10**6)) == 900


def test_folds_never_fit_without_a_class() -> None:
    labels = np.array([0] * 30 + [1])
    assert all(len(np.unique(labels[fit])) == 2 for fit, _ in splits(labels, None, 0))
    assert len(list(splits(labels, None, 0))) == 3
    pieces = [held for _, held in splits(np.tile([0, 1], 20), None, 0)]
    assert np.array_equal(np.sort(np.concatenate(pieces)), np.arange(40))


def test_log_loss_is_the_mean_of_minus_log() -> None:
    assert log_loss(np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([1, 1])) == pytest.approx((-np.log(0.75) - np.log(1e-7)) / 2)

"""A feature matrix and labels in, a random forest with the leaf size of least held-out loss out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from meddx.models.search import bins, log_loss, splits, squared_error

_TREES, _SEARCH_TREES, _LEAVES = 200, 50, 512  # a forest's size is bounded: about 15 MB


def forest(
    features: np.ndarray, labels: np.ndarray, trials: int, seed: int, groups: np.ndarray | None, n_jobs: int, *, regression: bool = False
) -> Any:
    """A RandomForestClassifier of class numbers, or with `regression` a RandomForestRegressor; features [n, f] with NaN."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    def make(leaf: int, trees: int) -> Any:
        own = {"max_features": 1 / 3} if regression else {"max_features": "sqrt"}  # the usual ones (Breiman 2001)
        return (RandomForestRegressor if regression else RandomForestClassifier)(
            n_estimators=trees, min_samples_leaf=leaf, max_leaf_nodes=_LEAVES, random_state=seed, n_jobs=n_jobs, **own
        )

    sizes = [leaf for leaf in (5, 20, 2, 50, 100)[:trials] if leaf <= max(1, len(labels) // 10)] or [1]
    losses = np.zeros(len(sizes))
    folds = splits(bins(labels) if regression else labels, groups, seed, features.shape[1]) if len(sizes) > 1 else iter(())
    for fit, held in itertools.islice(folds, 2):  # leaf sizes differ by more than the noise of two folds
        for place, leaf in enumerate(sizes):
            model = make(leaf, _SEARCH_TREES).fit(features[fit], labels[fit])
            losses[place] += (
                squared_error(model.predict(features[held]), labels[held])
                if regression
                else log_loss(model.predict_proba(features[held]), np.searchsorted(np.unique(labels), labels[held]))
            )
    best = make(sizes[int(losses.argmin())], _TREES).fit(features, labels)
    return best.set_params(n_jobs=None)  # the machine that scores decides for itself

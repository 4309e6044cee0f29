"""A feature matrix and labels in, gradient boosting with chosen settings out.

Trees take categories with few levels as they are.  Split natively, diagnoses with hundreds of levels are learned by heart
(Diabetes-130, test AUROC .653; with the encoding below .675), so those become the smoothed rate of the target, and each
training row is encoded by the other folds' patients.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from meddx.models.search import ROWS, group_folds, splits

ROUNDS = 500  # at most
FEW = 30  # levels that trees split natively
_CROSS = 5


def boosting(features: np.ndarray, labels: np.ndarray, places: Mapping[int, int], trials: int, seed: int, groups: np.ndarray | None) -> Any:
    """Settings by cross-validation, rounds by early stopping on held-out groups, then fitted on all rows.  A scikit-learn Pipeline."""
    from sklearn.pipeline import Pipeline

    choices = settings(trials, len(labels), seed)
    losses = np.zeros(len(choices))
    folds = splits(labels, groups, seed, features.shape[1]) if trials > 1 else iter(())
    for fit, held in itertools.islice(folds, 2 if len(labels) > ROWS else None):  # two folds of 5,000 rows are enough
        for place, one in enumerate(_stopped(choices, features, labels, places, fit, held, seed, groups)):
            losses[place] += one.min()
    best = choices[int(losses.argmin())]
    rounds = _rounds(best, features, labels, places, seed, groups)
    encoder, ready, native = _encoded(features, labels, places, seed, groups)
    trees = _trees(best, native, seed, max_iter=rounds, early_stopping=False).fit(ready, labels)
    return Pipeline([("encode", encoder), ("boosting", trees)])


def settings(trials: int, rows: int, seed: int) -> list[dict[str, Any]]:
    """`trials` settings drawn at random, the first one sensible by itself."""
    rng = np.random.default_rng([seed, 29])
    most = max(2, rows // 20)
    drawn: list[dict[str, Any]] = [
        {"learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": min(20, most), "l2_regularization": 1.0, "max_features": 0.4}
    ]
    for _ in range(trials - 1):
        drawn.append(
            {
                "learning_rate": float(np.exp(rng.uniform(np.log(0.04), np.log(0.15)))),
                "max_leaf_nodes": int(rng.choice([4, 8, 15, 31])),
                "min_samples_leaf": min(int(rng.choice([5, 10, 20, 50, 100])), most),
                "l2_regularization": float(np.exp(rng.uniform(np.log(0.1), np.log(50)))),
                "max_features": float(rng.choice([0.2, 0.4, 0.7])),
            }
        )
    return drawn


def _rounds(
    best: Mapping[str, Any], features: np.ndarray, labels: np.ndarray, places: Mapping[int, int], seed: int, groups: np.ndarray | None
) -> int:
    """The rounds after which the log loss of a held-out sixth of the groups is least."""
    fold = group_folds(labels, groups, 6, seed + 2)
    fit, held = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    if not len(held) or len(np.unique(labels[fit])) < len(np.unique(labels)):
        return 100
    losses = _stopped([best], features, labels, places, fit, held, seed, groups)[0]
    return max(1, int(losses.argmin()))  # the first loss is of no round at all


def _stopped(
    choices: list[Any],
    features: np.ndarray,
    labels: np.ndarray,
    places: Mapping[int, int],
    fit: np.ndarray,
    held: np.ndarray,
    seed: int,
    groups: np.ndarray | None,
) -> list[np.ndarray]:
    """For each choice the held-out log loss after 0, 1, ... rounds, stopped when it no longer falls."""
    encoder, ready, native = _encoded(features[fit], labels[fit], places, seed, None if groups is None else groups[fit])
    unseen = encoder.transform(features[held])
    found = []
    for one in choices:
        trees = _trees(one, native, seed, max_iter=ROUNDS, early_stopping=True, n_iter_no_change=12, scoring="loss")
        found.append(-trees.fit(ready, labels[fit], X_val=unseen, y_val=labels[held]).validation_score_)
    return found


def _trees(chosen: Mapping[str, Any], native: list[int], seed: int, **more: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(**chosen, **more, categorical_features=native or None, random_state=seed)


def _encoded(
    features: np.ndarray, labels: np.ndarray, places: Mapping[int, int], seed: int, groups: np.ndarray | None
) -> tuple[Any, np.ndarray, list[int]]:
    """(encoder fitted on all rows, these rows with each encoded by the other folds, places of the native categories)."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import TargetEncoder

    many = [place for place, levels in places.items() if levels > FEW]
    plain = [place for place in range(features.shape[1]) if place not in many]
    native = [new for new, place in enumerate(plain) if place in places]

    def fitted(rows: np.ndarray) -> Any:
        steps = [("plain", "passthrough", plain)] if plain else []
        encoder = ColumnTransformer(steps + ([("rate", TargetEncoder(), many)] if many else []))
        # `fit` encodes from all rows, without the random folds of scikit-learn's own fit_transform, which cut through patients.
        return encoder.fit(features[rows], labels[rows])

    encoder = fitted(np.arange(len(labels)))
    ready = np.asarray(encoder.transform(features), np.float64)
    if many:
        fold = group_folds(labels, groups, _CROSS, seed + 3)
        for one in range(_CROSS):
            others, these = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
            if len(these) and len(np.unique(labels[others])) == len(np.unique(labels)):
                ready[these] = fitted(others).transform(features[these])
    return encoder, ready, native

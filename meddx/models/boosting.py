"""A feature matrix and labels (classes, or with `regression` numbers) in, gradient boosting with chosen settings out.

Trees take categories with few levels as they are.  Split natively, diagnoses with hundreds of levels are learned by heart
(Diabetes-130, test AUROC .653; with the encoding below .675), so those become the smoothed rate of the target, and each
training row is encoded by the other folds' patients.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meddx.models.search import ROWS, bins, group_folds, splits

ROUNDS = 500  # at most
FEW = 30  # levels that trees split natively
_CROSS = 5


@dataclass(frozen=True)
class _Rows:
    """What is learned from: `strata` are the classes, or of numbers the fifths, that folds share out."""

    features: np.ndarray
    labels: np.ndarray
    strata: np.ndarray
    places: Mapping[int, int]
    groups: np.ndarray | None
    seed: int
    regression: bool

    def take(self, rows: np.ndarray) -> _Rows:
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, features=self.features[rows], labels=self.labels[rows], strata=self.strata[rows], groups=groups)

    def all_strata(self, rows: np.ndarray) -> bool:
        return len(np.unique(self.strata[rows])) == len(np.unique(self.strata))


def boosting(
    features: np.ndarray,
    labels: np.ndarray,
    places: Mapping[int, int],
    trials: int,
    seed: int,
    groups: np.ndarray | None,
    *,
    regression: bool = False,
) -> Any:
    """Settings by cross-validation, rounds by early stopping on held-out groups, then fitted on all rows.  A scikit-learn Pipeline."""
    from sklearn.pipeline import Pipeline

    rows = _Rows(features, labels, bins(labels) if regression else labels, places, groups, seed, regression)
    choices = settings(trials, len(labels), seed)
    losses = np.zeros(len(choices))
    folds = splits(rows.strata, groups, seed, features.shape[1]) if trials > 1 else iter(())
    for fit, held in itertools.islice(folds, 2 if len(labels) > ROWS else None):  # two folds of 5,000 rows are enough
        for place, one in enumerate(_stopped(choices, rows, fit, held)):
            losses[place] += one.min()
    best = choices[int(losses.argmin())]
    rounds = _rounds(best, rows)
    encoder, ready, native = _encoded(rows)
    trees = _trees(best, native, rows, max_iter=rounds, early_stopping=False).fit(ready, labels)
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


def _rounds(best: Mapping[str, Any], rows: _Rows) -> int:
    """The rounds after which the loss of a held-out sixth of the groups is least."""
    fold = group_folds(rows.strata, rows.groups, 6, rows.seed + 2)
    fit, held = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    if not len(held) or not rows.all_strata(fit):
        return 100
    losses = _stopped([best], rows, fit, held)[0]
    return max(1, int(losses.argmin()))  # the first loss is of no round at all


def _stopped(choices: Sequence[Mapping[str, Any]], rows: _Rows, fit: np.ndarray, held: np.ndarray) -> list[np.ndarray]:
    """For each choice the held-out loss after 0, 1, ... rounds, stopped when it no longer falls."""
    encoder, ready, native = _encoded(rows.take(fit))
    unseen = encoder.transform(rows.features[held])
    found = []
    for one in choices:
        trees = _trees(one, native, rows, max_iter=ROUNDS, early_stopping=True, n_iter_no_change=12, scoring="loss")
        found.append(-trees.fit(ready, rows.labels[fit], X_val=unseen, y_val=rows.labels[held]).validation_score_)
    return found


def _trees(chosen: Mapping[str, Any], native: list[int], rows: _Rows, **more: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if rows.regression else HistGradientBoostingClassifier
    return kind(**chosen, **more, categorical_features=native or None, random_state=rows.seed)


def _encoded(rows: _Rows) -> tuple[Any, np.ndarray, list[int]]:
    """(encoder fitted on all rows, these rows with each encoded by the other folds, places of the native categories)."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import TargetEncoder

    many = [place for place, levels in rows.places.items() if levels > FEW]
    plain = [place for place in range(rows.features.shape[1]) if place not in many]
    native = [new for new, place in enumerate(plain) if place in rows.places]

    def fitted(some: _Rows) -> Any:
        steps = [("plain", "passthrough", plain)] if plain else []
        rate = TargetEncoder(target_type="continuous" if rows.regression else "auto")
        encoder = ColumnTransformer(steps + ([("rate", rate, many)] if many else []))
        # `fit` encodes from all rows, without the random folds of scikit-learn's own fit_transform, which cut through patients.
        return encoder.fit(some.features, some.labels)

    encoder = fitted(rows)
    ready = np.asarray(encoder.transform(rows.features), np.float64)
    if many:
        fold = group_folds(rows.strata, rows.groups, _CROSS, rows.seed + 3)
        for one in range(_CROSS):
            others, these = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
            if len(these) and rows.all_strata(others):
                ready[these] = fitted(rows.take(others)).transform(rows.features[these])
    return encoder, ready, native

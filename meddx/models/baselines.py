"""Prepared train rows and labels in, a scikit-learn model out; and prepared rows to logits.

Only scikit-learn's and numpy's own types end in a model, so that skops can store it without pickle.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from meddx.errors import DataError
from meddx.inputs.types import Prepared
from meddx.models.boosting import boosting
from meddx.models.features import category_places, feature_matrix
from meddx.models.heads import Head
from meddx.models.options import BaselineOptions
from meddx.models.search import log_loss, splits

LIMIT = 20.0  # largest log-odds
_TREES, _SEARCH_TREES, _LEAVES = 200, 50, 512  # a forest's size is bounded: about 15 MB


class KnownLabels(Protocol):
    """The part of dataset.target.Labels that is needed here."""

    @property
    def values(self) -> np.ndarray: ...

    @property
    def known(self) -> np.ndarray: ...


def fit_baseline(
    options: BaselineOptions,
    specs: Mapping[str, Mapping[str, Any]],
    prepared: Mapping[str, Prepared],
    labels: KnownLabels,
    head: Mapping[str, Any],
    *,
    seed: int,
    groups: np.ndarray | None = None,
    n_jobs: int = 1,
) -> Any:
    """A fitted scikit-learn classifier (multilabel: a list of one a label) on the rows whose label is known.

    `groups` [n]: patients; they stay together in the folds that choose the settings.  The same seed gives the same model,
    whatever `n_jobs` (processors).  DataError where no label is known.
    """
    features = feature_matrix(specs, prepared)
    places = category_places(specs)
    known = np.asarray(labels.known, bool)

    def fit(values: np.ndarray, rows: np.ndarray) -> Any:
        if not rows.any():
            raise DataError("no case of train has a label", "baselines")
        return _fit(
            options,
            features[rows],
            values[rows].astype(np.int64),
            places,
            seed,
            None if groups is None else np.asarray(groups)[rows],
            n_jobs,
        )

    if head["kind"] == "multilabel":
        return [fit(labels.values[:, place], known[:, place]) for place in range(len(head["classes"]))]
    return fit(labels.values, known)


def _fit(
    options: BaselineOptions,
    features: np.ndarray,
    labels: np.ndarray,
    places: Mapping[int, int],
    seed: int,
    groups: np.ndarray | None,
    n_jobs: int,
) -> Any:
    from threadpoolctl import threadpool_limits

    if options.kind == "prevalence" or len(np.unique(labels)) < 2:
        from sklearn.dummy import DummyClassifier

        return DummyClassifier(strategy="prior").fit(np.zeros((len(labels), 1), np.float32), labels)
    with threadpool_limits(n_jobs):
        if options.kind == "logistic":
            return _logistic(features, labels, places, options.trials, seed, groups)
        if options.kind == "forest":
            return _forest(features, labels, options.trials, seed, groups, n_jobs)
        return boosting(features, labels, places, options.trials, seed, groups)


def _plain_table(features: np.ndarray, places: Mapping[int, int]) -> Any:
    """Unfitted: numbers by train median with an indicator of missing, codes one-hot (a level not seen: all zeros)."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [place for place in range(features.shape[1]) if place not in places]
    steps: list[tuple[str, Any, list[int]]] = []
    if numbers:
        impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        centre = StandardScaler(with_std=False)  # same answer, a tenth of the iterations on pixels
        steps.append(("numbers", Pipeline([("impute", impute), ("centre", centre)]), numbers))
    if places:
        steps.append(("categories", OneHotEncoder(handle_unknown="ignore", dtype=np.float32), list(places)))
    return ColumnTransformer(steps)


def _logistic(
    features: np.ndarray, labels: np.ndarray, places: Mapping[int, int], trials: int, seed: int, groups: np.ndarray | None
) -> Any:
    """Logistic regression with the ridge penalty of least log loss over `trials` strengths around 0.1, at most 1e-4 to 1e2."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    reach = min(3.0, (trials - 1) / 2)
    grid = np.logspace(-1 - reach, -1 + reach, trials)
    losses = np.zeros(len(grid))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty on separable data; the search then prefers a stronger one
        for fit, held in splits(labels, groups, seed, features.shape[1]) if trials > 1 else ():
            plain = _plain_table(features, places)
            ready, unseen = plain.fit_transform(features[fit]), plain.transform(features[held])
            model = LogisticRegression(max_iter=200, warm_start=True)
            for place, strength in enumerate(grid):
                model.set_params(C=float(strength)).fit(ready, labels[fit])
                losses[place] += log_loss(model.predict_proba(unseen), _numbers(labels, labels[held]))
        best = float(grid[int(losses.argmin())])
        model = Pipeline([("plain", _plain_table(features, places)), ("logistic", LogisticRegression(C=best, max_iter=1000))])
        return model.fit(features, labels)


def _forest(features: np.ndarray, labels: np.ndarray, trials: int, seed: int, groups: np.ndarray | None, n_jobs: int) -> Any:
    """A random forest with the leaf size of least log loss."""
    from sklearn.ensemble import RandomForestClassifier

    def make(leaf: int, trees: int) -> Any:
        return RandomForestClassifier(
            n_estimators=trees, min_samples_leaf=leaf, max_leaf_nodes=_LEAVES, max_features="sqrt", random_state=seed, n_jobs=n_jobs
        )

    sizes = [leaf for leaf in (5, 20, 2, 50, 100)[:trials] if leaf <= max(1, len(labels) // 10)] or [1]
    losses = np.zeros(len(sizes))
    folds = splits(labels, groups, seed, features.shape[1]) if len(sizes) > 1 else iter(())
    for fit, held in itertools.islice(folds, 2):  # leaf sizes differ by more than the noise of two folds
        for place, leaf in enumerate(sizes):
            model = make(leaf, _SEARCH_TREES).fit(features[fit], labels[fit])
            losses[place] += log_loss(model.predict_proba(features[held]), _numbers(labels, labels[held]))
    best = make(sizes[int(losses.argmin())], _TREES).fit(features, labels)
    return best.set_params(n_jobs=None)  # the machine that scores decides for itself


def _numbers(labels: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Class labels as column numbers of predict_proba."""
    return np.searchsorted(np.unique(labels), some)


def baseline_logits(
    estimator: Any, head: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]], prepared: Mapping[str, Prepared]
) -> np.ndarray:
    """float64 [n, k] for `Head.probabilities`: log-odds (binary, k = 1; multilabel, one a label), log-probabilities (multiclass).

    Within 20 of 0.
    """
    features = feature_matrix(specs, prepared)
    answers = Head(head["kind"], head["classes"])
    if answers.kind == "multilabel":
        return np.stack([_log_odds(_columns(one, features, 2)[:, 1]) for one in _checked(estimator, answers)], axis=1)
    chances = _columns(estimator, features, len(answers.classes))
    if answers.kind == "binary":
        return _log_odds(chances[:, 1])[:, None]
    return np.asarray(np.log(np.clip(chances, np.exp(-LIMIT), 1.0)))


def _checked(estimators: Sequence[Any], head: Head) -> Sequence[Any]:
    if len(estimators) != len(head.classes):
        raise DataError(f"{len(estimators)} estimators do not answer {len(head.classes)} labels", "baseline")
    return estimators


def _columns(estimator: Any, features: np.ndarray, classes: int) -> np.ndarray:
    """float64 [n, classes]; a class that train did not have gets 0."""
    if not len(features):
        return np.zeros((0, classes))
    found = np.asarray(estimator.predict_proba(features), np.float64)
    chances = np.zeros((len(features), classes))
    chances[:, np.asarray(estimator.classes_, np.int64)] = found
    return chances


def _log_odds(chance: np.ndarray) -> np.ndarray:
    edge = 1.0 / (1.0 + np.exp(LIMIT))
    inside = np.clip(chance, edge, 1.0 - edge)
    return np.asarray(np.clip(np.log(inside) - np.log1p(-inside), -LIMIT, LIMIT))

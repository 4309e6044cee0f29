"""Features and labels in, a penalised linear model out: logistic regression for classes, ridge regression for numbers.

The result is a Pipeline, or with texts or selected columns the dict {"plain", "kept", "model"} that `matrix` reads.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from meddx.models.features import Features
from meddx.models.search import bins, log_loss, splits, squared_error
from meddx.models.straight import transformed

WIDE_ROWS = 1_500  # so many rows with more columns than twice that are turned into their own span
_SPAN = 1e-10  # squared singular values below this share of the largest are noise of rounding
# Of wide rows, which are separable: their gradient is small long before the end, so a search that starts warm and stops at the usual
# 1e-4 compares where it stopped and not the penalties (leukaemia genes: accuracy .961 instead of .978 of the best penalty)
EXACT: dict[str, Any] = {"tol": 1e-8, "max_iter": 5000}
Matrix = Any  # a numpy array or a scipy CSR matrix


def plain_table(features: Features) -> Any:
    """Unfitted: numbers by train median with an indicator of missing, codes one-hot (a level not seen: all zeros)."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def numbers(places: list[int], with_std: bool) -> tuple[Any, list[int]]:
        impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        return Pipeline([("impute", impute), ("centre", StandardScaler(with_std=with_std))]), places

    raw = list(features.raw)
    scaled = [place for place in range(features.dense.shape[1]) if place not in features.places and place not in set(raw)]
    steps: list[tuple[str, Any, list[int]]] = []
    if scaled:
        steps.append(("numbers", *numbers(scaled, False)))  # same answer, a tenth of the iterations on pixels
    if raw:
        steps.append(("raw", *numbers(raw, True)))
    if features.places:
        steps.append(("categories", OneHotEncoder(handle_unknown="ignore", dtype=np.float32), list(features.places)))
    return ColumnTransformer(steps)


def matrix(state: dict[str, Any], features: Features) -> Matrix:
    """[n, columns] for the model: plain columns, then TF-IDF, then only the kept ones."""
    parts = [] if state.get("plain") is None else [transformed(state["plain"], features.dense)]
    parts.extend(features.texts)
    joined = sparse.hstack(parts, format="csr") if features.texts else parts[0]
    return joined if state.get("kept") is None else joined[:, state["kept"]]


def _prepared(features: Features, labels: np.ndarray, select: int | None, regression: bool) -> tuple[dict[str, Any], Matrix]:
    """(state for `matrix`, fitted on these rows alone, and their matrix)."""
    state: dict[str, Any] = {"plain": plain_table(features).fit(features.dense) if features.dense.shape[1] else None, "kept": None}
    ready = matrix(state, features)
    if select is not None and select < ready.shape[1]:
        state["kept"] = best_columns(ready, labels, select, regression)
        ready = ready[:, state["kept"]]
    return state, ready


def best_columns(ready: Matrix, labels: np.ndarray, select: int, regression: bool) -> np.ndarray:
    """int64 [select], ascending: the columns of largest F (analysis of variance, or of correlation with a number)."""
    from sklearn.feature_selection import f_classif, f_regression

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)  # a constant column has no F: it comes last
        scores = np.nan_to_num((f_regression if regression else f_classif)(ready, labels)[0], nan=-1.0, posinf=np.finfo(float).max)
    return np.sort(np.argsort(-scores, kind="stable")[:select]).astype(np.int64)


@dataclass(frozen=True)
class Span:
    """Few rows of many columns, turned into as many columns as their rank.

    A ridge penalty does not see a rotation, and weights outside the span of the rows are 0, so the fit is the same one
    (Hastie & Tibshirani 2004, Biostatistics 5:329) for the price of a small matrix.
    """

    wide: Matrix
    turn: np.ndarray

    @classmethod
    def of(cls, wide: Matrix) -> tuple[Span, np.ndarray]:
        """(the span, the rows in it: float64 [n, rank])."""
        values, vectors = np.linalg.eigh(_dense(wide @ wide.T))
        keep = values > max(values[-1], 1e-30) * _SPAN
        sizes = np.sqrt(values[keep])
        return cls(wide, vectors[:, keep] / sizes), vectors[:, keep] * sizes

    def rows(self, wide: Matrix) -> np.ndarray:
        return np.asarray(_dense(wide @ self.wide.T) @ self.turn)

    def weights(self, turned: np.ndarray) -> np.ndarray:
        """Weights [k, columns] for the wide rows from weights [k, rank] for the turned ones."""
        return np.asarray((turned @ self.turn.T) @ self.wide)


def _dense(values: Matrix) -> np.ndarray:
    return np.asarray(values.toarray() if sparse.issparse(values) else values, np.float64)


def _is_wide(ready: Matrix) -> bool:
    return bool(ready.shape[0] <= WIDE_ROWS and ready.shape[1] > 2 * ready.shape[0])


def _turned(ready: Matrix) -> tuple[Span | None, Matrix]:
    return Span.of(ready.astype(np.float64)) if _is_wide(ready) else (None, ready)


def _fit(model: Any, ready: Matrix, labels: np.ndarray) -> Any:
    span, rows = _turned(ready)
    model.fit(rows, labels)
    if span is not None:
        model.coef_ = span.weights(np.atleast_2d(model.coef_)).reshape(*model.coef_.shape[:-1], -1)
        model.n_features_in_ = ready.shape[1]
    return model


def _finished(state: dict[str, Any], features: Features, name: str, model: Any) -> Any:
    from sklearn.pipeline import Pipeline

    if state["kept"] is None and not features.texts:
        return Pipeline([("plain", state["plain"]), (name, model)])
    return {**state, "model": model}


def logistic(features: Features, labels: np.ndarray, trials: int, seed: int, groups: np.ndarray | None, select: int | None = None) -> Any:
    """Logistic regression with the ridge penalty of least log loss over `trials` strengths around 0.1, at most 1e-4 to 1e2."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    reach = min(3.0, (trials - 1) / 2)
    grid = np.logspace(-1 - reach, -1 + reach, trials)
    losses = np.zeros(len(grid))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty on separable data; the search then prefers a stronger one
        for fit, held in splits(labels, groups, seed, features.width) if trials > 1 else ():
            state, ready = _prepared(features.take(fit), labels[fit], select, False)
            unseen = matrix(state, features.take(held))
            span, ready = _turned(ready)
            unseen = unseen if span is None else span.rows(unseen)
            model = LogisticRegression(warm_start=True, **({"max_iter": 200} if span is None else EXACT))
            for place, strength in enumerate(grid):
                model.set_params(C=float(strength)).fit(ready, labels[fit])
                losses[place] += log_loss(model.predict_proba(unseen), np.searchsorted(np.unique(labels), labels[held]))
        state, ready = _prepared(features, labels, select, False)
        strength = float(grid[int(losses.argmin())])
        model = _fit(LogisticRegression(C=strength, **({"max_iter": 1000} if not _is_wide(ready) else EXACT)), ready, labels)
    return _finished(state, features, "logistic", model)


def ridge(
    features: Features, values: np.ndarray, trials: int, seed: int, groups: np.ndarray | None, select: int | None = None
) -> tuple[Any, float]:
    """(ridge regression with the penalty of least squared error over `trials` of them around 10, its held-out error's s.d.).

    Penalties reach from 1e-2 to 1e4 at most.
    """
    from sklearn.linear_model import Ridge

    reach = min(3.0, (trials - 1) / 2)
    grid = np.logspace(1 - reach, 1 + reach, trials)
    losses, folds = np.zeros(len(grid)), 0
    for fit, held in splits(bins(values), groups, seed, features.width):
        state, ready = _prepared(features.take(fit), values[fit], select, True)
        unseen = matrix(state, features.take(held))
        span, ready = _turned(ready)
        unseen, folds = unseen if span is None else span.rows(unseen), folds + 1
        for place, penalty in enumerate(grid):
            losses[place] += squared_error(Ridge(alpha=float(penalty)).fit(ready, values[fit]).predict(unseen), values[held])
    state, ready = _prepared(features, values, select, True)
    model = _fit(Ridge(alpha=float(grid[int(losses.argmin())])), ready, values)
    deviation = float(np.sqrt(losses.min() / folds)) if folds else float(np.std(values))
    return _finished(state, features, "ridge", model), deviation

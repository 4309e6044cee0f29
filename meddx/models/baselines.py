"""Prepared train rows and labels in, a scikit-learn model out; and prepared rows to logits.

Only scikit-learn's and numpy's own types end in a model, so that skops can store it without pickle.  A model is an
estimator, a list of one a label (multilabel), or a dict around it:

    inputs      the inputs it looks at, where that is not all of them (outermost)
    model       the estimator, or what else stands here
    texts       of each text input its TF-IDF: columns, idf, and components for trees
    plain, kept what a linear model does to the columns before it (linear.py)
    deviation   of the normal errors of a ridge regression on class numbers (ordinal)
    dictionary  the names of entities that train knew (tags; dictionary.py), and no estimator at all
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.types import Prepared
from meddx.models.boosting import boosting
from meddx.models.dictionary import dictionary_logits, empty_dictionary, fit_dictionary
from meddx.models.features import Features, features_of
from meddx.models.forest import forest
from meddx.models.linear import logistic, matrix, ridge
from meddx.models.options import BaselineOptions
from meddx.models.straight import transformed
from meddx.models.textfeatures import fit_components, fit_tfidf, tfidf

LIMIT = 20.0  # largest log-odds
HEADS = ("binary", "multiclass", "multilabel", "ordinal", "regression", "tags")


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
    """A fitted model (module docstring) on the rows whose label is known.

    `groups` [n]: patients; they stay together in the folds that choose the settings.  The same seed gives the same model,
    whatever `n_jobs` (processors).  DataError where no label is known; RecipeError for a kind or an input that does not fit.
    """
    _refuse(options, specs, head["kind"])
    if head["kind"] == "tags":
        return _named(options.inputs, _fit_tags(options, specs, prepared, labels, head, seed, groups))
    features = features_of(_looked_at(options.inputs, specs), prepared)
    known = np.asarray(labels.known, bool)

    def fit(values: np.ndarray, rows: np.ndarray) -> Any:
        if not rows.any():
            raise DataError("no case of train has a label", "baselines")
        some = None if groups is None else np.asarray(groups)[rows]
        return _fit(options, features.take(rows), _targets(values[rows], head), head["kind"], seed, some, n_jobs)

    if head["kind"] == "multilabel":
        model: Any = [fit(labels.values[:, place], known[:, place]) for place in range(len(head["classes"]))]
    else:
        model = fit(labels.values, known)
    return _named(options.inputs, model)


def _named(inputs: Sequence[str], model: Any) -> Any:
    return {"inputs": list(inputs), "model": model} if inputs else model


def _fit_tags(
    options: BaselineOptions,
    specs: Mapping[str, Mapping[str, Any]],
    prepared: Mapping[str, Prepared],
    labels: KnownLabels,
    head: Mapping[str, Any],
    seed: int,
    groups: np.ndarray | None,
) -> Any:
    name = _tokens(_looked_at(options.inputs, specs))
    if name is None:
        raise RecipeError(f"the baseline {options.kind} tags one input of kind tokens", "baselines.inputs", "name that input alone")
    if options.kind == "prevalence":
        return empty_dictionary()
    return fit_dictionary(prepared[name], labels, len(head["classes"]), seed=seed, groups=groups)


def _tokens(specs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The input whose words are tagged; None where it is not clear which."""
    names = [name for name, spec in specs.items() if spec["kind"] == "tokens"]
    return names[0] if len(names) == 1 else None


def _refuse(options: BaselineOptions, specs: Mapping[str, Mapping[str, Any]], kind: str) -> None:
    if kind not in HEADS:
        raise RecipeError(f"the baseline {options.kind} does not answer a target of kind {kind}", "baselines")
    if kind == "tags" and options.kind not in ("prevalence", "dictionary"):
        raise RecipeError(f"the baseline {options.kind} does not answer a target of kind tags", "baselines", "take dictionary")
    if options.kind == "dictionary" and kind != "tags":
        raise RecipeError(f"the baseline dictionary does not answer a {kind} target: it tags words", "baselines", "take another")
    if options.kind == "linear" and kind not in ("regression", "ordinal"):
        raise RecipeError(f"the baseline linear does not answer a {kind} target", "baselines", "take logistic")
    if options.kind == "logistic" and kind == "regression":
        raise RecipeError("the baseline logistic does not answer a number", "baselines", "take linear")
    if unknown := [name for name in options.inputs if name not in specs]:
        raise RecipeError(f"there is no input {unknown[0]}", "baselines.inputs", f"the inputs are: {', '.join(specs)}")


def _looked_at(inputs: Sequence[str], specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The specs of these inputs (none named: of all), in the order of the specs."""
    return {name: spec for name, spec in specs.items() if not inputs or name in inputs}


def _targets(values: np.ndarray, head: Mapping[str, Any]) -> np.ndarray:
    """Class numbers, or a number on the scale that the head's probabilities() undoes."""
    if head["kind"] == "regression":
        return np.asarray((values.astype(np.float64) - head["mean"]) / head["std"])
    return np.asarray(values.astype(np.int64))


def _fit(
    options: BaselineOptions,
    features: Features,
    labels: np.ndarray,
    kind: str,
    seed: int,
    groups: np.ndarray | None,
    n_jobs: int,
) -> Any:
    from threadpoolctl import threadpool_limits

    if options.kind == "prevalence" or len(np.unique(labels)) < 2:
        return _constant(labels, kind == "regression")
    with threadpool_limits(n_jobs):
        trees = options.kind in ("forest", "boosting")
        texts = [fit_tfidf(one) for one in features.texts]  # knows no label: once is enough for all folds
        if trees:
            texts = [
                {**state, "components": fit_components(tfidf(state, one), seed)} for state, one in zip(texts, features.texts, strict=True)
            ]
        model = _model(options, _weighed(texts, features), labels, kind, seed, groups, n_jobs)
    if not texts:
        return model
    return {"texts": texts, **(model if isinstance(model, dict) else {"model": model})}


def _model(
    options: BaselineOptions, features: Features, labels: np.ndarray, kind: str, seed: int, groups: np.ndarray | None, n_jobs: int
) -> Any:
    regression = kind == "regression"
    if options.kind == "logistic":
        return logistic(features, labels, options.trials, seed, groups, options.select)
    if options.kind == "linear":
        model, deviation = ridge(features, labels.astype(np.float64), options.trials, seed, groups, options.select)
        if regression:
            return model
        return {**(model if isinstance(model, dict) else {"model": model}), "deviation": max(deviation, 0.05)}
    if options.kind == "forest":
        return forest(features.dense, labels, options.trials, seed, groups, n_jobs, regression=regression)
    return boosting(features.dense, labels, features.places, options.trials, seed, groups, regression=regression)


def _constant(labels: np.ndarray, regression: bool) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    model = DummyRegressor(strategy="mean") if regression else DummyClassifier(strategy="prior")
    return model.fit(np.zeros((len(labels), 1), np.float32), labels)


def _weighed(texts: Sequence[dict[str, Any]], features: Features) -> Features:
    """The features with counts as TF-IDF, or as components among the dense columns where the states have some."""
    weights = [tfidf(state, one) for state, one in zip(texts, features.texts, strict=True)]
    if not any("components" in state for state in texts):
        return Features(features.dense, features.places, features.raw, tuple(weights))
    dense = [features.dense] + [one @ state["components"].T for state, one in zip(texts, weights, strict=True)]
    return Features(np.concatenate(dense, axis=1, dtype=np.float32), features.places, features.raw)


def baseline_logits(
    estimator: Any,
    head: Mapping[str, Any],
    specs: Mapping[str, Mapping[str, Any]],
    prepared: Mapping[str, Prepared],
    counted: int | None = None,
) -> np.ndarray:
    """float64 [n, k] for the head's probabilities().

    Log-odds (binary, k = 1; multilabel, one a label), log-probabilities (multiclass), log-odds of a higher class (ordinal,
    one fewer than classes), the number in standardised units (regression, k = 1).  Within 20 of 0, but for regression and tags
    (`dictionary_logits`).  `counted`: the rest only fills the batch, and its logits mean nothing.
    """
    inputs: Sequence[str] = ()
    if isinstance(estimator, dict) and "inputs" in estimator:
        inputs, estimator = estimator["inputs"], estimator["model"]
    if unknown := [name for name in inputs if name not in specs]:
        raise BundleError(f"the model looks at {len(unknown)} inputs that are not there", "model.skops", "the bundle is damaged")
    if head["kind"] == "tags":
        name = _tokens(_looked_at(inputs, specs))
        if name is None or not isinstance(estimator, dict):
            raise BundleError("the model tags no input of this bundle", "model.skops", "the bundle is damaged")
        return dictionary_logits(estimator, head, prepared[name])
    if isinstance(estimator, dict) and "dictionary" in estimator:
        raise BundleError(f"a dictionary does not answer a {head['kind']} target", "model.skops", "the bundle is damaged")
    features = features_of(_looked_at(inputs, specs), prepared)
    kind, classes = head["kind"], len(head.get("classes", ()))
    if kind == "multilabel":
        return np.stack([_log_odds(_columns(one, features, 2, counted)[:, 1]) for one in _checked(estimator, classes)], axis=1)
    if kind == "regression":
        return _values(estimator, features, counted)[:, None]
    if kind == "ordinal":
        return _higher(estimator, features, classes, counted)
    chances = _columns(estimator, features, classes, counted)
    if kind == "binary":
        return _log_odds(chances[:, 1])[:, None]
    return np.asarray(np.log(np.clip(chances, np.exp(-LIMIT), 1.0)))


def _checked(estimators: Sequence[Any], labels: int) -> Sequence[Any]:
    if len(estimators) != labels:
        raise DataError(f"{len(estimators)} estimators do not answer {labels} labels", "baseline")
    return estimators


def _ready(estimator: Any, features: Features) -> tuple[Any, Any]:
    """(scikit-learn's own estimator, the matrix it asks for)."""
    if not isinstance(estimator, dict):
        steps: Sequence[Any] = getattr(estimator, "steps", ())
        if len(steps) == 2 and hasattr(steps[0][1], "transformers_"):
            return steps[1][1], transformed(steps[0][1], features.dense)
        return estimator, features.dense
    weighed = _weighed(estimator["texts"], features) if "texts" in estimator else features
    if "plain" in estimator:
        return estimator["model"], matrix(estimator, weighed)
    return estimator["model"], weighed.dense


def _asked(model: Any, ready: Any, counted: int | None) -> Any:
    """The rows that the model is asked about.  Linear algebra rounds by the shape of a batch, so it gets all; a tree looks at one row."""
    by_row = type(model).__name__.startswith(("HistGradientBoosting", "RandomForest"))
    return ready[:counted] if by_row else ready


def _values(estimator: Any, features: Features, counted: int | None = None) -> np.ndarray:
    """float64 [n] of a regression."""
    values = np.zeros(len(features))
    if len(features):
        model, ready = _ready(estimator, features)
        asked = _asked(model, ready, counted)
        values[: asked.shape[0]] = np.asarray(model.predict(asked), np.float64).ravel()
    return values


def _columns(estimator: Any, features: Features, classes: int, counted: int | None = None) -> np.ndarray:
    """float64 [n, classes]; a class that train did not have gets 0."""
    chances = np.zeros((len(features), classes))
    if len(features):
        model, ready = _ready(estimator, features)
        asked = _asked(model, ready, counted)
        chances[: asked.shape[0], np.asarray(model.classes_, np.int64)] = np.asarray(model.predict_proba(asked), np.float64)
    return chances


def _higher(estimator: Any, features: Features, classes: int, counted: int | None = None) -> np.ndarray:
    """float64 [n, classes - 1]: log-odds of a class above j.

    A ridge regression on class numbers stands for a normal variable cut at the halves: P(y > j) = Phi((value - j - 1/2) / s.d.).
    """
    from scipy.special import log_ndtr

    if isinstance(estimator, dict) and "deviation" in estimator:
        cuts = np.arange(classes - 1) + 0.5
        scores = (_values(estimator, features, counted)[:, None] - cuts) / float(estimator["deviation"])
        return np.asarray(np.clip(log_ndtr(scores) - log_ndtr(-scores), -LIMIT, LIMIT))
    chances = _columns(estimator, features, classes, counted)
    above = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return _log_odds(above)


def _log_odds(chance: np.ndarray) -> np.ndarray:
    edge = 1.0 / (1.0 + np.exp(LIMIT))
    inside = np.clip(chance, edge, 1.0 - edge)
    return np.asarray(np.clip(np.log(inside) - np.log1p(-inside), -LIMIT, LIMIT))

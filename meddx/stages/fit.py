"""Prepared parts in, a fitted network or baseline out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from meddx import cluster
from meddx.errors import RecipeError
from meddx.models.options import BaselineOptions
from meddx.predict.estimators import EstimatorParts
from meddx.predict.networks import NetworkParts
from meddx.recipe import Recipe
from meddx.stages.finish import Fitted
from meddx.stages.material import Material
from meddx.stages.run import Log
from meddx.storage import StoragePath
from meddx.train.options import TrainingOptions


def fit_network(
    recipe: Recipe, material: Material, options: TrainingOptions, run_dir: StoragePath, fingerprint: str, *, fresh: bool, log: Log
) -> Fitted:
    """The page's network, trained on `train`, its best epoch chosen on `validate`; goes on where a killed run in `run_dir` stopped."""
    from meddx.train.run import TrainData, train_network

    train, validate = material.parts["train"], material.parts["validate"]
    data = TrainData(
        train=_arrays(train.prepared),
        train_labels=train.labels,
        train_ids=train.rows,
        validate=_arrays(validate.prepared),
        validate_labels=validate.labels,
    )
    with cluster.connect() if options.workers else nullcontext():
        trained = train_network(
            data,
            model=recipe.model,
            encoders=recipe.encoders,
            specs=material.preparations.specs(),
            head=material.head,
            options=options,
            run_dir=run_dir,
            fingerprint=fingerprint,
            fresh=fresh,
            log=log,
            pretrained=recipe.pretrained,
        )
    about = {"best_epoch": trained.best_epoch, "training": options.model_dump(mode="json"), "notes": trained.notes}
    encoders = {name: one.model_dump(mode="json") for name, one in recipe.encoders.items()}
    parts = NetworkParts(recipe.model.model_dump(mode="json"), encoders, trained.weights, trained.offset)
    return Fitted(parts, about, trained.history)


def answering(shared: Fitted, head: Mapping[str, Any], target: str) -> Fitted:
    """Of a network that learned several targets, the one that answers `target`; of one that learned one, itself."""
    if not target:
        return shared
    from meddx.models.heads import make_head
    from meddx.models.heads.several import Several, weights_of

    several, parts = make_head(head), shared.parts
    assert isinstance(several, Several) and isinstance(parts, NetworkParts)
    return replace(shared, parts=replace(parts, weights=weights_of(several, target, parts.weights)))


def with_beside(recipe: Recipe, fitted: Fitted, material: Material) -> Fitted:
    """The network with the baseline of `model.beside`, fitted on `train` alone; without one, itself."""
    if recipe.model.beside is None:
        return fitted
    assert isinstance(fitted.parts, NetworkParts)
    return replace(fitted, parts=replace(fitted.parts, beside=_fit_estimator(recipe, recipe.model.beside, material)))


def fit_baseline(recipe: Recipe, model: str, material: Material) -> Fitted:
    """One of the page's baselines, fitted on `train` alone."""
    options = next(one for one in recipe.baseline_options if one.label == model)
    return Fitted(EstimatorParts(options.kind, _fit_estimator(recipe, options, material)))


def _fit_estimator(recipe: Recipe, options: BaselineOptions, material: Material) -> Any:
    from meddx.models import baselines

    part, specs = material.parts["train"], material.preparations.specs()
    return baselines.fit_baseline(
        options, specs, part.prepared, part.labels, material.head, seed=recipe.training.seed, groups=part.patients
    )


def start_digest(options: TrainingOptions) -> str | None:
    """What names the weights that training starts from; None where it starts from none.  A changed source is another training."""
    if options.start_from is None:
        return None
    place = StoragePath.of(options.start_from)
    listed = place / "digests.json"
    if not place.exists() and not listed.exists():
        raise RecipeError("there is nothing to start from", "training.start_from", f"check the path {options.start_from}")
    return listed.digest() if listed.exists() else place.digest()


def _arrays(prepared: Any) -> dict[str, dict[str, np.ndarray]]:
    return {name: {**one.arrays, "present": one.present} for name, one in prepared.items()}

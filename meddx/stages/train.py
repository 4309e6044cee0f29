"""Recipe in, one bundle for each model out: the network and its baselines, on the same parts, calibrated the same way."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from meddx import cluster, yamlconf
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.testlog import times_opened
from meddx.errors import MeddxError
from meddx.models.options import BaselineOptions
from meddx.predict.estimators import EstimatorParts
from meddx.predict.networks import NetworkParts
from meddx.recipe import Recipe
from meddx.record import Recorder
from meddx.stages.console import Clock, working
from meddx.stages.finish import Fitted, finish
from meddx.stages.ingest import ingest
from meddx.stages.material import LEARN, Material, gather
from meddx.stages.run import SPLIT_BLOCKS, TRAIN_BLOCKS, Log, Run, read_manifest
from meddx.storage import StoragePath


def train(recipe: Recipe, *, log: Log, fresh: bool = False) -> list[StoragePath]:
    """Make every bundle of the page that is not there yet; a finished one is left alone unless `fresh`."""
    clock = Clock()
    run = Run(recipe)
    dataset = ingest(recipe, log=log)
    split = run.open_split(dataset)
    for message in split.messages:
        log(message)
    log(f"test part opened {_times(times_opened(dataset))}")
    wanted = {model: fingerprint_of(recipe, model, dataset, split) for model in run.models}
    todo = [model for model, fingerprint in wanted.items() if fresh or _made_with(run.bundle(model)) != fingerprint]
    for model in run.models:
        if model not in todo:
            log(f"{model}: trained already, nothing to do ({run.bundle(model)})")
    if todo:
        with working("preparing the cases"):
            material = gather(recipe, dataset, split, log=log)
        log("cases: " + ", ".join(f"{part} {len(material.parts[part].rows):,}" for part in LEARN))
        for model in todo:
            _train_one(recipe, model, wanted[model], material, (dataset, split), fresh=fresh, log=log)
    log(f"trained {len(todo)} of {len(run.models)} models in {clock.seconds:.0f} s; {run.root / 'bundles'}")
    return [run.bundle(model) for model in run.models]


def fingerprint_of(recipe: Recipe, model: str, dataset: Dataset, split: Split) -> str:
    """What a bundle was made from: the page's blocks that matter to it, the dataset and the split."""
    if model == recipe.model.name:
        page: Any = recipe.fingerprint(*TRAIN_BLOCKS)
    else:
        options = next(one for one in recipe.baseline_options if one.kind == model)
        page = [recipe.fingerprint(*SPLIT_BLOCKS, "calibration", "threshold"), options.model_dump(mode="json"), recipe.training.seed]
    return yamlconf.fingerprint([page, dataset.digest, split.meta["parquet"]])


def _made_with(path: StoragePath) -> str | None:
    """The fingerprint in a bundle's manifest, or None where there is no sound bundle."""
    if not (path / "digests.json").exists():
        return None
    try:
        return str(read_manifest(path)[0]["about"]["fingerprint"])
    except MeddxError:
        return None


def _train_one(
    recipe: Recipe, model: str, fingerprint: str, material: Material, made_from: tuple[Dataset, Split], *, fresh: bool, log: Log
) -> None:
    dataset, split = made_from
    run, clock, recorder = Run(recipe), Clock(), Recorder("train", fingerprint)
    if model == recipe.model.name:
        fitted = _fit_network(recipe, material, fingerprint, fresh=fresh, log=log)
    else:
        options = next(one for one in recipe.baseline_options if one.kind == model)
        with working(f"fitting {model}"):
            fitted = _fit_baseline(options, material, seed=recipe.training.seed)
    counts = {part: len(material.parts[part].rows) for part in LEARN}
    about = {
        "fingerprint": fingerprint,
        "role": "network" if model == recipe.model.name else "baseline",
        "recipe": recipe.name,
        "dataset": dataset.digest,
        "split": split.meta["parquet"],
        "cases": counts,
        "prevalence": _prevalence(material),
    }
    digest, measured = finish(recipe, model, fitted, material, run.bundle(model), about)
    recorder.add_input("dataset", run.dataset, dataset.digest)
    recorder.counts = counts
    recorder.more = {"bundle": digest, "model": model, "validate": measured, "history": fitted.history}
    recorder.write(run.bundle(model))
    log(f"{model}: validate {_numbers(measured)}; {clock.seconds:.1f} s; bundle {digest}")


def _fit_network(recipe: Recipe, material: Material, fingerprint: str, *, fresh: bool, log: Log) -> Fitted:
    from meddx.train.run import TrainData, train_network

    train_part, validate = material.parts["train"], material.parts["validate"]
    data = TrainData(
        train=_arrays(train_part.prepared),
        train_labels=train_part.labels,
        train_ids=train_part.rows,
        validate=_arrays(validate.prepared),
        validate_labels=validate.labels,
    )
    specs = material.preparations.specs()
    with cluster.connect() if recipe.training.workers else nullcontext():
        trained = train_network(
            data,
            model=recipe.model,
            encoders=recipe.encoders,
            specs=specs,
            head=material.head,
            options=recipe.training,
            run_dir=Run(recipe).training / fingerprint,
            fingerprint=fingerprint,
            fresh=fresh,
            log=log,
        )
    about = {"best_epoch": trained.best_epoch, "training": recipe.training.model_dump(mode="json")}
    encoders = {name: one.model_dump(mode="json") for name, one in recipe.encoders.items()}
    return Fitted(NetworkParts(recipe.model.model_dump(mode="json"), encoders, trained.weights), about, trained.history)


def _fit_baseline(options: BaselineOptions, material: Material, *, seed: int) -> Fitted:
    from meddx.models.baselines import fit_baseline

    part = material.parts["train"]
    estimator = fit_baseline(
        options, material.preparations.specs(), part.prepared, part.labels, material.head, seed=seed, groups=part.patients
    )
    return Fitted(EstimatorParts(options.kind, estimator))


def _arrays(prepared: Any) -> dict[str, dict[str, np.ndarray]]:
    return {name: {**one.arrays, "present": one.present} for name, one in prepared.items()}


def _prevalence(material: Material) -> list[float]:
    """Share of each class (multilabel: of each label; binary: of the positive class) among the labelled cases of train."""
    labels = material.parts["train"].labels
    if material.head["kind"] == "multiclass":
        return [float(np.mean(labels.values[labels.known] == number)) for number in range(len(material.head["classes"]))]
    values, known = np.atleast_2d(labels.values.T), np.atleast_2d(labels.known.T)
    return [float(value[mask].mean()) for value, mask in zip(values, known, strict=True)]


def _numbers(validate: dict[str, float]) -> str:
    """The few that a line can hold; the record has all."""
    return ", ".join(f"{name} {validate[name]:.3f}" for name in ("auroc", "auprc", "brier", "log_loss") if name in validate)


def _times(number: int) -> str:
    return {0: "0 times so far", 1: "once so far"}.get(number, f"{number} times so far")

"""Recipe in, one bundle for each model out: the network and its baselines, on the same parts, calibrated the same way."""

from __future__ import annotations

from typing import Any

from meddx import yamlconf
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.testlog import times_opened
from meddx.errors import MeddxError
from meddx.recipe import Recipe
from meddx.record import Recorder
from meddx.stages.console import Clock, working
from meddx.stages.finish import finish
from meddx.stages.fit import fit_baseline, fit_network, start_digest
from meddx.stages.folds import train_by_folds
from meddx.stages.ingest import ingest
from meddx.stages.material import LEARN, Material, about_of, gather
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
    if todo and split.folds is not None:
        train_by_folds(recipe, {model: wanted[model] for model in todo}, dataset, split, fresh=fresh, log=log)
    elif todo:
        with working("preparing the cases"):
            material = gather(recipe, dataset, {part: split.rows(part) for part in LEARN}, log=log)
        log("cases: " + ", ".join(f"{part} {len(material.parts[part].rows):,}" for part in LEARN))
        for model in todo:
            _train_one(recipe, model, wanted[model], material, (dataset, split), fresh=fresh, log=log)
    log(f"trained {len(todo)} of {len(run.models)} models in {clock.seconds:.0f} s; {run.root / 'bundles'}")
    return [run.bundle(model) for model in run.models]


def fingerprint_of(recipe: Recipe, model: str, dataset: Dataset, split: Split) -> str:
    """What a bundle was made from: the page's blocks that matter to it, the dataset and the split."""
    if model == recipe.model.name:
        start = start_digest(recipe.training)
        page: Any = [recipe.fingerprint(*TRAIN_BLOCKS), start] if start else recipe.fingerprint(*TRAIN_BLOCKS)
    else:
        options = next(one for one in recipe.baseline_options if one.label == model)
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
        fitted = fit_network(recipe, material, recipe.training, run.training / fingerprint, fingerprint, fresh=fresh, log=log)
    else:
        with working(f"fitting {model}"):
            fitted = fit_baseline(recipe, model, material)
    counts = {part: len(material.parts[part].rows) for part in LEARN}
    about = about_of(recipe, model, fingerprint, dataset, split, material)
    digest, measured = finish(recipe, model, fitted, material, run.bundle(model), about)
    recorder.add_input("dataset", run.dataset, dataset.digest)
    recorder.counts = counts
    recorder.more = {"bundle": digest, "model": model, "validate": measured, "history": fitted.history}
    recorder.write(run.bundle(model))
    log(f"{model}: validate {_numbers(measured)}; {clock.seconds:.1f} s; bundle {digest}")


def _numbers(validate: dict[str, float]) -> str:
    """The few that a line can hold; the record has all."""
    return ", ".join(f"{name} {validate[name]:.3f}" for name in ("auroc", "auprc", "brier", "log_loss") if name in validate)


def _times(number: int) -> str:
    return {0: "0 times so far", 1: "once so far"}.get(number, f"{number} times so far")

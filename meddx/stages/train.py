"""Recipe in, one bundle for each model out: the network and its baselines, on the same parts, calibrated the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meddx import yamlconf
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.testlog import times_opened
from meddx.errors import MeddxError
from meddx.predict.patterns import MOST_INPUTS
from meddx.recipe import Recipe
from meddx.record import Recorder
from meddx.stages.console import Clock, working
from meddx.stages.finish import Fitted, finish
from meddx.stages.fit import answering, fit_baseline, fit_network, start_digest, with_beside
from meddx.stages.folds import train_by_folds
from meddx.stages.ingest import ingest
from meddx.stages.material import LEARN, Material, about_of, for_target, gather
from meddx.stages.run import SPLIT_BLOCKS, TRAIN_BLOCKS, Log, Run, read_manifest
from meddx.storage import StoragePath

SHOWN = ("auroc", "auprc", "brier", "macro_f1", "kappa", "mae", "r2", "span_f1", "log_loss")


def train(recipe: Recipe, *, log: Log, fresh: bool = False) -> list[StoragePath]:
    """Make every bundle of the page that is not there yet; a finished one is left alone unless `fresh`."""
    clock = Clock()
    run = Run(recipe)
    dataset = ingest(recipe, log=log)
    split = run.open_split(dataset)
    for message in split.messages:
        log(message)
    log(f"test part opened {_times(times_opened(dataset))}")
    made_from = (dataset.digest, split.meta["parquet"], *_directories(recipe))
    models = [(page, model) for page in recipe.questions for model in Run(page).models]
    wanted = {(page.part, model): fingerprint_of(page, model, made_from) for page, model in models}
    todo = [(page.part, model) for page, model in models if fresh or not _made(page, model, wanted)]
    for page, model in models:
        if (page.part, model) not in todo:
            log(f"{_called(page, model)}: trained already, nothing to do ({Run(page).bundle(model)})")
    if todo and split.folds is not None:
        train_by_folds(recipe, {model: wanted["", model] for _, model in todo}, dataset, split, fresh=fresh, log=log)
    elif todo:
        _train_by_parts(recipe, {key: wanted[key] for key in todo}, made_from, (dataset, split), fresh=fresh, log=log)
    log(f"trained {len(todo)} of {len(wanted)} models in {clock.seconds:.0f} s; {run.root / 'bundles'}")
    return [Run(page).bundle(model) for page, model in models]


def fingerprint_of(recipe: Recipe, model: str, made_from: Sequence[Any]) -> str:
    """What a bundle was made from: the page's blocks that matter to it, and `made_from`: the dataset, the split, local directories."""
    if model == recipe.model.name:
        start = start_digest(recipe.training)
        trained = recipe.whole.fingerprint(*TRAIN_BLOCKS)
        page: Any = [trained, *([start] if start else []), recipe.part] if start or recipe.part else trained
    else:
        options = next(one for one in recipe.baseline_options if one.label == model)
        page = [recipe.fingerprint(*SPLIT_BLOCKS, "calibration", "threshold"), options.model_dump(mode="json"), recipe.training.seed]
    return yamlconf.fingerprint([page, *made_from])


def _directories(recipe: Recipe) -> list[dict[str, str]]:
    """What lies in the local directories that text inputs name: a tokenizer there makes the words of the baselines too."""
    if not recipe.pretrained:
        return []
    from meddx.inputs.pretrained import pretrained_digest

    return [{name: pretrained_digest(place) for name, place in recipe.pretrained.items()}]


def _made(recipe: Recipe, model: str, wanted: Mapping[tuple[str, str], str]) -> bool:
    """Whether a sound bundle of this fingerprint stands."""
    path = Run(recipe).bundle(model)
    if not (path / "digests.json").exists():
        return False
    try:
        return bool(read_manifest(path)[0]["about"]["fingerprint"] == wanted[recipe.part, model])
    except MeddxError:
        return False


def _train_by_parts(
    recipe: Recipe,
    wanted: Mapping[tuple[str, str], str],
    made_from: Sequence[Any],
    learned_from: tuple[Dataset, Split],
    *,
    fresh: bool,
    log: Log,
) -> None:
    """The bundles of `wanted`: (target, model) to fingerprint.  Everything is fitted on train, and one network answers all targets."""
    with working("preparing the cases"):
        material = gather(recipe, learned_from[0], {part: learned_from[1].rows(part) for part in LEARN}, log=log)
    log("cases: " + ", ".join(f"{part} {len(material.parts[part].rows):,}" for part in LEARN))
    if len(material.preparations.optional_names) > MOST_INPUTS:
        log(f"more than {MOST_INPUTS} inputs may be missing: calibrated with each of them hidden alone, not with every set of them")
    network, shared = recipe.model.name, None
    recorders = {part: Recorder("train", wanted[part, model]) for part, model in wanted if model == network}
    if recorders:  # one training for all targets of the page
        mark = fingerprint_of(recipe, network, made_from)
        shared = fit_network(recipe, material, recipe.training, Run(recipe).training / mark, mark, fresh=fresh, log=log)
    for page in recipe.questions:
        own = for_target(page, material)
        for model in (model for part, model in wanted if part == page.part):
            if shared is not None and model == network:
                recorder = recorders[page.part]
                fitted = with_beside(page, answering(shared, material.head, page.part), own)
            else:
                recorder = Recorder("train", wanted[page.part, model])
                with working(f"fitting {_called(page, model)}"):
                    fitted = fit_baseline(page, model, own)
            _make_bundle(page, model, fitted, own, learned_from, recorder, log=log)


def _make_bundle(
    page: Recipe, model: str, fitted: Fitted, material: Material, made_from: tuple[Dataset, Split], recorder: Recorder, *, log: Log
) -> None:
    """Calibrate, measure on validate, write; `recorder` has run since before the model was fitted."""
    run = Run(page)
    about = about_of(page, model, recorder.fingerprint, *made_from, material)
    digest, measured = finish(page, model, fitted, material, run.bundle(model), about)
    recorder.add_input("dataset", run.dataset, made_from[0].digest)
    recorder.counts = {part: len(material.parts[part].rows) for part in LEARN}
    recorder.more = {"bundle": digest, "model": model, "validate": measured, "history": fitted.history}
    recorder.write(run.bundle(model))
    log(f"{_called(page, model)}: validate {_numbers(measured)}; {recorder.seconds:.1f} s; bundle {digest}")


def _called(recipe: Recipe, model: str) -> str:
    return f"{model} ({recipe.part})" if recipe.part else model


def _numbers(validate: dict[str, float]) -> str:
    """The few that a line can hold; the record has all."""
    return ", ".join(f"{name} {validate[name]:.3f}" for name in SHOWN if name in validate)


def _times(number: int) -> str:
    return {0: "0 times so far", 1: "once so far"}.get(number, f"{number} times so far")

"""A page with folds in: every model judged on cases it did not learn from, then one bundle a model that learned from all out.

In each turn everything is fitted on the other folds alone: vocabularies, scales, selections, settings, the best epoch.  Calibration and
threshold come from the out-of-fold answers of all turns.  So the numbers are about the procedure, and the bundle's card says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import Labels, TargetCoder
from meddx.recipe import Recipe
from meddx.record import Recorder
from meddx.stages.console import Clock, working
from meddx.stages.finish import Fitted, Logits, Tuned, answers_of, answers_of_train, logits_of, measure, tune, write
from meddx.stages.fit import fit_baseline, fit_network, with_beside
from meddx.stages.material import Material, about_of, gather, together
from meddx.stages.run import Log, Run
from meddx.stages.turns import Said, Turn, keep, kept, turns_of
from meddx.train.options import TrainingOptions

PROCEDURE = "estimated by cross-validation of the whole procedure; this bundle learned from all cases, so no case is left to measure it on"


@dataclass(frozen=True)
class OutOfFold:
    """All turns of one model.  `head`: the page of the head, whose scale (regression) each turn fits on its own train."""

    turns: tuple[Turn, ...]
    said: tuple[Said, ...]

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([one.rows for one in self.said])

    @property
    def logits(self) -> np.ndarray:
        return np.concatenate([one.logits for one in self.said])

    def first(self, head: Mapping[str, Any]) -> Logits:
        """Of the first repeat, in which each case is held out once."""
        said = [one.logits for turn, one in zip(self.turns, self.said, strict=True) if turn.repeat == 0]
        return Logits(_in_deviations(head, np.concatenate(said)))

    @property
    def validate(self) -> dict[str, float]:
        """Mean over the turns of what each measured on its own validate part."""
        names = set.intersection(*(set(one.facts["validate"]) for one in self.said))
        return {name: float(np.mean([one.facts["validate"][name] for one in self.said])) for name in sorted(names)}

    @property
    def epochs(self) -> int | None:
        """The median of the turns' best epochs; None for a baseline."""
        found = [one.facts["best_epoch"] for one in self.said if one.facts.get("best_epoch")]
        return max(1, round(float(np.median(found)))) if found else None


def train_by_folds(recipe: Recipe, todo: Mapping[str, str], dataset: Dataset, split: Split, *, fresh: bool, log: Log) -> None:
    """Run every turn that is not kept yet, then make the bundles.  `todo`: model to fingerprint."""
    turns = tuple(turns_of(recipe, dataset, split))
    run = Run(recipe)
    for turn in turns:
        left = [model for model, mark in todo.items() if fresh or kept(run.folds / mark, turn) is None]
        if left:
            _run_turn(recipe, dataset, turn, {model: todo[model] for model in left}, len(turns), fresh=fresh, log=log)
    with working("preparing all cases"):
        rows = np.sort(np.concatenate([turn.held for turn in turns if turn.repeat == 0]))
        material = gather(recipe, dataset, {"train": rows, "validate": turns[0].validate}, log=log)
    labels = TargetCoder(recipe.target).encode(dataset.table(list(recipe.target.all_columns)))
    for model, mark in todo.items():
        found = out_of_fold(recipe, model, mark, turns)
        _make_bundle(recipe, model, mark, found, material, labels, (dataset, split), fresh=fresh, log=log)


def out_of_fold(recipe: Recipe, model: str, mark: str, turns: Sequence[Turn]) -> OutOfFold:
    """What one model said in all turns."""
    said = [kept(Run(recipe).folds / mark, turn) for turn in turns]
    assert all(one is not None for one in said), "every turn was run"
    return OutOfFold(tuple(turns), tuple(one for one in said if one is not None))


def _run_turn(recipe: Recipe, dataset: Dataset, turn: Turn, todo: Mapping[str, str], turns: int, *, fresh: bool, log: Log) -> None:
    clock, run = Clock(), Run(recipe)
    with working(f"preparing {turn.name}"):
        material = gather(recipe, dataset, {"train": turn.train, "validate": turn.validate, "held": turn.held}, log=log)
    measured = {}
    for model, mark in todo.items():
        fitted = _fit(recipe, model, material, recipe.training, f"{mark}/{turn.name}", fresh=fresh, log=_quiet)
        held, validate = material.parts["held"], material.parts["validate"]
        inner = logits_of(fitted.parts, material, validate.prepared)
        numbers = measure(material.head, tune(recipe, "", material.head, inner, validate.labels), inner, validate.labels)
        if model != recipe.model.name or recipe.training.refit:  # the validate part has chosen, and may be learned from now
            both = replace(material, parts={**material.parts, "train": together(material, "train", "validate")})
            options = _for_epochs(recipe.training, fitted.about.get("best_epoch"))
            fitted = replace(_fit(recipe, model, both, options, f"{mark}/{turn.name}-both", fresh=fresh, log=_quiet), about=fitted.about)
        logits = _on_scale(material.head, logits_of(fitted.parts, material, held.prepared).logits)
        facts = {"validate": numbers, "n_train": len(turn.train) + len(turn.validate), **_scalars(fitted.about)}
        keep(run.folds / mark, turn, Said(held.rows, logits, facts))
        measured[model] = numbers
    log(f"repeat {turn.repeat + 1}, fold {turn.fold + 1} ({turns} turns): {_line(measured)}; {clock.seconds:.1f} s")


def _fit(recipe: Recipe, model: str, material: Material, options: TrainingOptions, mark: str, *, fresh: bool, log: Log) -> Fitted:
    if model != recipe.model.name:
        return fit_baseline(recipe, model, material)
    fitted = fit_network(recipe, material, options, Run(recipe).training / mark, mark, fresh=fresh, log=log)
    return with_beside(recipe, fitted, material)


def _for_epochs(training: TrainingOptions, epochs: int | None) -> TrainingOptions:
    """As the page says, for a number of epochs that is settled."""
    return training.model_copy(update={"epochs": epochs or 1, "stop_on": "last", "patience": 0})


def _on_scale(head: Mapping[str, Any], logits: np.ndarray) -> np.ndarray:
    """A regression's answers in the target's own units, for each turn has its own scale."""
    return logits * head["std"] + head["mean"] if head["kind"] == "regression" else logits


def _make_bundle(
    recipe: Recipe,
    model: str,
    mark: str,
    found: OutOfFold,
    material: Material,
    labels: Labels,
    made_from: tuple[Dataset, Split],
    *,
    fresh: bool,
    log: Log,
) -> None:
    """Learn from all cases, for as many epochs as the turns found best, and take calibration and threshold from the turns."""
    clock, run, recorder = Clock(), Run(recipe), Recorder("train", mark)
    dataset, split = made_from
    options = _for_epochs(recipe.training, found.epochs)
    fitted = _fit(recipe, model, material, options, f"{mark}/all", fresh=fresh, log=_quiet)
    tuned = tuned_from(recipe, model, material.head, found, labels)
    about = about_of(recipe, model, mark, dataset, split, material)
    about |= {"validate": found.validate, "cases": {"train": len(material.parts["train"].rows)}, "estimate": PROCEDURE}
    about["answers"] = {
        "out_of_fold": answers_of(material.head, tuned, found.first(material.head)),
        "train": answers_of_train(fitted, material, tuned),
    }
    digest = write(recipe, model, fitted, material, tuned, run.bundle(model), about)
    recorder.add_input("dataset", run.dataset, dataset.digest)
    recorder.counts = {"train": len(material.parts["train"].rows), "turns": len(found.turns)}
    recorder.more = {"bundle": digest, "model": model, "validate": found.validate, "estimate": PROCEDURE, "epochs": found.epochs}
    recorder.write(run.bundle(model))
    log(f"{model}: learned from all cases; {clock.seconds:.1f} s; bundle {digest}")


def tuned_from(recipe: Recipe, model: str, head: Mapping[str, Any], found: OutOfFold, labels: Labels) -> Tuned:
    """Calibration and threshold from out-of-fold answers; `labels` of all rows of the dataset."""
    return tune(recipe, model, head, Logits(_in_deviations(head, found.logits)), labels.take(found.rows))


def _in_deviations(head: Mapping[str, Any], logits: np.ndarray) -> np.ndarray:
    """A regression's answers on the scale that the bundle's own logits have."""
    return (logits - head["mean"]) / head["std"] if head["kind"] == "regression" else logits


def _scalars(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if isinstance(value, int | float)}


def _line(measured: Mapping[str, Mapping[str, float]]) -> str:
    shown = ("auroc", "macro_f1", "kappa", "r2")
    return ", ".join(f"{model} {next((f'{name} {one[name]:.3f}' for name in shown if name in one), '')}" for model, one in measured.items())


def _quiet(line: str) -> None:
    """A turn's own epochs are not shown: there may be fifty turns."""

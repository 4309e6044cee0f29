"""A fitted model and logits of cases it did not learn from in, a bundle out: network and baselines go the same way from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meddx.dataset.target import Labels
from meddx.errors import DataError
from meddx.evaluate.metrics import one_weighting
from meddx.evaluate.multi import metrics_of, numbers_for
from meddx.evaluate.spans import span_array
from meddx.evaluate.types import ModelScores, Truth
from meddx.inputs.tags import word_spans
from meddx.inputs.types import Prepared
from meddx.models.heads import make_head
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.predict import outcome, spread
from meddx.predict.bundle import write_bundle
from meddx.predict.engine import both_logits, estimator_logits, network_logits, plan_for, select
from meddx.predict.estimators import EstimatorParts
from meddx.predict.manifest import HeadPage
from meddx.predict.networks import NetworkParts
from meddx.predict.options import ThresholdOptions
from meddx.predict.outcome import class_numbers, median_class
from meddx.predict.patterns import Pattern, apply_by_pattern, calibrate_by_pattern, hidden, patterns_of
from meddx.predict.threshold import choose_thresholds
from meddx.recipe import Recipe
from meddx.stages.material import Material
from meddx.storage import StoragePath

TRAIN_CASES = 2000  # of the train part whose answers are counted: a share is then known to about one in a hundred


@dataclass(frozen=True)
class Fitted:
    """A model before its calibration; `about` goes into the bundle, `history` into the record."""

    parts: NetworkParts | EstimatorParts
    about: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Logits:
    """A model's logits [n, k] of some cases, and what each optional input had of them (bool [n]).

    `without`: the same cases' logits with each set of optional inputs hidden; only calibration looks at them.
    """

    logits: np.ndarray
    present: Mapping[str, np.ndarray] = field(default_factory=dict)
    without: Mapping[Pattern, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuned:
    """What turns logits into answers: calibration and threshold as a bundle keeps them."""

    calibration: dict[str, Any]
    threshold: dict[str, Any]

    def probabilities(self, head: Mapping[str, Any], said: Logits) -> np.ndarray:
        return apply_by_pattern(self.calibration, head, said.logits, said.present)


def finish(
    recipe: Recipe, name: str, fitted: Fitted, material: Material, path: StoragePath, about: Mapping[str, Any]
) -> tuple[str, dict[str, float]]:
    """Calibrate and choose the threshold on the calibrate part, measure on validate, write.  (digest, metrics on validate)"""
    validate, calibrate = material.parts["validate"], material.parts["calibrate"]
    held_out = logits_of(fitted.parts, material, calibrate.prepared, patterns=True)
    tuned = tune(recipe, name, material.head, held_out, calibrate.labels)
    measured = measure(material.head, tuned, logits_of(fitted.parts, material, validate.prepared), validate.labels)
    answers = {"calibrate": answers_of(material.head, tuned, held_out), "train": answers_of_train(fitted, material, tuned)}
    return write(recipe, name, fitted, material, tuned, path, {**about, "validate": measured, "answers": answers}), measured


def write(recipe: Recipe, name: str, fitted: Fitted, material: Material, tuned: Tuned, path: StoragePath, about: Mapping[str, Any]) -> str:
    """The bundle on storage; its digest."""
    return write_bundle(
        path,
        name=name,
        head=material.head,
        preparations=material.preparations,
        predictor=fitted.parts,
        calibration=tuned.calibration,
        threshold=tuned.threshold,
        cohort=recipe.cohort,
        target=recipe.target.model_dump(mode="json"),
        about={**about, **fitted.about},
        replace=True,
    )


def tune(recipe: Recipe, name: str, head: Mapping[str, Any], said: Logits, labels: Labels) -> Tuned:
    """Calibration and threshold from logits and labels of cases that the model did not learn from, unweighted.

    A baseline that cannot reach the goal of the page stays in the table, at Youden's point; its bundle keeps the reason.
    """
    without = {frozenset[str](): said.logits, **said.without}
    calibration = calibrate_by_pattern(recipe.calibration, head, without, said.present, labels)
    probabilities = apply_by_pattern(calibration, head, said.logits, said.present)
    try:
        return Tuned(calibration, choose_thresholds(recipe.threshold, head, probabilities, labels))
    except DataError as error:
        if name == recipe.model.name:
            raise
        chosen = choose_thresholds(ThresholdOptions(), head, probabilities, labels)
        return Tuned(calibration, {**chosen, "unreachable": error.what})


def answers_of(head: Mapping[str, Any], tuned: Tuned, said: Logits) -> dict[str, Any]:
    """How many cases got which answer, by band: {"cases", "bands"}.  The night's page holds an archive's answers against them."""
    page = HeadPage.model_validate({**head, "classes": tuple(head["classes"])})
    if head["kind"] == "tags":
        found: Any = make_head(head)
        columns = {spread.SPANS: np.array([len(one) for one in found.spans(said.logits)], np.float64)}
    else:
        names = outcome.number_columns(page)[:1] if head["kind"] == "regression" else outcome.number_columns(page)
        columns = dict(zip(names, tuned.probabilities(head, said).T, strict=True))
    scale = (head["mean"], head["std"]) if head["kind"] == "regression" else None
    return {"cases": len(said.logits), "bands": spread.count_answers(columns, scale)}


def answers_of_train(fitted: Fitted, material: Material, tuned: Tuned) -> dict[str, Any]:
    """The same of cases that the model learned from, at most TRAIN_CASES of them, evenly through the part."""
    part = material.parts["train"]
    some = np.unique(np.linspace(0, len(part.rows) - 1, min(TRAIN_CASES, len(part.rows))).astype(np.int64))
    prepared = {name: select(one, some) for name, one in part.prepared.items()}
    return answers_of(material.head, tuned, logits_of(fitted.parts, material, prepared))


def logits_of(
    parts: NetworkParts | EstimatorParts, material: Material, prepared: Mapping[str, Prepared], *, patterns: bool = False
) -> Logits:
    """The engine's logits, of the planned shape: the same numbers that the bundle will give.  `patterns`: with inputs hidden too."""
    forward = _forward(parts, material)
    preparations = material.preparations
    present = {name: prepared[name].present for name in preparations.optional_names}
    sets = patterns_of({one.name: one.optional for one in preparations.inputs})[1:] if patterns else []
    return Logits(forward(prepared), present, {one: forward(hidden(preparations, prepared, one)) for one in sets})


def _forward(parts: NetworkParts | EstimatorParts, material: Material) -> Callable[[Mapping[str, Prepared]], np.ndarray]:
    """What makes logits of prepared cases."""
    specs = material.preparations.specs()
    plan = plan_for(specs, parts.kind if isinstance(parts, EstimatorParts) else None)

    def of_baseline(estimator: Any, prepared: Mapping[str, Prepared]) -> np.ndarray:
        return estimator_logits(estimator, material.head, specs, prepared, plan)

    if isinstance(parts, EstimatorParts):
        return lambda prepared: of_baseline(parts.estimator, prepared)
    from meddx.models.build import build_model

    encoders = {name: EncoderOptions.model_validate(one) for name, one in parts.encoders.items()}
    model = build_model(ModelOptions.model_validate(parts.model_options), encoders, specs, material.head)
    model.load_state_dict(parts.weights)
    if parts.beside is None:
        return lambda prepared: network_logits(model, prepared, plan, parts.offset)
    return lambda prepared: both_logits(network_logits(model, prepared, plan, parts.offset), of_baseline(parts.beside, prepared))


def measure(head: Mapping[str, Any], tuned: Tuned, said: Logits, labels: Labels) -> dict[str, float]:
    """Every defined metric on the validate part; it picks `best` baselines, so that the test part need not."""
    values, known = labels.values, labels.known
    if head["kind"] == "tags":  # places are counted in words here
        values, known = span_array(word_spans(tags, int(there.sum())) for tags, there in zip(values, known, strict=True)), labels.labelled
    truth = Truth(head["kind"], tuple(head["classes"]), values, known)
    rows = labels.labelled
    numbers = numbers_for(truth, scores_of(head, tuned, said), rows)(one_weighting(None, int(rows.sum())))
    return {name: float(numbers[name][0]) for name in metrics_of(head["kind"]) if np.isfinite(numbers[name][0])}


def scores_of(head: Mapping[str, Any], tuned: Tuned, said: Logits, **more: Any) -> ModelScores:
    """What the comparison looks at, of one model on the cases of `said`; the places of entities are counted in words."""
    if head["kind"] == "tags":
        found: Any = make_head(head)
        return ModelScores(span_array([span[:3] for span in one] for one in found.spans(said.logits)), None, **more)
    probabilities = tuned.probabilities(head, said)
    decisions = _decisions(head, tuned.threshold, probabilities)
    return ModelScores(probabilities[:, 0] if head["kind"] in ("binary", "regression") else probabilities, decisions, **more)


def _decisions(head: Mapping[str, Any], threshold: Mapping[str, Any], probabilities: np.ndarray) -> np.ndarray | None:
    if head["kind"] == "regression":
        return None
    if head["kind"] == "multiclass":
        return class_numbers(head["classes"], threshold, probabilities)
    if head["kind"] == "ordinal":
        return median_class(probabilities)
    pages = [threshold["labels"][name] for name in head["classes"]] if head["kind"] == "multilabel" else [threshold]
    decided = (probabilities >= np.array([page["value"] for page in pages])).astype(np.int64)
    return decided if head["kind"] == "multilabel" else decided[:, 0]

"""Predictions and the sealed labels in, a verdict and its page out.  Each call opens the test part and leaves a note of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx import record
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import TargetCoder
from meddx.dataset.testlog import open_test
from meddx.dataset.values import numbers
from meddx.errors import DataError, LeakError
from meddx.evaluate.compare import compare as compare_models
from meddx.evaluate.types import ModelScores, Truth
from meddx.evaluate.words import sentences
from meddx.recipe import Recipe
from meddx.score.audit import read_predictions
from meddx.stages.about import about_page
from meddx.stages.console import working
from meddx.stages.run import Log, Run, read_manifest
from meddx.stages.score import score_run
from meddx.storage import StoragePath


@dataclass(frozen=True)
class Verdict:
    """What compare found: the first sentence, the page, and the whole comparison as JSON values."""

    headline: str
    page: StoragePath
    comparison: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """One model that is compared: its bundle's manifest and digest, and its predictions."""

    manifest: dict[str, Any]
    digest: str
    predictions: pa.Table

    @property
    def name(self) -> str:
        return str(self.manifest["name"])


def compare(recipe: Recipe, paths: Sequence[str] = (), *, log: Log, question: str = "") -> Verdict:
    """Score what is not scored yet, then compare on the test part.

    `paths`: predictions directories or bundles; default: every bundle of the run.  Raises LeakError for a bundle that
    learned from another split, DataError where something is missing.
    """
    recorder = record.Recorder("compare", recipe.fingerprint())
    run, dataset = Run(recipe), Dataset.open(Run(recipe).dataset)
    split = Split.load(dataset)
    judged = [_judged(recipe, place, log=log) for place in _places(run, paths)]
    for one in judged:
        _same_split(one, dataset, split)
    rows = split.rows("test", labelled=False)
    opened = open_test(dataset, job="compare", why=recipe.name)
    truth, scores = _gather(recipe, dataset, rows, judged)
    patients = dataset.table(["patient_id"]).column("patient_id").take(pa.array(rows)).to_pylist()
    rates = judged[0].manifest["about"]["prevalence"]
    with working("comparing"):
        comparison = compare_models(scores, truth, patients, recipe.comparison, train_rates=rates)
    page = about_page(run, dataset, split, judged, comparison, opened=opened, question=question, recorder=recorder)
    for line in sentences(comparison, opened):
        log(line)
    log(f"page: {page}")
    return Verdict(str(comparison["primary"]["sentence"]), page, comparison)


def question(page: Path) -> str:
    """The comment at the head of a recipe, what is asked and what not; what earlier runs reached is not part of it."""
    lines: list[str] = []
    for line in page.read_text().splitlines():
        if not line.startswith("#") or "Reaches:" in line or "meddx " in line:
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(lines)


def _places(run: Run, paths: Sequence[str]) -> list[StoragePath]:
    if paths:
        return [StoragePath.of(path) for path in paths]
    bundles = [run.bundle(model) for model in run.models]
    gone = [one.name for one in bundles if not (one / "digests.json").exists()]
    if gone:
        raise DataError(f"not trained yet: {', '.join(gone)}", str(run.root / "bundles"), "run meddx train with this page first")
    return bundles


def _judged(recipe: Recipe, place: StoragePath, *, log: Log) -> Judged:
    """A bundle is scored first, through the ledger; of a predictions directory the bundle is found by its digest."""
    if (place / "digests.json").exists():
        manifest, digest = read_manifest(place)
        return Judged(manifest, digest, read_predictions(score_run(recipe, place, workers=0, log=log)))
    predictions = read_predictions(place)
    digests = set(pc.unique(predictions.column("bundle")).to_pylist())
    for bundle in (info.path.parent for info in (Run(recipe).root / "bundles").list("digests.json")):
        manifest, digest = read_manifest(bundle)
        if digests == {digest}:
            return Judged(manifest, digest, predictions)
    raise DataError(
        "these predictions were not made by a bundle of this run", str(place), "give predictions of this page's bundles, or a bundle"
    )


def _same_split(one: Judged, dataset: Dataset, split: Split) -> None:
    about = one.manifest["about"]
    if about.get("dataset") != dataset.digest or about.get("split") != split.meta["parquet"]:
        raise LeakError(
            f"{one.name} learned from another split or another state of the dataset: test cases may have been among its training cases",
            f"bundle {one.digest}",
            "run meddx train with this page again",
        )


def _gather(recipe: Recipe, dataset: Dataset, rows: np.ndarray, judged: Sequence[Judged]) -> tuple[Truth, dict[str, ModelScores]]:
    """Labels of the test part and every model's scores, all in the order of `rows`."""
    coder = TargetCoder(recipe.target)
    priors = recipe.comparison.prior_scores
    table = dataset.table(["case_id", *recipe.target.all_columns, *(one.column for one in priors.values())]).take(pa.array(rows))
    labels = coder.encode(table)
    truth = Truth(coder.kind, coder.classes, labels.values, labels.known, recipe.target.column or "", recipe.target.outcome or "")
    scores = {one.name: _scores(one, table.column("case_id"), recipe.comparison.primary.metric) for one in judged}
    for name, prior in priors.items():
        scores[name] = ModelScores(numbers(table.column(prior.column)), None, kind="prior", higher_means=prior.higher_means)
    return truth, scores


def _scores(one: Judged, case_ids: pa.ChunkedArray, metric: str) -> ModelScores:
    """A model's predictions in the order of the cases; NaN where a case has none."""
    kind, classes = one.manifest["head"]["kind"], one.manifest["head"]["classes"]
    found = pc.index_in(case_ids, value_set=one.predictions.column("case_id").combine_chunks())
    table = one.predictions.take(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)
    names = ["probability"] if kind == "binary" else [f"p_{name}" for name in classes]
    probabilities = np.stack([table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names], axis=1)
    about = one.manifest["about"]
    return ModelScores(
        probabilities[:, 0] if kind == "binary" else probabilities,
        _decisions(table, kind, classes),
        kind="network" if about["role"] == "network" else "baseline",
        validate_score=about["validate"].get(metric),
        threshold=one.manifest["threshold"] if kind == "binary" else None,
    )


def _decisions(table: pa.Table, kind: str, classes: Sequence[str]) -> np.ndarray:
    if kind == "multilabel":
        return np.stack([(_texts(table, f"decision_{name}") == "yes") for name in classes], axis=1).astype(np.int64)
    decided = _texts(table, "decision")
    if kind == "binary":
        return np.asarray(decided == classes[1], dtype=np.int64)
    return np.array([classes.index(one) if one is not None else 0 for one in decided], dtype=np.int64)


def _texts(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table.column(name).to_pylist(), dtype=object)

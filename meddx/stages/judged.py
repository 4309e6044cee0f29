"""Bundles or predictions in, what each model said about the cases of the comparison out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import TargetCoder, spans_of
from meddx.dataset.values import numbers
from meddx.errors import DataError, LeakError
from meddx.evaluate.spans import span_array
from meddx.evaluate.types import ModelScores, Role, Truth
from meddx.recipe import Recipe
from meddx.score.audit import read_predictions
from meddx.stages.run import Log, Run, read_manifest
from meddx.stages.score import score_run
from meddx.storage import StoragePath


@dataclass(frozen=True)
class Judged:
    """One model that is compared: its bundle's manifest and digest, and its predictions; `without`: the input hidden from it."""

    manifest: dict[str, Any]
    digest: str
    predictions: pa.Table
    without: str = ""

    @property
    def name(self) -> str:
        name = str(self.manifest["name"])
        return f"{name} without {self.without}" if self.without else name


def places(run: Run, paths: Sequence[str]) -> list[StoragePath]:
    """What is compared: the given folders, or every bundle of the run."""
    if paths:
        return [StoragePath.of(path) for path in paths]
    bundles = [run.bundle(model) for model in run.models]
    gone = [one.name for one in bundles if not (one / "digests.json").exists()]
    if gone:
        raise DataError(f"not trained yet: {', '.join(gone)}", str(run.bundles), "run meddx train with this page first")
    return bundles


def judge(recipe: Recipe, place: StoragePath, *, log: Log) -> Judged:
    """A bundle is scored first, through the ledger; of a predictions directory the bundle is found by its digest."""
    if (place / "digests.json").exists():
        manifest, digest = read_manifest(place)
        return Judged(manifest, digest, read_predictions(score_run(recipe, place, workers=0, log=log)))
    predictions = read_predictions(place)
    digests = set(pc.unique(predictions.column("bundle")).to_pylist())
    for bundle in (info.path.parent for info in Run(recipe).bundles.list("digests.json")):
        manifest, digest = read_manifest(bundle)
        if digests == {digest}:
            return Judged(manifest, digest, predictions)
    raise DataError(
        "these predictions were not made by a bundle of this run", str(place), "give predictions of this page's bundles, or a bundle"
    )


def judge_without(recipe: Recipe, name: str, *, log: Log) -> Judged:
    """The page's network with one optional input hidden from it."""
    bundle = Run(recipe).bundle(recipe.model.name)
    manifest, digest = read_manifest(bundle)
    hidden = recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update={"without": (name,)})})
    return Judged(manifest, digest, read_predictions(score_run(hidden, bundle, workers=0, log=log)), name)


def same_split(one: Judged, dataset: Dataset, split: Split) -> None:
    """LeakError for a bundle that learned from another split."""
    about = one.manifest["about"]
    if about.get("dataset") != dataset.digest or about.get("split") != split.meta["parquet"]:
        raise LeakError(
            f"{one.name} learned from another split or another state of the dataset: test cases may have been among its training cases",
            f"bundle {one.digest}",
            "run meddx train with this page again",
        )


def truth_of(recipe: Recipe, table: pa.Table) -> Truth:
    """The answers of the rows of `table`."""
    coder = TargetCoder(recipe.target)
    labels = coder.encode(table)
    if coder.kind == "tags":
        spans = span_array(spans_of(table.column(str(recipe.target.column)), recipe.target.classes))
        return Truth("tags", coder.classes, spans, labels.known, recipe.target.column or "")
    assert coder.kind != "several", "each target is judged alone"
    return Truth(coder.kind, coder.classes, labels.values, labels.known, recipe.target.column or "", recipe.target.outcome or "")


def prior_scores(recipe: Recipe, table: pa.Table) -> dict[str, ModelScores]:
    """Scores that stand in the archive, for the rows of `table`."""
    priors = recipe.comparison.prior_scores.items()
    return {name: ModelScores(numbers(table.column(one.column)), None, kind="prior", higher_means=one.higher_means) for name, one in priors}


def answer_columns(recipe: Recipe) -> list[str]:
    """The dataset columns that `truth_of` and `prior_scores` read, with the ids."""
    priors = (one.column for one in recipe.comparison.prior_scores.values())
    return list(dict.fromkeys(["case_id", "patient_id", *recipe.target.all_columns, *priors]))


def scores_of(one: Judged, case_ids: pa.ChunkedArray, metric: str) -> ModelScores:
    """A model's predictions in the order of the cases; NaN where a case has none."""
    kind, classes = one.manifest["head"]["kind"], one.manifest["head"].get("classes", [])
    found = pc.index_in(case_ids, value_set=one.predictions.column("case_id").combine_chunks())
    table = one.predictions.take(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)
    about = one.manifest["about"]
    role: Role = "network" if about["role"] == "network" else "baseline"
    if kind == "tags":
        return ModelScores(_entities(table, classes), None, kind=role, validate_score=about["validate"].get(metric))
    names = {"binary": ["probability"], "regression": ["value"]}.get(kind) or [f"p_{name}" for name in classes]
    probabilities = np.stack([_numbers(table, name) for name in names], axis=1)
    made = ModelScores(
        probabilities[:, 0] if kind in ("binary", "regression") else probabilities,
        None if kind == "regression" else _decisions(table, kind, classes),
        kind=role,
        validate_score=about["validate"].get(metric),
        threshold=one.manifest["threshold"] if kind == "binary" else None,
    )
    return replace(made, low=_numbers(table, "low"), high=_numbers(table, "high")) if kind == "regression" else made


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    found: np.ndarray = table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _entities(table: pa.Table, classes: Sequence[str]) -> np.ndarray:
    """[n] lists of (start, end, label number); None where the case was not scored."""
    rows = table.column("spans").to_pylist()
    return span_array(None if row is None else [(one["start"], one["end"], classes.index(one["label"])) for one in row] for row in rows)


def _decisions(table: pa.Table, kind: str, classes: Sequence[str]) -> np.ndarray:
    if kind == "multilabel":
        return np.stack([(_texts(table, f"decision_{name}") == "yes") for name in classes], axis=1).astype(np.int64)
    decided = _texts(table, "decision")
    if kind == "binary":
        return np.asarray(decided == classes[1], dtype=np.int64)
    return np.array([classes.index(one) if one is not None else 0 for one in decided], dtype=np.int64)


def _texts(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table.column(name).to_pylist(), dtype=object)

"""Dataset and row numbers in, what models learn from out: prepared arrays and labels of each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.dataset.columns import resolve_columns
from meddx.dataset.open import Dataset
from meddx.dataset.several import coder_of, questions
from meddx.dataset.split import Split
from meddx.dataset.target import Labels, TargetCoder, spans_of
from meddx.errors import DataError
from meddx.inputs.prepare import Preparations, fit
from meddx.inputs.tags import label_arrays
from meddx.inputs.types import Prepared
from meddx.predict.engine import select
from meddx.recipe import Recipe
from meddx.stages.run import Log

LEARN = ("train", "validate", "calibrate")


@dataclass(frozen=True)
class PartData:
    """The labelled, readable cases of one part: arrays by input, labels, row numbers in the dataset, patients (text)."""

    prepared: dict[str, Prepared]
    labels: Labels
    rows: np.ndarray
    patients: np.ndarray


@dataclass(frozen=True)
class Material:
    """What every model of a page learns from; `columns` are the dataset columns of each input, `head` is what `make_head` takes."""

    head: dict[str, Any]
    columns: dict[str, list[str]]
    preparations: Preparations
    parts: dict[str, PartData]


def input_columns(recipe: Recipe, dataset: Dataset) -> dict[str, list[str]]:
    """The dataset columns behind each input of the page."""
    return resolve_columns(recipe.inputs, dataset.schema, timing=recipe.timing, never=recipe.never_inputs)


def gather(recipe: Recipe, dataset: Dataset, rows: Mapping[str, np.ndarray], *, log: Log) -> Material:
    """Prepare the parts, given as row numbers.  Everything is fitted on `train` only; rows of no part are not looked at."""
    columns = input_columns(recipe, dataset)
    needed = dict.fromkeys([*(name for group in columns.values() for name in group), *recipe.target.all_columns, "patient_id", "case_id"])
    table = dataset.table(list(needed))
    preparations = fit(recipe.inputs, columns, table.take(rows["train"]))
    coder = coder_of(recipe.target)
    parts = {}
    for part, places in rows.items():
        chosen = table.take(places)
        prepared = preparations.transform(chosen)
        bad = preparations.row_errors(prepared)
        keep = np.setdiff1d(np.arange(len(places)), np.fromiter(bad, dtype=np.int64, count=len(bad)))
        if bad:
            log(f"{part}: {len(bad):,} cases cannot be read and are left out: {_reasons(bad)}")
        patients = np.asarray(chosen.column("patient_id").to_pylist(), dtype=object)
        cases = np.asarray(chosen.column("case_id").to_pylist(), dtype=object)
        patients = np.where(patients == None, cases, patients)[keep]  # noqa: E711  (elementwise)
        usable = {name: select(one, keep) for name, one in prepared.items()}
        labels = coder.encode(chosen).take(keep)
        if coder.kind == "tags":
            labels = _tags(recipe, part, usable, chosen.take(keep), log)
        parts[part] = PartData(usable, labels, np.asarray(places)[keep], patients)
    head = _head(coder, parts["train"].labels)
    if coder.kind == "tags":
        head["tokens"] = preparations.inputs[0].spec()["tokens"]
    return Material(head, columns, preparations, parts)


def _tags(recipe: Recipe, part: str, prepared: Mapping[str, Prepared], table: pa.Table, log: Log) -> Labels:
    """A tag for every word, of the entities that lie at places of the text."""
    (words,) = prepared.values()
    spans = spans_of(table.column(str(recipe.target.column)), recipe.target.classes)
    values, known, widened, overlapping = label_arrays(words, spans, tuple(recipe.target.classes))
    if widened or overlapping:
        log(f"{part}: {widened:,} entities were brought to whole words, {overlapping:,} left out because a longer one overlaps them")
    return Labels(values, known)


def together(material: Material, *names: str) -> PartData:
    """Several parts as one, in the order of the dataset; nothing is prepared again."""
    parts = [material.parts[name] for name in names]
    rows = np.concatenate([one.rows for one in parts])
    order = np.argsort(rows, kind="stable")
    prepared = {
        name: Prepared(
            {key: np.concatenate([one.prepared[name].arrays[key] for one in parts])[order] for key in first.arrays},
            np.concatenate([one.prepared[name].present for one in parts])[order],
            aside={key: np.concatenate([one.prepared[name].aside[key] for one in parts])[order] for key in first.aside},
        )
        for name, first in parts[0].prepared.items()
    }
    values = np.concatenate([one.labels.values for one in parts])[order]
    known = np.concatenate([one.labels.known for one in parts])[order]
    return PartData(prepared, Labels(values, known), rows[order], np.concatenate([one.patients for one in parts])[order])


def for_target(recipe: Recipe, material: Material) -> Material:
    """What the models of one of several targets learn from: its own labels, and the cases that have one."""
    if not recipe.part:
        return material
    coder, parts = coder_of(recipe.whole.target), {}
    for part, one in material.parts.items():
        labels = next(own for name, _, own in questions(coder, one.labels) if name == recipe.part)
        keep = np.flatnonzero(labels.labelled)
        whole = len(keep) == len(one.rows)  # pictures are large: not copied where nothing is left out
        prepared = one.prepared if whole else {name: select(arrays, keep) for name, arrays in one.prepared.items()}
        parts[part] = PartData(prepared, labels.take(keep), one.rows[keep], one.patients[keep])
    return Material(material.head["of"][recipe.part], material.columns, material.preparations, parts)


def _head(coder: TargetCoder, labels: Labels) -> dict[str, Any]:
    """The page of the head; a regression is trained on the scale of train's answers."""
    if coder.kind == "several":
        return {"kind": "several", "classes": [], "of": {name: _head(one, own) for name, one, own in questions(coder, labels)}}
    page: dict[str, Any] = {"kind": coder.kind, "classes": list(coder.classes)}
    if coder.kind == "regression":
        known = labels.values[labels.known]
        deviation = float(known.std()) if len(known) else 0.0
        if not deviation:
            raise DataError("the target does not vary in train", "target", "look at its column")
        page |= {"mean": float(known.mean()), "std": deviation}
    return page


def _reasons(bad: Mapping[int, str]) -> str:
    reasons = sorted(set(bad.values()))
    return ", ".join(f"{reason} {sum(one == reason for one in bad.values()):,}" for reason in reasons)


def about_of(recipe: Recipe, model: str, fingerprint: str, dataset: Dataset, split: Split, material: Material) -> dict[str, Any]:
    """What a bundle's page says about how it was made."""
    return {
        "fingerprint": fingerprint,
        "role": "network" if model == recipe.model.name else "baseline",
        "recipe": recipe.name,
        "dataset": dataset.digest,
        "split": split.meta["parquet"],
        "cases": {part: len(one.rows) for part, one in material.parts.items()},
        "prevalence": prevalence(material.head, material.parts["train"].labels),
    }


def prevalence(head: Mapping[str, Any], labels: Labels) -> list[float]:
    """Share of each class (multilabel: of each label; binary: of the positive class) among the labelled cases; regression: the mean;
    tags: share of the cases that name one."""
    if head["kind"] in ("multiclass", "ordinal"):
        return [float(np.mean(labels.values[labels.known] == number)) for number in range(len(head["classes"]))]
    if head["kind"] == "tags":
        return [float((labels.values == 1 + 2 * number).any(axis=1).mean()) for number in range(len(head["classes"]))]
    values, known = np.atleast_2d(labels.values.T), np.atleast_2d(labels.known.T)
    return [float(value[mask].mean()) for value, mask in zip(values, known, strict=True)]

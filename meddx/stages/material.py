"""Dataset and row numbers in, what models learn from out: prepared arrays and labels of each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from meddx.dataset.columns import resolve_columns
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import Labels, TargetCoder
from meddx.errors import DataError
from meddx.inputs.prepare import Preparations, fit
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
    coder = TargetCoder(recipe.target)
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
        parts[part] = PartData(usable, coder.encode(chosen).take(keep), np.asarray(places)[keep], patients)
    return Material(_head(coder, parts["train"].labels), columns, preparations, parts)


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


def _head(coder: TargetCoder, labels: Labels) -> dict[str, Any]:
    """The page of the head; a regression is trained on the scale of train's answers."""
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
    """Share of each class (multilabel: of each label; binary: of the positive class) among the labelled cases; regression: the mean."""
    if head["kind"] in ("multiclass", "ordinal"):
        return [float(np.mean(labels.values[labels.known] == number)) for number in range(len(head["classes"]))]
    values, known = np.atleast_2d(labels.values.T), np.atleast_2d(labels.known.T)
    return [float(value[mask].mean()) for value, mask in zip(values, known, strict=True)]

"""Dataset and split in, what models learn from out: prepared arrays and labels of train, validate and calibrate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from meddx.dataset.checks import resolve_columns
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import Labels, TargetCoder
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
    """What every model of a page learns from; `columns` are the dataset columns of each input."""

    head: dict[str, Any]
    columns: dict[str, list[str]]
    preparations: Preparations
    parts: dict[str, PartData]


def input_columns(recipe: Recipe, dataset: Dataset) -> dict[str, list[str]]:
    """The dataset columns behind each input of the page."""
    return resolve_columns(recipe.inputs, dataset.schema, timing=recipe.timing, never=recipe.never_inputs)


def gather(recipe: Recipe, dataset: Dataset, split: Split, *, log: Log) -> Material:
    """Prepare what may be learned from.  Everything is fitted on train only; the test part is not touched."""
    columns = input_columns(recipe, dataset)
    needed = list(
        dict.fromkeys([name for group in columns.values() for name in group] + list(recipe.target.all_columns) + ["patient_id", "case_id"])
    )
    table = dataset.table(needed)
    rows = {part: split.rows(part) for part in LEARN}
    preparations = fit(recipe.inputs, columns, table.take(rows["train"]))
    coder = TargetCoder(recipe.target)
    parts = {}
    for part in LEARN:
        chosen = table.take(rows[part])
        prepared = preparations.transform(chosen)
        bad = preparations.row_errors(prepared)
        keep = np.setdiff1d(np.arange(len(rows[part])), np.fromiter(bad, dtype=np.int64, count=len(bad)))
        if bad:
            log(f"{part}: {len(bad):,} cases cannot be read and are left out of training: {_reasons(bad)}")
        patients = np.asarray(chosen.column("patient_id").to_pylist(), dtype=object)
        cases = np.asarray(chosen.column("case_id").to_pylist(), dtype=object)
        patients = np.where(patients == None, cases, patients)[keep]  # noqa: E711  (elementwise)
        parts[part] = PartData(
            {name: select(one, keep) for name, one in prepared.items()}, coder.encode(chosen).take(keep), rows[part][keep], patients
        )
    return Material({"kind": coder.kind, "classes": list(coder.classes)}, columns, preparations, parts)


def _reasons(bad: Mapping[int, str]) -> str:
    reasons = sorted(set(bad.values()))
    return ", ".join(f"{reason} {sum(one == reason for one in bad.values()):,}" for reason in reasons)

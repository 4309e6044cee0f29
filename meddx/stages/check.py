"""Recipe in, a look before training out: ten cases as the model will see them, and the counts of each part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS
from meddx.dataset.split import Split
from meddx.dataset.target import TargetCoder
from meddx.inputs.prepare import fit
from meddx.inputs.types import Prepared
from meddx.recipe import Recipe
from meddx.stages.ingest import ingest
from meddx.stages.material import input_columns
from meddx.stages.run import Log, Run

SHOWN = 10
WIDTH = 12


def check(recipe: Recipe, *, log: Log) -> None:
    """Ingest and split where that was not done yet, then print.  Nothing is trained and no test label is looked at."""
    dataset = ingest(recipe, log=log)
    split = Run(recipe).open_split(dataset)
    for message in split.messages:
        log(message)
    for line in part_lines(recipe, dataset, split):
        log(line)
    columns = input_columns(recipe, dataset)
    needed = list(dict.fromkeys([name for group in columns.values() for name in group] + list(recipe.target.all_columns)))
    table = dataset.table(needed)
    train = table.take(split.rows("train"))
    preparations = fit(recipe.inputs, columns, train)
    sample = train.slice(0, SHOWN)
    log(f"\n{sample.num_rows} cases of train, as the model will see them")
    for name, prepared in preparations.transform(sample).items():
        spec = preparations.specs()[name]
        shown = _table_lines(name, spec, prepared, sample) if spec["kind"] == "table" else _image_lines(name, spec, prepared)
        for line in shown:
            log(line)
    for column in recipe.target.all_columns:
        log(_row(f"target {column}", "", ["" if value is None else str(value) for value in sample.column(column).to_pylist()]))


def part_lines(recipe: Recipe, dataset: Dataset, split: Split) -> list[str]:
    """One line a part: cases, patients, labels.  Of the test part only the number of cases is told."""
    coder = TargetCoder(recipe.target)
    table = dataset.table(list(dict.fromkeys(["patient_id", *recipe.target.all_columns])))
    lines = [f"{'part':<10} {'cases':>9} {'unlabelled':>11} {'patients':>9}   outcome among the labelled"]
    for part in PARTS:
        everyone, labelled = split.rows(part, labelled=False), split.rows(part)
        patients = len(set(table.column("patient_id").take(pa.array(everyone)).to_pylist()) - {None}) or "?"
        seen = "sealed until compare" if part == "test" else _outcome(coder, table.take(labelled))
        lines.append(f"{part:<10} {len(everyone):>9,} {len(everyone) - len(labelled):>11,} {patients:>9}   {seen}")
    for other in ("outside", "dropped"):
        number = len(split.rows(other, labelled=False))
        if number:
            lines.append(f"{other:<10} {number:>9,}")
    return lines


def _outcome(coder: TargetCoder, table: pa.Table) -> str:
    labels = coder.encode(table)
    if coder.kind == "multiclass":
        counts = np.bincount(labels.values[labels.known], minlength=len(coder.classes))
        return ", ".join(f"{name} {count:,}" for name, count in zip(coder.classes, counts, strict=True))
    values, known = np.atleast_2d(labels.values.T), np.atleast_2d(labels.known.T)
    names = coder.classes if coder.kind == "multilabel" else coder.classes[1:]
    return ", ".join(
        f"{name} {int(value[mask].sum()):,} ({value[mask].mean():.1%})"
        for name, value, mask in zip(names, values, known, strict=True)
        if mask.any()
    )


def _table_lines(name: str, spec: dict[str, Any], prepared: Prepared, sample: pa.Table) -> list[str]:
    numbers, categories = spec["names"], spec["category_names"]
    lines = [f"input {name}: {len(numbers)} numbers, {len(categories)} categories"]
    for position, column in enumerate(numbers):
        missing = prepared.arrays["missing"][:, position] > 0
        raw = sample.column(column).to_pylist()
        lines.append(_row(column, "number", ["(missing)" if gone else f"{value:.6g}" for value, gone in zip(raw, missing, strict=True)]))
    for position, column in enumerate(categories):
        codes = prepared.arrays["codes"][:, position]
        raw = sample.column(column).to_pylist()
        shown = [{0: "(missing)", 1: "(other)"}.get(int(code), str(value)) for code, value in zip(codes, raw, strict=True)]
        lines.append(_row(column, f"of {spec['categories'][position] - 2}", shown))
    return lines


def _image_lines(name: str, spec: dict[str, Any], prepared: Prepared) -> list[str]:
    pixels = prepared.arrays["pixels"]
    lines = [f"input {name}: pictures of {spec['size']} x {spec['size']} pixels, {spec['channels']} channel(s), {pixels.dtype}"]
    for what, numbers in (("darkest", pixels.min((1, 2, 3))), ("mean", pixels.mean((1, 2, 3))), ("brightest", pixels.max((1, 2, 3)))):
        lines.append(
            _row(what, "", [f"{number:.0f}" if there else "(none)" for number, there in zip(numbers, prepared.present, strict=True)])
        )
    for row, reason in prepared.errors.items():
        lines.append(f"  case {row + 1} cannot be read: {reason}")
    return lines


def _row(label: str, kind: str, values: list[str]) -> str:
    cells = [value if len(value) <= WIDTH else value[: WIDTH - 1] + "~" for value in values]
    return f"  {label[:28]:<28} {kind:<8}" + "".join(f" {cell:>{WIDTH}}" for cell in cells)

"""Recipe in, a look before training out: ten cases as the model will see them, and the counts of each part."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS
from meddx.dataset.several import coder_of, questions
from meddx.dataset.split import Split
from meddx.dataset.target import Labels, TargetCoder
from meddx.inputs.prepare import fit
from meddx.recipe import Recipe
from meddx.stages.ingest import ingest
from meddx.stages.material import input_columns
from meddx.stages.run import Log, Run
from meddx.stages.show import lines_of, row

SHOWN = 10


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
        for line in lines_of(name, recipe.inputs[name], spec, prepared, sample):
            log(line)
    for column in recipe.target.all_columns:
        log(row(f"target {column}", "", ["" if value is None else str(value) for value in sample.column(column).to_pylist()]))


def part_lines(recipe: Recipe, dataset: Dataset, split: Split) -> list[str]:
    """One line a part: cases, patients, labels.  Of the test part only the number of cases is told."""
    coder = coder_of(recipe.target)
    table = dataset.table(list(dict.fromkeys(["patient_id", *recipe.target.all_columns])))
    lines = [f"{'part':<10} {'cases':>9} {'unlabelled':>11} {'patients':>9}   outcome among the labelled"]
    for part in PARTS if split.folds is None else ("train",):
        everyone, labelled = split.rows(part, labelled=False), split.rows(part)
        patients = len(set(table.column("patient_id").take(pa.array(everyone)).to_pylist()) - {None}) or "?"
        seen = "sealed until compare" if part == "test" else _outcome(coder, table.take(labelled))
        lines.append(f"{part:<10} {len(everyone):>9,} {len(everyone) - len(labelled):>11,} {patients:>9}   {seen}")
    if split.folds is not None:
        sizes = np.bincount(split.folds[split.folds[:, 0] >= 0, 0])
        lines.append(f"folds: {len(sizes)}, {split.folds.shape[1]} time(s), of {', '.join(f'{size:,}' for size in sizes)} cases")
    for other in ("outside", "dropped"):
        number = len(split.rows(other, labelled=False))
        if number:
            lines.append(f"{other:<10} {number:>9,}")
    return lines


def _outcome(coder: TargetCoder, table: pa.Table) -> str:
    asked = questions(coder, coder.encode(table))
    return "; ".join(f"{name}: {_counts(one, own)}" if name else _counts(one, own) for name, one, own in asked)


def _counts(coder: TargetCoder, labels: Labels) -> str:
    if coder.kind == "regression":
        known = labels.values[labels.known]
        return f"mean {known.mean():.4g}, deviation {known.std():.4g}" if len(known) else "none"
    if coder.kind in ("multiclass", "ordinal"):
        counts = np.bincount(labels.values[labels.known], minlength=len(coder.classes))
        return ", ".join(f"{name} {count:,}" for name, count in zip(coder.classes, counts, strict=True))
    if coder.kind == "tags":
        return f"{int(labels.values[labels.known].sum()):,} entities"
    values, known = np.atleast_2d(labels.values.T), np.atleast_2d(labels.known.T)
    names = coder.classes if coder.kind == "multilabel" else coder.classes[1:]
    return ", ".join(
        f"{name} {int(value[mask].sum()):,} ({value[mask].mean():.1%})"
        for name, value, mask in zip(names, values, known, strict=True)
        if mask.any()
    )

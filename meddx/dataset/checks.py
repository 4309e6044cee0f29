"""Parts, labels and input columns in, refusals and messages out: what must hold before a model may see the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meddx.dataset.assign import Assigned
from meddx.dataset.columns import match, need_match, table_columns
from meddx.dataset.copies import copies_across_parts
from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS, TimingOptions
from meddx.dataset.screen import judge, screen
from meddx.dataset.target import Labels, TargetCoder
from meddx.dataset.values import kind_of, need_columns
from meddx.errors import DataError, LeakError, RecipeError
from meddx.inputs.options import InputOptions, TableInput

__all__ = ["exact_copies", "parts_usable", "patients_across_parts", "resolve_columns", "screen", "screen_train"]


def resolve_columns(
    inputs: Mapping[str, InputOptions], schema: Any, *, timing: TimingOptions, never: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Input name -> its columns.  LeakError for a column declared after_outcome, RecipeError for a name or pattern that matches nothing."""
    names = list(schema.names)
    need_match(timing.after_outcome, names, "timing.after_outcome")
    need_match(timing.known_at, names, "timing.known_at")
    found: dict[str, list[str]] = {}
    for key, one in inputs.items():
        if isinstance(one, TableInput):
            found[key] = table_columns(one, schema, after_outcome=timing.after_outcome, never=never)
            continue
        need_columns([one.column], names, f"inputs.{key}.column")
        if kind_of(schema.field(one.column).type) != "binary":
            raise RecipeError(f"{one.column!r} does not hold pictures", f"inputs.{key}.column", "name the column with the encoded pictures")
        if match(timing.after_outcome, [one.column]):
            raise LeakError(f"the input is {one.column!r}, which the page declares as written after the outcome", f"inputs.{key}.column")
        found[key] = [one.column]
    return found


def dates_left_out(inputs: Mapping[str, InputOptions], columns: Mapping[str, Sequence[str]], schema: Any) -> list[str]:
    """A message naming the date columns that no table input took, for patterns do not reach them."""
    if not any(isinstance(one, TableInput) for one in inputs.values()):
        return []
    used = {name for found in columns.values() for name in found} | {"predict_at"}
    left = [field.name for field in schema if kind_of(field.type) == "time" and field.name not in used]
    return [f"dates are inputs only where the page names them; left out: {', '.join(left[:10])}"] if left else []


def patients_across_parts(parts: np.ndarray, patients: np.ndarray, *, by: str = "column") -> None:
    """LeakError when a patient (number, int64 [n]) has cases in more than one part (object [n]); cases outside or dropped do not count."""
    inside = np.flatnonzero(np.isin(parts, np.array(PARTS, dtype=object)))
    numbers = np.array([PARTS.index(part) for part in parts[inside]], dtype=np.int64)
    seen = np.zeros((int(patients.max(initial=-1)) + 1, len(PARTS)), dtype=bool)
    seen[patients[inside], numbers] = True
    crossing = seen.sum(axis=1) > 1
    if not crossing.any():
        return
    test = inside[numbers == PARTS.index("test")]
    hit = int(crossing[patients[test]].sum())
    share = f" ({hit / len(test):.1%})" if len(test) else ""
    raise LeakError(
        f"{int(crossing.sum())} patients have cases in more than one part; "
        f"{hit} of {len(test)} test cases{share} belong to a patient whom training, tuning or calibration has seen",
        f"split by {by}",
        "split: {by: patient} keeps a patient's cases together",
    )


def exact_copies(
    dataset: Dataset, columns: Mapping[str, Sequence[str]], inputs: Mapping[str, InputOptions], parts: np.ndarray, labelled: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """(positions to drop, messages).  Only labelled cases of a part take part; what a copy is stands in `copies`.

    A copy between test and another part: LeakError.  Between train, validate and calibrate the case of the earlier part is dropped.
    """
    tables = sorted({name for key, found in columns.items() if isinstance(inputs[key], TableInput) for name in found})
    pictures = sorted({name for key, found in columns.items() if not isinstance(inputs[key], TableInput) for name in found})
    eligible = labelled & np.isin(parts, np.array(PARTS, dtype=object))
    groups = copies_across_parts(dataset, tables, pictures, parts, eligible)
    in_test = [int((parts[group] == "test").sum()) for group in groups]
    if any(in_test):
        hit, total = sum(in_test), int(((parts == "test") & eligible).sum())
        others = {str(part) for group, count in zip(groups, in_test, strict=True) if count for part in parts[group]} - {"test"}
        raise LeakError(
            f"{hit} of {total} labelled test cases ({hit / total:.1%}) are exact copies of cases in "
            f"{', '.join(sorted(others, key=_order))}",
            str(dataset.path),
            "take the copies out of the archive, or give a case and its copy one patient and split by patient",
        )
    drop: list[int] = []
    for group in groups:
        last = max(_order(str(part)) for part in parts[group])
        drop += [int(row) for row in group if _order(str(parts[row])) < last]
    counts = {part: sum(1 for row in drop if parts[row] == part) for part in PARTS}
    messages = [f"{count} {part} cases dropped: exact copies of cases in a later part" for part, count in counts.items() if count]
    return np.array(sorted(drop), dtype=np.int64), messages


def _order(part: str) -> int:
    return [*PARTS].index(part)  # type: ignore[arg-type]


def parts_usable(counts: Mapping[str, Any], labels: Labels, parts: np.ndarray, coder: TargetCoder) -> list[str]:
    """Messages; DataError for a part without labelled cases, and for a binary train, calibrate or test with one class only."""
    table = "; ".join(f"{part} {counts[part]['labelled']} labelled of {counts[part]['cases']}" for part in PARTS)
    step = "give the part more cases (split.parts, split.carve), or look at the cohort's filters"
    for part in PARTS:
        if not counts[part]["labelled"]:
            raise DataError(f"the part {part} has no labelled case ({table})", "split", step)
    messages = []
    if coder.kind == "binary":
        for part in PARTS:
            positive, labelled = counts[part]["positive"], counts[part]["labelled"]
            if positive in (0, labelled):
                what = f"the part {part} has one class only: {positive} of {labelled} labelled cases are {coder.classes[1]!r}"
                if part != "validate":
                    raise DataError(what, "split", step)
                messages.append(what)
        return messages
    train = labels.take(parts == "train")
    for number, name in enumerate(coder.classes):
        known = train.known if coder.kind == "multiclass" else train.known[:, number]
        hits = train.values[known] == number if coder.kind == "multiclass" else train.values[known, number] > 0
        if not hits.any():
            messages.append(f"train has no labelled case of {name!r}: the model cannot learn it")
    return messages


def screen_train(
    dataset: Dataset,
    columns: Mapping[str, list[str]],
    inputs: Mapping[str, InputOptions],
    timing: TimingOptions,
    made: Assigned,
    labels: Labels,
    kind: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The single-column screen of every table column on the labelled train cases; `screen` has the number, `judge` what is refused."""
    names = sorted({name for key, found in columns.items() if isinstance(inputs[key], TableInput) for name in found})
    if not names:
        return [], []
    rows = np.flatnonzero((made.parts == "train") & labels.labelled)
    table = dataset.table(names).take(rows)
    found = screen(((name, table.column(name)) for name in names), labels.take(rows), kind, made.folds[rows])
    if not found:
        return [], ["too few labelled train cases for the single-column screen"]
    return judge(found, inputs, columns, timing)

"""Parts, labels and input columns in, refusals and messages out: what must hold before a model may see the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meddx.dataset.assign import Assigned
from meddx.dataset.columns import resolve_columns
from meddx.dataset.copies import copies_across_parts
from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS, TimingOptions
from meddx.dataset.screen import Screened, judge, screen
from meddx.dataset.target import Labels, TargetCoder
from meddx.dataset.values import kind_of
from meddx.errors import DataError, LeakError
from meddx.inputs.options import InputOptions, TableInput

__all__ = ["exact_copies", "parts_usable", "patients_across_parts", "resolve_columns", "screen", "screen_train"]


def dates_left_out(inputs: Mapping[str, InputOptions], columns: Mapping[str, Sequence[str]], schema: Any) -> list[str]:
    """A message naming the date columns that no table input took, for patterns do not reach them."""
    if not any(isinstance(one, TableInput) for one in inputs.values()):
        return []
    used = {name for found in columns.values() for name in found} | {"predict_at"}
    left = [field.name for field in schema if kind_of(field.type) == "time" and field.name not in used]
    return [f"dates are inputs only where the page names them; left out: {', '.join(left[:10])}"] if left else []


def flat_tables(columns: Mapping[str, Sequence[str]], inputs: Mapping[str, InputOptions], schema: Any) -> list[str]:
    """The columns of table inputs that hold one value a case: not those of joined sources."""
    found = {name for key, names in columns.items() if isinstance(inputs[key], TableInput) for name in names}
    return sorted(name for name in found if kind_of(schema.field(name).type) != "other")


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
    eligible = labelled & np.isin(parts, np.array(PARTS, dtype=object))
    groups = _groups_of_copies(dataset, columns, inputs, parts, eligible)
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


def copies_of_others(
    dataset: Dataset, columns: Mapping[str, Sequence[str]], inputs: Mapping[str, InputOptions], made: Assigned, labelled: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """(positions to drop, messages) for folds: of copies under several patients one is kept, for any two folds may come to meet."""
    groups = _groups_of_copies(dataset, columns, inputs, made.patients, labelled & (made.parts == "train"))
    drop = np.array(sorted(int(row) for group in groups for row in group[1:]), dtype=np.int64)
    return drop, [f"{len(drop)} cases dropped: exact copies of another patient's case"] if len(drop) else []


def _groups_of_copies(
    dataset: Dataset, columns: Mapping[str, Sequence[str]], inputs: Mapping[str, InputOptions], parts: np.ndarray, eligible: np.ndarray
) -> list[np.ndarray]:
    tables = flat_tables(columns, inputs, dataset.schema)
    bodies = sorted({name for key, found in columns.items() if not isinstance(inputs[key], TableInput) for name in found})
    joined = sorted({name for found in columns.values() for name in found} - {*tables, *bodies})
    return copies_across_parts(dataset, tables, bodies, parts, eligible, joined=joined)


def _order(part: str) -> int:
    return [*PARTS].index(part)  # type: ignore[arg-type]


def folds_usable(labels: Labels, turns: np.ndarray, coder: TargetCoder) -> list[str]:
    """Messages; DataError for a fold without labelled cases, and for a binary one with a single class."""
    for repeat in turns.T:
        for fold in sorted(set(repeat.tolist()) - {-1}):
            inside = (repeat == fold) & labels.labelled
            if not inside.any() or (coder.kind == "binary" and len(np.unique(labels.values[inside])) < 2):
                raise DataError("a fold has no labelled case, or one class only", "split.folds", "ask for fewer folds")
    return _never_seen(labels.take(np.any(turns >= 0, axis=1)), coder)


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
    return _never_seen(labels.take(parts == "train"), coder)


def _never_seen(train: Labels, coder: TargetCoder) -> list[str]:
    messages: list[str] = []
    if coder.kind == "binary":
        return messages
    if coder.kind == "tags":
        return [] if train.values[train.known].any() else ["train has no case with an entity: the model cannot learn any"]
    for number, name in enumerate(coder.classes):
        several = coder.kind == "multilabel"
        known = train.known[:, number] if several else train.known
        hits = train.values[known, number] > 0 if several else train.values[known] == number
        if not hits.any():
            messages.append(f"train has no labelled case of {name!r}: the model cannot learn it")
    return messages


def screen_train(
    dataset: Dataset,
    columns: Mapping[str, list[str]],
    inputs: Mapping[str, InputOptions],
    timing: TimingOptions,
    made: Assigned,
    asked: Sequence[tuple[str, TargetCoder, Labels]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """The single-column screen of every table column on the labelled train cases; `screen` has the number, `judge` what is refused.

    `asked`: (name, coder, labels) of each target; of several a column counts by the one that it knows best.
    """
    names = flat_tables(columns, inputs, dataset.schema)
    if not names:
        return [], []
    best: dict[str, Screened] = {}
    table = dataset.table(names)
    for _, coder, labels in asked:
        rows = np.flatnonzero((made.parts == "train") & labels.labelled)
        some = table.take(rows)
        for one in screen(((name, some.column(name)) for name in names), labels.take(rows), coder.kind, made.folds[rows]):
            if one.column not in best or one.height > best[one.column].height:
                best[one.column] = one
    found = sorted(best.values(), key=lambda one: (-one.height, one.column))
    if not found:
        return [], ["too few labelled train cases for the single-column screen"]
    return judge(found, inputs, columns, timing)

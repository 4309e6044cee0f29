"""Table, cohort and labels in, the part of every case out: the four ways to split, parts carved out of parts, and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from meddx.dataset import folds as folding
from meddx.dataset import parting
from meddx.dataset.cohort import instant
from meddx.dataset.options import PARTS, SplitOptions
from meddx.dataset.target import Labels
from meddx.dataset.values import coded, flat, missing, texts
from meddx.errors import DataError, RecipeError
from meddx.ingest.options import CaseOptions


@dataclass
class Assigned:
    """`case_ids`, `parts`: object [n]; `patients`: int64 [n], number of the patient; `folds`: int64 [n], 0 to 4, by patient (the screen's).

    `keys` [p] and `strata` [p] of the patients; `turns`: int64 [n, repeats], the page's own folds, -1 outside; None without.
    """

    case_ids: np.ndarray
    parts: np.ndarray
    patients: np.ndarray
    folds: np.ndarray
    keys: np.ndarray
    strata: np.ndarray
    turns: np.ndarray | None = None
    messages: list[str] = field(default_factory=list)


def assign(
    table: pa.Table,
    inside: np.ndarray,
    labels: Labels,
    kind: str,
    *,
    case: CaseOptions,
    split: SplitOptions,
    horizon: timedelta | None = None,
) -> Assigned:
    """A part for every case; those outside the cohort are `outside`.  `horizon`: by time, how long before the next part a part ends.

    Raises DataError for values that belong to no part (named) or are missing, RecipeError for a page that contradicts itself.
    """
    case_ids = texts(table.column("case_id"))
    keys, patients = parting.group(parting.patient_keys(texts(table.column("patient_id")), case_ids))
    rank = parting.hash_order(keys, split.seed)
    case_order = parting.hash_order(case_ids, split.seed) if kind in ("multiclass", "ordinal", "regression") else np.arange(len(case_ids))
    strata = parting.patient_strata(patients[inside], len(keys), labels.take(inside), kind, case_order[inside])
    folds = parting.hash_order(keys, split.seed, "folds")[patients] % 5
    made = Assigned(case_ids, np.full(len(case_ids), "outside", dtype=object), patients, folds, keys, strata)
    rows = np.flatnonzero(inside)
    if split.folds is not None:
        _to_folds(made, rows, table, case, split)
        return made
    if split.by == "patient":
        _by_patient(made, rows, strata, rank, split)
    elif split.by == "time":
        _by_time(made, rows, table, case, split, horizon)
    else:
        column = str(split_column(case, split))
        made.parts[rows] = _by_value(table.column(column).take(pa.array(rows)), column, split)
    _carve(made, strata, keys, split)
    return made


def split_column(case: CaseOptions, split: SplitOptions) -> str | None:
    """The dataset's name of the column that parts the cases, None by patient; id and patient have other names there than in the archive."""
    named = {"column": split.column, "site": case.site, "time": "predict_at"}.get(split.by)
    patient = case.patient if isinstance(case.patient, str) else None
    return {case.id: "case_id", patient: "patient_id"}.get(named, named) if named else None


def _to_folds(made: Assigned, rows: np.ndarray, table: pa.Table, case: CaseOptions, split: SplitOptions) -> None:
    """Every case of the cohort is `train`, for the bundle learns from all of them; what it is worth is measured fold by fold."""
    made.parts[rows] = "train"
    if isinstance(split.folds, int):
        made.turns = folding.deal(made.keys, made.patients, made.strata, rows, split)
    else:
        column = str(split_column(case, split))
        values = texts(table.column(column).take(pa.array(rows)))
        made.turns = folding.written_out(values, rows, len(made.parts), split)
    folding.patients_across_folds(made.turns, made.patients)


def _by_patient(made: Assigned, rows: np.ndarray, strata: np.ndarray, rank: np.ndarray, split: SplitOptions) -> None:
    parts = [part for part in PARTS if part in split.parts]
    who = np.unique(made.patients[rows])  # patients with a case in the cohort
    place = np.zeros(len(strata), dtype=np.int64)
    place[who] = parting.cut(strata[who], rank[who], [float(str(split.parts[part])) for part in parts])
    made.parts[rows] = np.array(parts, dtype=object)[place[made.patients[rows]]]


def _values(split: SplitOptions, part: str) -> tuple[str, ...]:
    values = split.parts[part]  # type: ignore[index]
    return values if isinstance(values, tuple) else (str(values),)


def _by_value(column: Any, name: str, split: SplitOptions) -> np.ndarray:
    part_of: dict[str, str] = {}
    for part in split.parts:
        for value in _values(split, part):
            if value in part_of:
                raise RecipeError(f"the value {value!r} is given to {part_of[value]} and to {part}", "split.parts", "give it to one part")
            part_of[value] = part
    codes, levels = coded(column)
    if (codes < 0).any():
        raise DataError(
            f"{int((codes < 0).sum())} cases have no value in {name!r}, so they belong to no part",
            f"column {name}",
            f'leave them out: cohort: {{leave_out: {{no_part: "{name} is missing"}}}}',
        )
    counts = np.bincount(codes, minlength=len(levels))
    strange = [position for position, level in enumerate(levels) if level not in part_of]
    if strange:
        shown = ", ".join(f"{levels[p][:40]!r} ({int(counts[p])} cases)" for p in sorted(strange, key=lambda p: -int(counts[p]))[:5])
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise DataError(
            f"values of {name!r} belong to no part: {shown}{more}",
            f"column {name}",
            "list them in split.parts, or leave the cases out by a cohort filter",
        )
    result: np.ndarray = np.array([part_of[level] for level in levels] or [""], dtype=object)[codes]
    return result


def _by_time(made: Assigned, rows: np.ndarray, table: pa.Table, case: CaseOptions, split: SplitOptions, horizon: timedelta | None) -> None:
    """By predict_at.  A patient with cases in several parts keeps those of the latest; the earlier ones are `dropped`, so nothing leaks."""
    starts: dict[str, np.datetime64] = {part: _start(split, part, case.zone) for part in split.parts}
    if len(set(starts.values())) < len(starts):
        raise RecipeError("two parts begin at the same instant", "split.parts", "give each part its own first instant")
    column = table.column("predict_at").take(pa.array(rows))
    gone = int(missing(column).sum())
    if gone:
        raise DataError(
            f"{gone} cases have no predict_at, so they belong to no part",
            "predict_at",
            'leave them out: cohort: {leave_out: {undated: "predict_at is missing"}}',
        )
    stamps = flat(column.cast(pa.timestamp("us"))).to_numpy(zero_copy_only=False)
    found = parting.by_instant(stamps, starts)
    found[_in_the_gap(stamps, starts, horizon)] = None
    order = sorted(starts, key=lambda part: starts[part])
    position = np.array([order.index(part) if part is not None else -1 for part in found], dtype=np.int64)
    latest = parting.latest_part(made.patients[rows], int(made.patients.max(initial=-1)) + 1, position)
    early, straddling = position < 0, (position >= 0) & (position < latest[made.patients[rows]])
    found[early | straddling] = "dropped"
    made.parts[rows] = found
    before = stamps < min(starts.values())
    if before.any():
        made.messages.append(f"{int(before.sum())} cases lie before the first part begins: dropped")
    if (early & ~before).any():
        made.messages.append(f"{int((early & ~before).sum())} cases dropped: their horizon reaches into the next part")
    if straddling.any():
        made.messages.append(f"{int(straddling.sum())} cases dropped: their patients come again in a later part")


def _in_the_gap(stamps: np.ndarray, starts: Mapping[str, np.datetime64], horizon: timedelta | None) -> np.ndarray:
    """bool [n]: decided so shortly before a part begins that the outcome falls into it."""
    gap = np.zeros(len(stamps), dtype=bool)
    for start in starts.values():
        gap |= (stamps < start) & (stamps + np.timedelta64(horizon or timedelta(0)) > start)
    return gap


def _start(split: SplitOptions, part: str, zone: str | None) -> np.datetime64:
    values = _values(split, part)
    if len(values) != 1:
        raise RecipeError("by time: each part names one instant, its first", f"split.parts.{part}", "for example train: 2015-01-01")
    text = values[0]
    moment = instant(text, f"split.parts.{part}")
    if zone and "+" not in text and not text.endswith("Z") and "-" not in text[10:]:
        moment = instant(moment.replace(tzinfo=ZoneInfo(zone)).isoformat(), "split.parts")
    return np.datetime64(moment, "us")


def _carve(made: Assigned, strata: np.ndarray, keys: np.ndarray, split: SplitOptions) -> None:
    """Cut parts out of their sources by patient; shares are of the source as `parts` gave it."""
    for source in dict.fromkeys(carve.source for carve in split.carve.values()):
        takers = [part for part in PARTS if part in split.carve and split.carve[part].source == source]
        shares = [split.carve[part].share for part in takers]
        rows = np.flatnonzero(made.parts == source)
        who = np.unique(made.patients[rows])
        rank = parting.hash_order(keys[who], split.seed, f"carve {source}")
        place = np.zeros(len(keys), dtype=np.int64)
        place[who] = parting.cut(strata[who], rank, [1 - sum(shares), *shares])
        made.parts[rows] = np.array([source, *takers], dtype=object)[place[made.patients[rows]]]

"""A finished comparison in, its page and record out: what the page says beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx import record
from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS
from meddx.dataset.split import Split
from meddx.report.about import About, Counts
from meddx.report.page import write_page
from meddx.stages.run import Run
from meddx.storage import StoragePath

if TYPE_CHECKING:
    from meddx.stages.judged import Judged


@dataclass(frozen=True)
class Told:
    """What every page tells: the run, its data and split, the question, how often held-back answers were looked at."""

    run: Run
    dataset: Dataset
    split: Split
    opened: int
    question: str
    recorder: record.Recorder


def about_page(told: Told, judged: Sequence[Judged], comparison: dict[str, Any]) -> StoragePath:
    """Write `report.html`, `comparison.json` and `record.json`; the page's path."""
    primary = next((one for one in judged if one.name == comparison["primary"]["model"]), judged[0])
    counts = _counts(told.dataset, told.split, primary.predictions)
    options = told.run.recipe.split
    how = f"by {options.by}{f' {options.column}' if options.column else ''}, seed {options.seed}"
    bundles = {one.name: one.digest for one in judged if not one.without}
    hidden = tuple(
        f"{one.name}: the same network and threshold, with {one.without} hidden from every case, calibrated for cases that lack it."
        for one in judged
        if one.without
    )
    told.recorder.counts = {"test": counts.parts["test"], "opened": told.opened, "read": counts.read}
    return _publish(told, comparison, bundles, counts, how, told.opened, hidden)


def about_folds(told: Told, bundles: Mapping[str, str], comparison: dict[str, Any]) -> StoragePath:
    """As `about_page`, for a page with folds: every labelled case was held out once a repeat, and no part is a test part.

    `bundles`: model to digest.
    """
    split, read, options = told.split, told.dataset.record["counts"], told.run.recipe.split
    held = len(split.rows("train"))
    counts = Counts(
        read=read["read"],
        quarantined_at_ingest=read["quarantined"],
        outside_cohort=len(split.rows("outside", labelled=False)),
        unlabelled=len(split.rows("train", labelled=False)) - held,
        parts={"folds": held},
        scored=int(comparison["cases"]["compared"]),
        missing_predictions=int(comparison["cases"]["left_out"]),
        dropped=len(split.rows("dropped", labelled=False)),
    )
    how = f"{comparison['folds']['folds']} folds by {options.by}, {options.repeats} time(s), seed {options.seed}"
    told.recorder.counts = {"held_out": held, "opened": told.opened, "read": counts.read}
    return _publish(told, comparison, bundles, counts, how, 0)


def _publish(
    told: Told,
    comparison: dict[str, Any],
    bundles: Mapping[str, str],
    counts: Counts,
    how: str,
    opened: int,
    notes: Sequence[str] = (),
) -> StoragePath:
    """The page with its record; `how`: how the cases were parted."""
    run, recorder = told.run, told.recorder
    about = About(
        title=run.recipe.name,
        question=tuple(line for line in told.question.splitlines() if line.strip()),
        fingerprint=recorder.fingerprint,
        dataset_digest=told.dataset.digest,
        bundles=bundles,
        versions=record.versions(),
        seconds=recorder.seconds,
        opened=opened,
        counts=counts,
        split=how,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*told.split.messages, *_patient_notes(run), *_model_notes(run), *notes),
        command=f"meddx compare <{run.recipe.name}.yaml>",
    )
    page = write_page(comparison, about, run.comparison)
    recorder.add_input("dataset", run.dataset, told.dataset.digest)
    for name, digest in bundles.items():
        recorder.add_input(f"bundle {name}", run.bundle(name), digest)
    recorder.write(run.comparison)
    return page


def _patient_notes(run: Run) -> list[str]:
    patient = run.recipe.case.patient
    if isinstance(patient, str):
        return []
    return [
        f"Which cases belong to one patient is not known ({patient.unknown}): intervals may be too narrow, and parts may share patients."
    ]


def _model_notes(run: Run) -> list[str]:
    model = run.recipe.model
    if model.beside is None:
        return []
    return [f"{model.name}: a network and a {model.beside.kind} model that answer together: the mean of their log-odds, then calibrated."]


def _counts(dataset: Dataset, split: Split, predictions: pa.Table) -> Counts:
    parts: dict[str, int] = {part: len(split.rows(part)) for part in PARTS}
    unlabelled = sum(len(split.rows(part, labelled=False)) - number for part, number in parts.items())
    ids = pa.array(split.case_ids[split.rows("test", labelled=False)], pa.string())
    places = pc.index_in(ids, value_set=pa.array(predictions.column("case_id").to_pylist(), pa.string()))
    status = np.asarray(predictions.column("status").take(places).to_pylist(), dtype=object)
    read = dataset.record["counts"]
    return Counts(
        read=read["read"],
        quarantined_at_ingest=read["quarantined"],
        outside_cohort=len(split.rows("outside", labelled=False)),
        unlabelled=unlabelled,
        parts=parts,
        scored=int((status == "scored").sum()),
        quarantined_in_scoring=int((status == "quarantined").sum()),
        missing_predictions=places.null_count,
        dropped=len(split.rows("dropped", labelled=False)),
    )

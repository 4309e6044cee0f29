"""A finished comparison in, its page and record out: what the page says beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def about_page(
    run: Run,
    dataset: Dataset,
    split: Split,
    judged: Sequence[Judged],
    comparison: dict[str, Any],
    *,
    opened: int,
    question: str,
    recorder: record.Recorder,
) -> StoragePath:
    """Write `report.html`, `comparison.json` and `record.json`; the page's path."""
    recipe = run.recipe
    primary = next((one for one in judged if one.name == comparison["primary"]["model"]), judged[0])
    counts = _counts(dataset, split, primary.predictions)
    by = recipe.split.by + (f" {recipe.split.column}" if recipe.split.column else "")
    about = About(
        title=recipe.name,
        question=tuple(line for line in question.splitlines() if line.strip()),
        fingerprint=recorder.fingerprint,
        dataset_digest=dataset.digest,
        bundles={one.name: one.digest for one in judged if not one.without},
        versions=record.versions(),
        seconds=float(recorder.as_dict()["seconds"]),
        opened=opened,
        counts=counts,
        split=f"by {by}, seed {recipe.split.seed}",
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*split.messages, *_patient_notes(run)),
        command=f"meddx compare <{recipe.name}.yaml>",
    )
    page = write_page(comparison, about, run.comparison)
    recorder.add_input("dataset", run.dataset, dataset.digest)
    for one in (one for one in judged if not one.without):
        recorder.add_input(f"bundle {one.name}", run.bundle(one.name), one.digest)
    recorder.counts = {"test": counts.parts["test"], "opened": opened, "read": counts.read}
    recorder.write(run.comparison)
    return page


def about_folds(
    run: Run,
    dataset: Dataset,
    split: Split,
    manifests: Mapping[str, tuple[dict[str, Any], str]],
    comparison: dict[str, Any],
    *,
    opened: int,
    question: str,
    recorder: record.Recorder,
) -> StoragePath:
    """As `about_page`, for a page with folds: every labelled case was held out once a repeat."""
    recipe, read = run.recipe, dataset.record["counts"]
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
    how = f"{len(set(split.folds[:, 0].tolist()) - {-1})} folds by {recipe.split.by}" if split.folds is not None else ""
    about = About(
        title=recipe.name,
        question=tuple(line for line in question.splitlines() if line.strip()),
        fingerprint=recorder.fingerprint,
        dataset_digest=dataset.digest,
        bundles={name: digest for name, (_, digest) in manifests.items()},
        versions=record.versions(),
        seconds=float(recorder.as_dict()["seconds"]),
        opened=opened,
        counts=counts,
        split=f"{how}, {recipe.split.repeats} time(s), seed {recipe.split.seed}",
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*split.messages, *_patient_notes(run)),
        command=f"meddx compare <{recipe.name}.yaml>",
    )
    page = write_page(comparison, about, run.comparison)
    recorder.add_input("dataset", run.dataset, dataset.digest)
    for name, (_, digest) in manifests.items():
        recorder.add_input(f"bundle {name}", run.bundle(name), digest)
    recorder.counts = {"held_out": held, "opened": opened, "read": counts.read}
    recorder.write(run.comparison)
    return page


def _patient_notes(run: Run) -> list[str]:
    patient = run.recipe.case.patient
    if isinstance(patient, str):
        return []
    return [
        f"Which cases belong to one patient is not known ({patient.unknown}): intervals may be too narrow, and parts may share patients."
    ]


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

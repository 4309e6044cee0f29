"""A dataset and a page's blocks in, a part for every case out: written to disk once, read by every job after."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meddx import yamlconf
from meddx.dataset import checks
from meddx.dataset.assign import Assigned, assign, split_column
from meddx.dataset.cohort import cohort_columns, cohort_counts, cohort_mask
from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS, CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.dataset.several import coder_of, questions
from meddx.dataset.target import Labels
from meddx.dataset.values import need_columns, texts
from meddx.errors import DataError, OutputError
from meddx.ingest.options import CaseOptions
from meddx.inputs.options import InputOptions
from meddx.storage import StoragePath

ALL_PARTS = (*PARTS, "outside", "dropped")


@dataclass(frozen=True)
class Split:
    """`case_ids`, `parts` (part names): object arrays [n], `labelled`: bool [n], all in the order of `Dataset.table()`.

    `folds`: int64 [n, repeats] where the page asks for folds (all its cases are `train` then), -1 for cases that are in none.

    `counts`: part -> {"cases", "labelled", "patients", and for binary "positive"}, and "cohort".  `messages`: what a reader must know.
    """

    case_ids: np.ndarray
    parts: np.ndarray
    labelled: np.ndarray
    meta: dict[str, Any]
    folds: np.ndarray | None = None

    @classmethod
    def load(cls, dataset: Dataset) -> Split:
        """The split on disk.  DataError where there is none, or where it is damaged or of another dataset."""
        place = folder(dataset)
        if not (place / "split.json").exists():
            raise DataError("the dataset has no split yet", str(place), "run meddx train, or meddx check, with the page")
        meta = _read_meta(place)
        data = (place / "split.parquet").read_bytes()
        if hashlib.sha256(data).hexdigest() != meta["parquet"]:
            raise DataError("split.parquet is not the one that split.json describes", str(place), "make the split again with --fresh")
        if meta["dataset"] != dataset.digest:
            raise OutputError(
                "the split belongs to another state of the dataset, which was ingested again", str(place), "make it anew with --fresh"
            )
        table = pq.read_table(io.BytesIO(data), use_threads=False)
        labelled = table.column("labelled").to_numpy()
        turns = [table.column(name).to_numpy() for name in table.column_names if name.startswith("fold_")]
        folds = np.stack(turns, axis=1) if turns else None
        return cls(texts(table.column("case_id")), texts(table.column("part")), labelled, meta, folds)

    @property
    def counts(self) -> dict[str, Any]:
        return dict(self.meta["counts"])

    @property
    def messages(self) -> list[str]:
        return list(self.meta["messages"])

    @property
    def screened(self) -> list[dict[str, Any]]:
        """What the single-column screen found, best column first."""
        return list(self.meta["checks"]["screen"])

    def rows(self, part: str, labelled: bool = True) -> np.ndarray:
        """int64 positions of a part's cases in the order of `Dataset.table()`; `labelled=False` adds the unlabelled ones."""
        if part not in ALL_PARTS:
            raise DataError(f"there is no part {part!r}", "split", f"parts: {', '.join(ALL_PARTS)}")
        mask = self.parts == part
        return np.flatnonzero(mask & self.labelled if labelled else mask).astype(np.int64)

    def ids(self, part: str, labelled: bool = True) -> list[str]:
        """The case ids of the same cases."""
        return [str(one) for one in self.case_ids[self.rows(part, labelled)]]


def folder(dataset: Dataset) -> StoragePath:
    return dataset.path / "split"


def prepare_split(
    dataset: Dataset,
    *,
    case: CaseOptions,
    cohort: CohortOptions,
    target: TargetOptions,
    split: SplitOptions,
    timing: TimingOptions,
    inputs: Mapping[str, InputOptions],
    never_inputs: Sequence[str] = (),
    fingerprint: str,
    fresh: bool = False,
) -> Split:
    """The split of this dataset for this page: read if it is there, else made, checked and written.

    `fresh` replaces one that is damaged or of another page or dataset (one of this page would come out the same); the log of test openings
    stays.  Raises OutputError when the split on disk belongs to another
    page or dataset, LeakError and DataError when a check refuses (nothing is written then), RecipeError for names that do not exist.
    """
    place = folder(dataset)
    blocks = {
        name: yamlconf.fingerprint(_plain(block))
        for name, block in {
            "case": case,
            "cohort": cohort,
            "target": target,
            "split": split,
            "timing": timing,
            "inputs": dict(inputs),
        }.items()
    }
    if (place / "split.json").exists():
        try:
            _same_page(_read_meta(place), fingerprint, blocks, dataset, place)
            return Split.load(dataset)
        except DataError:
            if not fresh:
                raise
            (place / "split.json").delete()
            (place / "split.parquet").delete()
    made, labels, meta = _make(dataset, case, cohort, target, split, timing, inputs, never_inputs)
    meta = {"fingerprint": fingerprint, "blocks": blocks, "dataset": dataset.digest, "seed": split.seed, **meta}
    _write(place, made, labels, meta)
    _same_page(_read_meta(place), fingerprint, blocks, dataset, place)  # another job may have been first
    return Split.load(dataset)


def _make(
    dataset: Dataset,
    case: CaseOptions,
    cohort: CohortOptions,
    target: TargetOptions,
    split: SplitOptions,
    timing: TimingOptions,
    inputs: Mapping[str, InputOptions],
    never: Sequence[str],
) -> tuple[Assigned, Labels, dict[str, Any]]:
    """Assign, check, count.  Pictures are read in batches and only where their digests are needed."""
    coder = coder_of(target)
    columns = checks.resolve_columns(inputs, dataset.schema, timing=timing, never=never)
    need_columns(sorted(cohort_columns(cohort)), dataset.schema.names, "cohort")
    need_columns(coder.columns, dataset.schema.names, "target")
    own = split_column(case, split)
    need_columns([own] if own else [], dataset.schema.names, f"split by {split.by}")
    wanted = {"case_id", "patient_id", *cohort_columns(cohort), *coder.columns, own}
    table = dataset.table([name for name in dataset.schema.names if name in wanted])
    inside, labels = cohort_mask(cohort, table), coder.encode(table)
    asked = questions(coder, labels)
    _, first, first_labels = asked[0]  # parts are balanced by the first target of the page
    made = assign(table, inside, first_labels, first.kind, case=case, split=split, horizon=target.longest_horizon)
    messages = list(made.messages) + checks.dates_left_out(inputs, columns, dataset.schema)
    checks.patients_across_parts(made.parts, made.patients, by=split.by)
    if made.turns is None:
        dropped, notes = checks.exact_copies(dataset, columns, inputs, made.parts, labels.labelled)
    else:
        dropped, notes = checks.copies_of_others(dataset, columns, inputs, made, labels.labelled)
        made.turns[dropped] = -1
    made.parts[dropped] = "dropped"
    messages += notes
    counts = _counts(made, labels, target.kind)
    for name, one, mine in asked:
        if made.turns is None:
            found = checks.parts_usable(_counts(made, mine, one.kind), mine, made.parts, one)
        else:
            found = checks.folds_usable(mine, made.turns, one)
        messages += [f"target {name}: {message}" if name else message for message in found]
    screened, notes = checks.screen_train(dataset, columns, inputs, timing, made, asked)
    meta = {
        "counts": {**counts, "cohort": cohort_counts(cohort, table), "dropped_copies": len(dropped)},
        "checks": {"screen": screened, "columns": {name: list(found) for name, found in columns.items()}},
        "messages": messages + notes,
    }
    return made, labels, meta


def _counts(made: Assigned, labels: Labels, kind: str) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for part in ALL_PARTS:
        mask = made.parts == part
        labelled, patients = mask & labels.labelled, np.unique(made.patients[mask])
        counts[part] = {"cases": int(mask.sum()), "labelled": int(labelled.sum()), "patients": len(patients)}
        if kind == "binary":
            counts[part]["positive"] = int(labels.values[mask & labels.known].sum())
    return counts


def _plain(block: Any) -> Any:
    if isinstance(block, dict):
        return {name: _plain(one) for name, one in block.items()}
    return block.model_dump(mode="json", by_alias=True)


def _read_meta(place: StoragePath) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((place / "split.json").read_text())
    except ValueError as error:
        raise DataError("split.json is not readable", str(place), "make the split again with --fresh") from error
    return meta


def _same_page(meta: dict[str, Any], fingerprint: str, blocks: Mapping[str, str], dataset: Dataset, place: StoragePath) -> None:
    step = "give this page another `out`, or make the split anew with --fresh (models made with the old one no longer compare)"
    if meta["fingerprint"] != fingerprint:
        changed = [name for name, digest in blocks.items() if meta["blocks"].get(name) != digest]
        what = f"changed: {', '.join(changed)}" if changed else f"none of {', '.join(blocks)} changed, another block did"
        raise OutputError(f"the split on disk belongs to another page ({what})", str(place), step)
    if meta["dataset"] != dataset.digest:
        raise OutputError("the split on disk belongs to another state of the dataset: the data was ingested again", str(place), step)


def _write(place: StoragePath, made: Assigned, labels: Labels, meta: dict[str, Any]) -> None:
    """split.parquet first, then split.json that names its digest: without the json there is no split."""
    ids, parts = pa.array(made.case_ids, pa.string()), pa.array(made.parts, pa.string())
    turns = {} if made.turns is None else {f"fold_{repeat}": pa.array(column) for repeat, column in enumerate(made.turns.T)}
    table = pa.table({"case_id": ids, "part": parts, "labelled": pa.array(labels.labelled), **turns})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue()
    path = place / "split.parquet"
    if not path.create_once(data) and path.read_bytes() != data and not (place / "split.json").exists():
        path.replace(data)  # left by a job that died before its split.json
    meta = {**meta, "parquet": hashlib.sha256(data).hexdigest()}
    (place / "split.json").create_once((json.dumps(meta, indent=1) + "\n").encode())

"""A split with folds in, the turns of cross-validation out; and what each turn said about its held-out cases, kept on storage."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meddx.dataset import parting
from meddx.dataset.folds import inner_parts, numbers_a_fold
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import TargetCoder
from meddx.dataset.values import texts
from meddx.recipe import Recipe
from meddx.storage import StoragePath


@dataclass(frozen=True)
class Turn:
    """One fold held out once.  Row numbers of the dataset: `train` and `validate` may be learned from, `held` may not."""

    repeat: int
    fold: int
    train: np.ndarray
    validate: np.ndarray
    held: np.ndarray

    @property
    def name(self) -> str:
        return f"turn-{self.repeat}-{self.fold}"


@dataclass(frozen=True)
class Said:
    """A model's logits [n, ...] of the held-out cases `rows`, and what the turn's own validate part measured."""

    rows: np.ndarray
    logits: np.ndarray
    facts: dict[str, Any]


def turns_of(recipe: Recipe, dataset: Dataset, split: Split) -> Iterator[Turn]:
    """Every turn, in order; the labelled cases only."""
    assert split.folds is not None
    table = dataset.table(list(dict.fromkeys(["case_id", "patient_id", *recipe.target.all_columns])))
    keys, patients = parting.group(parting.patient_keys(texts(table.column("patient_id")), texts(table.column("case_id"))))
    coder = TargetCoder(recipe.target)
    order = parting.hash_order(texts(table.column("case_id")), recipe.split.seed)
    strata = parting.patient_strata(patients, len(keys), coder.encode(table), coder.kind, order)
    for repeat in range(split.folds.shape[1]):
        number = np.where(split.labelled, split.folds[:, repeat], -1)
        for fold in numbers_a_fold(split.folds):
            rest = np.flatnonzero((number >= 0) & (number != fold))
            train, validate = inner_parts(keys, patients, strata, rest, recipe.split.validate_share, recipe.split.seed, f"{repeat} {fold}")
            yield Turn(repeat, fold, train, validate, np.flatnonzero(number == fold))


def keep(folder: StoragePath, turn: Turn, said: Said) -> None:
    """Write what was said, whole or not at all."""
    flat = said.logits.reshape(len(said.rows), -1)
    table = pa.table({"row": pa.array(said.rows, pa.int64()), "logits": pa.array(list(flat), pa.list_(pa.float64()))})
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"turn": json.dumps(said.facts)}), sink, write_page_checksum=True)
    path = folder / f"{turn.name}.parquet"
    if not path.create_once(sink.getvalue()):
        path.replace(sink.getvalue())


def kept(folder: StoragePath, turn: Turn) -> Said | None:
    """What an earlier job kept of this turn, None where there is nothing."""
    path = folder / f"{turn.name}.parquet"
    if not path.exists():
        return None
    table = pq.read_table(io.BytesIO(path.read_bytes()), use_threads=False, page_checksum_verification=True)
    logits = np.array(table.column("logits").to_pylist(), np.float64).reshape(table.num_rows, -1)
    return Said(table.column("row").to_numpy(), logits, json.loads(table.schema.metadata[b"turn"]))

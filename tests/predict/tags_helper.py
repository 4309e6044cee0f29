"""Short notes with entities, and bundles that tag them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from predict_helper import network_parts

from meddx.dataset.options import CohortOptions
from meddx.dataset.target import Labels
from meddx.inputs.options import TokensInput
from meddx.inputs.prepare import Preparations, fit
from meddx.inputs.types import Prepared
from meddx.models.baselines import fit_baseline
from meddx.models.options import BaselineOptions
from meddx.predict.bundle import write_bundle
from meddx.predict.estimators import EstimatorParts
from meddx.storage import StoragePath

CLASSES = ["drug", "disease"]
NAMES = [("aspirin", 0), ("valproic acid", 0), ("renal failure", 1), ("asthma", 1), ("acute renal failure", 1)]
Entity = tuple[int, int, int]


def head_of(tokens: int = 24) -> dict[str, Any]:
    return {"kind": "tags", "classes": CLASSES, "tokens": tokens}


def notes(n: int = 60, seed: int = 0) -> tuple[pa.Table, list[list[Entity]]]:
    """Texts of up to three names, with what each holds; every seventh has none.  `é` and an emoji shift bytes, not characters."""
    rng = np.random.default_rng(seed)
    texts, entities = [], []
    for row in range(n):
        text, found = "Né 🙂 the patient", []
        for name, label in [NAMES[one] for one in rng.integers(0, len(NAMES), 0 if row % 7 == 0 else rng.integers(1, 4))]:
            text += " had "
            found.append((len(text), len(text) + len(name), label))
            text += name
        texts.append(text + ".")
        entities.append(found)
    ids = [f"c{row:04d}" for row in range(n)]
    return pa.table({"case_id": ids, "patient_id": [f"p{row // 2}" for row in range(n)], "note": texts}), entities


def labels_of(words: Prepared, entities: list[list[Entity]]) -> Labels:
    """Tags int64 [n, L] of entities that are whole words, written here a second time."""
    values = np.zeros(words.arrays["tokens"].shape, np.int64)
    for row, found in enumerate(entities):
        for first, last, label in found:
            own = (words.aside["start"][row] < last) & (words.aside["end"][row] > first)
            values[row, own] = 2 + 2 * label
            values[row, own.argmax()] = 1 + 2 * label
    return Labels(values, np.arange(values.shape[1]) < words.arrays["length"][:, None])


def preparations_of(table: pa.Table, tokens: int = 24) -> Preparations:
    return fit({"note": TokensInput(kind="tokens", column="note", max_tokens=tokens, characters=8)}, {}, table)


def tags_bundle(path: StoragePath, kind: str = "dictionary", *, cohort: CohortOptions | None = None, tokens: int = 24) -> StoragePath:
    """A bundle on storage: `dictionary`, `prevalence`, or the network `gru`."""
    table, entities = notes()
    preparations = preparations_of(table, tokens)
    prepared = preparations.transform(table)
    if kind == "gru":
        parts: Any = network_parts(preparations, head_of(tokens), kind)
    else:
        options = BaselineOptions(kind=kind)  # type: ignore[arg-type]
        labels = labels_of(prepared["note"], entities)
        parts = EstimatorParts(kind, fit_baseline(options, preparations.specs(), prepared, labels, head_of(tokens), seed=0))
    write_bundle(
        path, name=kind, head=head_of(tokens), preparations=preparations, predictor=parts, calibration={"kind": "none"}, threshold={},
        cohort=cohort or CohortOptions(), target={"kind": "tags"}, about={},
    )  # fmt: skip
    return path

"""Probabilities and a threshold in, the columns of predictions out; a row without an answer has nulls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.predict.manifest import HeadPage

Texts = NDArray[np.object_]
SCORED, QUARANTINED, OUTSIDE = "scored", "quarantined", "outside_cohort"
FIRST = (("case_id", pa.string()), ("patient_id", pa.string()), ("status", pa.string()), ("error", pa.string()))


def probability_columns(head: HeadPage) -> list[str]:
    """binary `probability` (of the positive class), multiclass `p_<class>`, multilabel `p_<label>`."""
    return ["probability"] if head.kind == "binary" else [f"p_{name}" for name in head.classes]


def decision_columns(head: HeadPage) -> list[str]:
    """binary and multiclass `decision`, multilabel `decision_<label>`."""
    return [f"decision_{name}" for name in head.classes] if head.kind == "multilabel" else ["decision"]


def schema(head: HeadPage) -> pa.Schema:
    """The columns of predictions, in order."""
    probabilities = [(name, pa.float64()) for name in probability_columns(head)]
    decisions = [(name, pa.string()) for name in decision_columns(head)]
    return pa.schema([*FIRST, *probabilities, *decisions, ("bundle", pa.string())])


def answers(head: HeadPage, target: Mapping[str, Any]) -> tuple[str, str]:
    """(no, yes) in the words of the target; multilabel: its first negative and positive value."""
    if head.kind == "binary":
        return head.classes[0], head.classes[1]
    negative, positive = target.get("negative") or ("no",), target.get("positive") or ("yes",)
    return str(negative[0]), str(positive[0])


def decide(head: HeadPage, target: Mapping[str, Any], threshold: Mapping[str, Any], probabilities: NDArray[np.float64]) -> list[Texts]:
    """A decision column each: yes where the probability >= the threshold; multiclass the most probable class, the first of equals."""
    if head.kind == "multiclass":
        return [np.array(head.classes, object)[probabilities.argmax(axis=1)]]
    no, yes = answers(head, target)
    pages = [threshold] if head.kind == "binary" else [threshold["labels"][name] for name in head.classes]
    return [np.where(probabilities[:, place] >= page["value"], yes, no).astype(object) for place, page in enumerate(pages)]


def assemble(
    head: HeadPage,
    bundle: str,
    ids: pa.Table,
    status: Texts,
    error: Texts,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    decisions: list[Texts],
) -> pa.Table:
    """The predictions of all rows of `ids`: `probabilities` [m, k] and `decisions` belong to the positions `rows` [m]."""
    count = ids.num_rows
    columns: list[Any] = [ids.column("case_id"), ids.column("patient_id"), pa.array(status, pa.string()), pa.array(error, pa.string())]
    empty = np.ones(count, bool)
    empty[rows] = False
    for place in range(len(probability_columns(head))):
        values = np.zeros(count)
        if len(rows):
            values[rows] = probabilities[:, place]
        columns.append(pa.array(values, pa.float64(), mask=empty))
    for place in range(len(decision_columns(head))):
        texts: Texts = np.full(count, None, object)
        if len(rows):
            texts[rows] = decisions[place]
        columns.append(pa.array(texts, pa.string()))
    columns.append(pa.array([bundle] * count, pa.string()))
    return pa.table(columns, schema=schema(head))

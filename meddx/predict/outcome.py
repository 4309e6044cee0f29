"""Probabilities and a threshold in, the columns of predictions out; a row without an answer has nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.predict import adjust, spans
from meddx.predict.manifest import HeadPage
from meddx.predict.options import WARNING

Floats = NDArray[np.float64]
Texts = NDArray[np.object_]
Coded = tuple[NDArray[Any], Sequence[str]]  # numbers of words [m], and the words: a text for each row is never made
SCORED, QUARANTINED, OUTSIDE = "scored", "quarantined", "outside_cohort"
STATUSES = (SCORED, QUARANTINED, OUTSIDE)
FIRST = (("case_id", pa.string()), ("patient_id", pa.string()), ("status", pa.string()), ("error", pa.string()))
EMBEDDING = "embedding"
OUTPUTS = {EMBEDDING: pa.list_(pa.float32())}


@dataclass(frozen=True)
class Answers:
    """What is known of the rows at the positions `rows` [m].

    `numbers` [m, columns] in the order of `number_columns`, `decisions` one of m rows for each of `decision_columns`,
    `embedding` float32 [m, hidden] where it was asked for; `entities` of tags, a list for each of the m rows.
    """

    rows: NDArray[np.int64]
    numbers: Floats
    decisions: list[Coded]
    embedding: NDArray[np.float32] | None = None
    entities: Sequence[Sequence[spans.Entity]] = ()


def number_columns(head: HeadPage) -> list[str]:
    """binary `probability` (of the positive class), regression `value`, `low`, `high`, tags none, else `p_<class>` or `p_<label>`."""
    if head.kind == "tags":
        return []
    if head.kind == "regression":
        return ["value", "low", "high"]
    return ["probability"] if head.kind == "binary" else [f"p_{name}" for name in head.classes]


def decision_columns(head: HeadPage) -> list[str]:
    """multilabel `decision_<label>`, regression and tags none, else `decision`."""
    if head.kind in ("regression", "tags"):
        return []
    return [f"decision_{name}" for name in head.classes] if head.kind == "multilabel" else ["decision"]


def schema(head: HeadPage, outputs: Sequence[str] = (), *, warns: bool = False) -> pa.Schema:
    """The columns of predictions, in order; of tags `spans` is all that is said of a case.  `warns`: the bundle states its contract."""
    warning = [(WARNING, pa.string())] if warns else []
    numbers = [(name, pa.float64()) for name in number_columns(head)]
    decisions = [(name, pa.string()) for name in decision_columns(head)]
    entities = [(spans.COLUMN, spans.TYPE)] if head.kind == "tags" else []
    more = [(name, kind) for name, kind in OUTPUTS.items() if name in outputs]
    return pa.schema([*FIRST, *warning, *numbers, *decisions, *entities, *more, ("bundle", pa.string())])


def numbers_of(head: HeadPage, threshold: Mapping[str, Any], probabilities: Floats) -> Floats:
    """[m, columns] as `number_columns` names them; regression: the value and the ends of its interval, value -+ half-width."""
    if head.kind == "tags":
        return np.zeros((len(probabilities), 0))
    if head.kind != "regression":
        return probabilities
    reach = float(threshold["half_width"])
    return np.hstack([probabilities, probabilities - reach, probabilities + reach])


def answers(head: HeadPage, target: Mapping[str, Any]) -> tuple[str, str]:
    """(no, yes) in the words of the target; multilabel: its first negative and positive value."""
    if head.kind == "binary":
        return head.classes[0], head.classes[1]
    negative, positive = target.get("negative") or ("no",), target.get("positive") or ("yes",)
    return str(negative[0]), str(positive[0])


def median_class(probabilities: Floats) -> NDArray[np.int64]:
    """int64 [m]: the first class whose cumulative probability [m, k] reaches one half: the least expected distance in classes."""
    return np.asarray((np.cumsum(probabilities, axis=1) >= 0.5 - 1e-12).argmax(axis=1), np.int64)


def class_numbers(classes: Sequence[str], threshold: Mapping[str, Any], probabilities: Floats) -> NDArray[np.int64]:
    """int64 [m]: the decisions of a multiclass head; `threshold` is {} or has a weight a class."""
    weights = threshold.get("weights")
    return adjust.decided(probabilities, np.array([weights[name] for name in classes]) if weights else None)


def decide(head: HeadPage, target: Mapping[str, Any], threshold: Mapping[str, Any], probabilities: Floats) -> list[Coded]:
    """A decision column each: yes where the probability >= the threshold; multiclass the most probable class, or that of
    the greatest weighted probability, the first of equals; ordinal the median class; regression and tags have none."""
    if head.kind in ("regression", "tags"):
        return []
    if head.kind in ("multiclass", "ordinal"):
        chosen = class_numbers(head.classes, threshold, probabilities) if head.kind == "multiclass" else median_class(probabilities)
        return [(chosen, head.classes)]
    pages = [threshold] if head.kind == "binary" else [threshold["labels"][name] for name in head.classes]
    either = answers(head, target)
    return [((probabilities[:, place] >= page["value"]).view(np.int8), either) for place, page in enumerate(pages)]


def statuses(inside: NDArray[np.bool_], clean: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The place of each row's status in STATUSES."""
    return np.where(inside, np.where(clean, np.int8(0), np.int8(1)), np.int8(2))


def assemble(
    head: HeadPage,
    bundle: str,
    ids: pa.Table,
    status: NDArray[Any],
    error: Texts,
    found: Answers | None,
    outputs: Sequence[str],
    *,
    warning: Texts | None = None,
    warns: bool = False,
) -> pa.Table:
    """The predictions of all rows of `ids`; `status` their places in STATUSES, `error` None or a reason; `found` None where no row has an
    answer; `warning` None where no row has one."""
    count = ids.num_rows
    rows = np.zeros(0, np.int64) if found is None else found.rows
    columns: list[Any] = [ids.column("case_id"), ids.column("patient_id"), _words(status, STATUSES), pa.array(error, pa.string())]
    if warns:
        columns.append(pa.nulls(count, pa.string()) if warning is None else pa.array(warning, pa.string()))
    for place in range(len(number_columns(head))):
        columns.append(_placed(count, rows, np.zeros(0) if found is None else found.numbers[:, place]))
    for place in range(len(decision_columns(head))):
        codes, words = (np.zeros(0, np.int8), ("",)) if found is None else found.decisions[place]
        columns.append(_words(_placed(count, rows, codes), words))
    if head.kind == "tags":
        columns.append(spans.column(count, rows, () if found is None else found.entities, head.classes))
    if EMBEDDING in outputs:
        columns.append(_lists(count, rows, None if found is None else found.embedding))
    columns.append(pa.repeat(pa.scalar(bundle, pa.string()), count))
    return pa.table(columns, schema=schema(head, outputs, warns=warns))


def _placed(count: int, rows: NDArray[np.int64], values: NDArray[Any]) -> pa.Array:
    """Array [count] with `values` at `rows` (each once, rising), null elsewhere; nothing is copied where every row has one."""
    if len(rows) == count:
        return pa.array(values)
    full, empty = np.zeros(count, values.dtype), np.ones(count, bool)
    full[rows], empty[rows] = values, False
    return pa.array(full, mask=empty)


def _words(codes: NDArray[Any] | pa.Array, words: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string())).dictionary_decode()


def _lists(count: int, rows: NDArray[np.int64], values: NDArray[np.float32] | None) -> pa.Array:
    """list<float32> [count] with the rows of `values` [m, width] at `rows` (rising); null elsewhere."""
    if values is None or not len(rows):
        return pa.nulls(count, OUTPUTS[EMBEDDING])
    lengths = np.zeros(count, np.int32)
    lengths[rows] = values.shape[1]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.int32())
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel(), pa.float32())
    return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(lengths == 0))

"""Entities as a target: counted, refused by label, split by who has any, never an input and never taken for a joined source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from meddx.dataset import checks, parting
from meddx.dataset.columns import resolve_columns
from meddx.dataset.options import CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.dataset.split import prepare_split
from meddx.dataset.target import Labels, TargetCoder, spans_of
from meddx.errors import DataError, LeakError, RecipeError
from meddx.ingest.options import CaseOptions
from meddx.inputs.options import TableInput, TextInput

ENTITY = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])
SPANS = pa.list_(ENTITY)
Cell = list[tuple[Any, Any, Any]] | None


def coder(classes: Any = ("Chemical", "Disease"), **more: Any) -> TargetCoder:
    return TargetCoder(TargetOptions.model_validate({"kind": "tags", "column": "spans", "classes": classes, **more}))


def column(*cells: Cell, kind: Any = SPANS) -> pa.Table:
    rows = [None if cell is None else [dict(zip(("start", "end", "label"), one, strict=True)) for one in cell] for cell in cells]
    return pa.table({"spans": pa.array(rows, kind)})


def test_labels_count_the_entities_of_the_declared_classes() -> None:
    table = column([(0, 3, "Disease"), (5, 9, "Chemical")], [], None, [(2, 4, "Disease")])
    labels = coder().encode(table)
    assert coder().classes == ("Chemical", "Disease") and labels.values.tolist() == [2, 0, 0, 1] and labels.values.dtype == np.int64
    assert labels.known.tolist() == [True, True, False, True] == labels.labelled.tolist()
    assert spans_of(table.column("spans"), coder().options.classes) == [[(0, 3, 1), (5, 9, 0)], [], None, [(2, 4, 1)]]


def test_a_class_may_have_several_labels_and_others_are_left_aside() -> None:
    named = coder({"illness": ["Disease", "Symptom"]}, unlabelled=["Chemical"])
    table = column([(5, 9, "Symptom"), (0, 3, "Disease"), (4, 5, "Chemical")], [(0, 1, "Chemical")])
    assert named.encode(table).values.tolist() == [2, 0]
    assert spans_of(table.column("spans"), named.options.classes) == [[(0, 3, 0), (5, 9, 0)], []]
    assert spans_of(table.column("spans"), ["Disease"]) == [[(0, 3, 0)], []]


def test_labels_that_the_page_does_not_declare_are_named_with_counts() -> None:
    with pytest.raises(DataError, match=r"'Gene' \(2 entities\), 'Organ' \(1 entities\)") as caught:
        coder().encode(column([(0, 3, "Gene"), (4, 6, "Organ"), (7, 8, "Gene")], [(0, 2, "Disease")]))
    assert "target.classes" in caught.value.next_step and "unlabelled" in caught.value.next_step


@pytest.mark.parametrize(
    "entity", [(3, 3, "Disease"), (3, 2, "Disease"), (-1, 2, "Disease"), (None, 2, "Disease"), (0, None, "Disease"), (0, 2, None)]
)
def test_an_impossible_entity_is_refused(entity: tuple[Any, Any, Any]) -> None:
    with pytest.raises(DataError, match="1 of 2 entities"):
        coder().encode(column([(0, 3, "Disease"), entity]))


def test_a_column_of_something_else_is_refused_and_one_of_nulls_is_unlabelled() -> None:
    for bad in (pa.array(["Disease"]), pa.array([[1]]), pa.array([[{"start": 1}]])):
        with pytest.raises(DataError, match="not entities"):
            coder().encode(pa.table({"spans": bad}))
    empty = coder().encode(pa.table({"spans": pa.nulls(2)}))
    assert not empty.known.any() and empty.values.tolist() == [0, 0] and spans_of(pa.chunked_array([pa.nulls(2)]), ["x"]) == [None, None]


def test_other_arrow_types_chunks_and_slices_are_read_alike() -> None:
    kind = pa.large_list(pa.struct([("label", pa.dictionary(pa.int8(), pa.string())), ("end", pa.int64()), ("start", pa.int64())]))
    table = column([(0, 3, "Disease")], None, [(2, 4, "Chemical"), (1, 2, "Disease")], kind=kind)
    expected = [[(0, 3, 1)], None, [(1, 2, 1), (2, 4, 0)]]
    assert spans_of(table.column("spans"), coder().options.classes) == expected and coder().encode(table).values.tolist() == [1, 0, 2]
    assert spans_of(table.slice(1).column("spans"), coder().options.classes) == expected[1:]
    both = pa.concat_tables([table.slice(2), table.slice(0, 1)])
    assert spans_of(both.column("spans"), coder().options.classes) == [expected[2], expected[0]]
    assert coder().encode(both).values.tolist() == [2, 1]


def test_patients_are_parted_by_who_has_any_entity() -> None:
    labels = Labels(np.array([0, 4, 0, 0]), np.array([True, True, True, False]))
    assert parting.patient_strata(np.array([0, 0, 1, 2]), 3, labels, "tags", np.arange(4)).tolist() == [1, 0, -1]


def corpus(n: int = 400) -> pa.Table:
    """n cases of n patients, every fourth with an entity."""
    texts = [f"the sentence number {i} of a report on which nobody had marked much" for i in range(n)]
    cells: list[Cell] = [[(0, 3, "Disease"), (4, 12, "Chemical")] if i % 4 == 0 else [] for i in range(n)]
    more = {
        "case_id": [f"c{i}" for i in range(n)],
        "patient_id": [f"p{i}" for i in range(n)],
        "text": texts,
        "age": [float(i % 7) for i in range(n)],
    }
    return pa.table({**more, "spans": column(*cells).column("spans")})


def split_of(dataset: Any, **more: Any) -> Any:
    page: dict[str, Any] = {
        "case": CaseOptions(id="case_id", patient="patient_id"), "cohort": CohortOptions(), "target": coder().options,
        "split": SplitOptions(), "timing": TimingOptions(), "inputs": {"note": TextInput(kind="text"), "table": TableInput()},
        "never_inputs": ["spans"], "fingerprint": "f" * 16,
    }  # fmt: skip
    return prepare_split(dataset, **{**page, **more})


def test_a_split_is_made_checked_and_screened(make_dataset: Any) -> None:
    dataset = make_dataset(corpus())
    split = split_of(dataset)
    has = coder().encode(dataset.table(["spans"])).values > 0
    share = {part: has[split.rows(part)].mean() for part in ("train", "validate", "calibrate", "test")}
    assert all(value == pytest.approx(0.25, abs=0.02) for value in share.values()), share
    assert split.counts["train"]["labelled"] == 240 and [one["column"] for one in split.screened] == ["age", "text"]


def test_folds_are_dealt(make_dataset: Any) -> None:
    split = split_of(make_dataset(corpus(100)), split=SplitOptions(folds=5))
    assert split.folds.shape == (100, 1) and np.bincount(split.folds[:, 0]).tolist() == [20] * 5


def test_the_screen_asks_whether_there_is_any_entity(make_dataset: Any) -> None:
    table = corpus()
    known = pa.array(["yes" if i % 4 == 0 else "no" for i in range(400)])
    with pytest.raises(LeakError, match="alone know the answer"):
        split_of(make_dataset(table.append_column("marked", known)))


def test_copies_are_found_by_their_text_whatever_was_marked_in_them(make_dataset: Any) -> None:
    table = corpus()
    twice = table.set_column(2, "text", pa.array([f"a long sentence that stands in the archive two times {i // 2}" for i in range(400)]))
    with pytest.raises(LeakError, match="exact copies"):
        split_of(make_dataset(twice), inputs={"note": TextInput(kind="text")})


def test_a_train_without_any_entity_is_told_and_parts_need_marked_cases(make_dataset: Any) -> None:
    none = column(*[[]] * 400).column("spans")
    split = split_of(make_dataset(corpus().set_column(4, "spans", none)))
    assert "train has no case with an entity: the model cannot learn any" in split.messages
    nothing = pa.chunked_array([pa.nulls(400, SPANS)])
    with pytest.raises(DataError, match="no labelled case"):
        split_of(make_dataset(corpus().set_column(4, "spans", nothing)))
    labels = Labels(np.array([0, 1]), np.array([True, True]))
    assert checks.folds_usable(labels, np.array([[0], [1]]), coder()) == []


def test_no_pattern_and_no_name_reaches_the_entities() -> None:
    schema = corpus(4).schema
    for pattern in ("*", "s*", "span?"):
        names = [pattern, "age"] if pattern != "*" else [pattern]
        found = resolve_columns({"table": TableInput(columns=tuple(names))}, schema, timing=TimingOptions(), never=["spans"])
        assert "spans" not in found["table"] and "age" in found["table"]
    with pytest.raises(LeakError, match="never an input"):
        resolve_columns({"table": TableInput(columns=("spans",))}, schema, timing=TimingOptions(), never=["spans"])
    with pytest.raises(RecipeError, match="does not hold texts"):
        resolve_columns({"note": TextInput(kind="text", column="spans")}, schema, timing=TimingOptions(), never=["spans"])


def test_a_source_with_the_name_of_the_target_is_no_way_to_it() -> None:
    """Twin: without the target among `never` the same input would get the answers."""
    import pyarrow as pa

    from meddx.dataset.columns import resolve_columns
    from meddx.dataset.options import TimingOptions
    from meddx.errors import LeakError
    from meddx.inputs.options import TableInput

    spans = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))
    schema = pa.schema([("case_id", pa.string()), ("text", pa.string()), ("spans", spans)])
    inputs = {"table": TableInput.model_validate({"from": "spans"})}
    with pytest.raises(LeakError, match="looks at the target"):
        resolve_columns(inputs, schema, timing=TimingOptions(), never=["spans"])
    assert resolve_columns(inputs, schema, timing=TimingOptions()) == {"table": ["spans"]}

"""The first of an id stays, over any number of batches; names that mean something are guarded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError
from meddx.ingest.block import Block
from meddx.ingest.cases import CaseMaker, SeenIds
from meddx.ingest.options import CaseOptions


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30).map(str), max_size=12), max_size=12))
def test_seen_ids_are_a_set(batches):
    seen, known = SeenIds(), set()
    for batch in batches:
        expected = []
        for one in batch:
            expected.append(one not in known)
            known.add(one)
        assert seen.are_new(batch).tolist() == expected


def test_seen_ids_hold_many_in_little():
    seen = SeenIds()
    for start in range(0, 300_000, 50_000):
        assert seen.are_new([str(i) for i in range(start, start + 50_000)]).all()
    assert not seen.are_new([str(i) for i in range(0, 300_000, 997)]).any()
    assert sum(run.nbytes for runs in seen._buckets for run in runs) == 16 * 300_000


def maker(columns: dict[str, pa.Array], **case: object) -> tuple[CaseMaker, Block]:
    table = pa.table(columns)
    return CaseMaker(CaseOptions(**case), table.schema, "here"), Block(table, "here", np.arange(1, table.num_rows + 1))


def test_the_id_may_bear_a_reserved_name():
    cases, block = maker({"patient_id": ["a", "b"], "x": [1.0, 2.0]}, id="patient_id", patient="@case")
    table, rejects = cases.take(block, 0)
    assert table.to_pydict() == {"case_id": ["a", "b"], "patient_id": ["a", "b"], "x": [1.0, 2.0]}
    assert rejects == []


def test_reserved_names_of_other_columns_are_refused():
    with pytest.raises(DataError, match="'predict_at'") as error:
        maker({"id": ["a"], "predict_at": ["x"]}, id="id", patient="@case")
    assert "declare `predict_at: predict_at`" in error.value.next_step


def test_one_row_has_one_reason():
    cases, block = maker({"id": ["a", None, "a", "b"], "x": [1.0, float("inf"), 2.0, float("-inf")]}, id="id", patient="@case")
    table, rejects = cases.take(block, 0)
    assert table.column("case_id").to_pylist() == ["a"]
    assert [(one.row, one.reason) for one in rejects] == [(2, "number_unreadable"), (3, "id_duplicate"), (4, "number_unreadable")]

"""Columns of joined sources, signals and texts: found by name, refused when late, told apart when copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from meddx.dataset.columns import resolve_columns
from meddx.dataset.copies import row_digests
from meddx.dataset.options import TimingOptions
from meddx.errors import LeakError, RecipeError
from meddx.inputs.options import EventsInput, ImageInput, SignalInput, TableInput, TextInput

ROW = pa.struct([("@time", pa.float64()), ("test", pa.string()), ("value", pa.float64()), ("scan", pa.binary())])
SIGNAL = pa.struct([("rate", pa.float64()), ("leads", pa.list_(pa.string())), ("samples", pa.list_(pa.list_(pa.float32())))])
SCHEMA = pa.schema([
    ("case_id", pa.string()), ("patient_id", pa.string()), ("age", pa.float64()), ("note", pa.string()), ("signal", SIGNAL),
    ("labs", pa.list_(ROW)),
])  # fmt: skip
EVENTS: dict[str, Any] = {"kind": "events", "from": "labs", "variable": "test", "value": "value", "window": ["-48h", "0h"]}


def resolve(inputs: dict[str, Any], **timing: Any) -> dict[str, list[str]]:
    return resolve_columns(inputs, SCHEMA, timing=TimingOptions(**timing))


def test_every_kind_names_its_column() -> None:
    found = resolve({
        "table": TableInput(columns=("age",)), "labs": EventsInput.model_validate(EVENTS),
        "wide": TableInput.model_validate({"from": "labs", "columns": ["value"], "many": "mean"}),
        "scan": ImageInput.model_validate({"kind": "image", "from": "labs", "column": "scan", "size": 8, "many": "latest"}),
        "note": TextInput(kind="text", column="note"), "ecg": SignalInput(kind="signal", leads=("II",), rate=100, seconds=1),
    })  # fmt: skip
    assert found == {"table": ["age"], "labs": ["labs"], "wide": ["labs"], "scan": ["labs"], "note": ["note"], "ecg": ["signal"]}


def test_a_star_does_not_reach_signals_and_joined_rows() -> None:
    assert resolve({"table": TableInput()})["table"] == ["age", "note"]


@pytest.mark.parametrize(
    "page", [{**EVENTS, "variable": "tset"}, {**EVENTS, "unit": "unit"}, {"kind": "table", "from": "labs", "columns": ["glucose*"]}]
)
def test_names_that_are_not_inside_are_refused(page: dict[str, Any]) -> None:
    kind = EventsInput if page["kind"] == "events" else TableInput
    with pytest.raises(RecipeError):
        resolve({"labs": kind.model_validate(page)})


def test_columns_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(RecipeError, match="does not hold pictures"):
        resolve({"scan": ImageInput(kind="image", column="age", size=8)})
    with pytest.raises(RecipeError, match="does not hold signals"):
        resolve({"ecg": SignalInput(kind="signal", column="note", leads=("II",), rate=100, seconds=1)})


def test_a_late_column_of_a_joined_source_is_refused() -> None:
    with pytest.raises(LeakError, match="labs.value"):
        resolve({"labs": EventsInput.model_validate(EVENTS)}, after_outcome=["labs.value"])
    with pytest.raises(RecipeError):
        resolve({"labs": EventsInput.model_validate(EVENTS)}, after_outcome=["labs.vaule"])


def test_digests_of_nested_columns_tell_cases_apart(make_dataset: Any) -> None:
    wave = {"rate": 100.0, "leads": ["II"], "samples": [[0.5, 1.5]]}
    row = {"@time": -1.0, "test": "K", "value": 4.0, "scan": None}
    labs = [[row], [row], [{**row, "value": 4.1}], [row, row], [], None]
    waves = [wave, wave, wave, {**wave, "samples": [[0.5, 1.25]]}, wave, wave]
    n = len(labs)
    table = pa.table(
        [[f"c{i}" for i in range(n)], [f"p{i}" for i in range(n)], [1.0] * n, ["x"] * n, waves, labs], schema=SCHEMA
    )  # fmt: skip
    digests, present = row_digests(make_dataset(table, files=1), ["labs"])
    assert digests[0] == digests[1] and len(set(digests.tolist())) == 4
    assert present.tolist() == [True, True, True, True, False, False]
    digests, _ = row_digests(make_dataset(table, files=1), ["signal"])
    assert len(set(digests.tolist())) == 2 and np.flatnonzero(digests != digests[0]).tolist() == [3]

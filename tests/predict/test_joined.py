"""A bundle on joined tables, events and texts: the contract says so, and rows come as Arrow, dicts or frames."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from fast_helper import dtypes, needs_openvino, numbers, plan_page
from predict_helper import HEADS

from meddx.dataset.options import CohortOptions
from meddx.inputs.options import EventsInput, SignalInput, TableInput, TextInput
from meddx.inputs.prepare import fit
from meddx.models.options import DEFAULT_ENCODER, EncoderOptions, ModelOptions
from meddx.predict.bundle import Bundle, write_bundle
from meddx.predict.networks import NetworkParts
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow
VITALS = pa.list_(pa.struct([("@time", pa.float64()), ("item", pa.string()), ("value", pa.float64())]))
LABS = pa.list_(pa.struct([("@time", pa.float64()), ("k", pa.float64()), ("ward", pa.string())]))


@pytest.fixture(scope="module")
def stays() -> pa.Table:
    rng = np.random.default_rng(0)
    n = 60
    vitals = [
        [
            {"@time": -float(hour), "item": item, "value": float(rng.normal())}
            for hour in range(int(rng.integers(0, 6)), 0, -1)
            for item in "ab"
        ]
        for _ in range(n)
    ]
    labs = [[{"@time": -1.0, "k": float(rng.normal()), "ward": "x"}] * int(rng.integers(0, 3)) for _ in range(n)]
    notes = [" ".join(rng.choice(["cough", "fever", "rash", "none"], 6)) for _ in range(n)]
    return pa.table({
        "case_id": [f"c{row}" for row in range(n)],
        "vitals": pa.array(vitals, VITALS),
        "labs": pa.array(labs, LABS),
        "note": notes,
        "ecg": [rng.normal(size=50).tolist() for _ in range(n)],
    })  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, stays) -> StoragePath:  # noqa: ANN001
    import torch

    from meddx.models.build import build_model

    inputs = {
        "vitals": EventsInput.model_validate(
            {"kind": "events", "from": "vitals", "variable": "item", "value": "value", "window": ["-6h", "0h"]}
        ),
        "labs": TableInput.model_validate({"from": "labs", "many": "latest", "optional": True}),
        "note": TextInput(kind="text", column="note", max_tokens=8),
        "ecg": SignalInput(kind="signal", column="ecg", leads=("I",), rate=50.0, seconds=1.0),
    }
    preparations = fit(inputs, {"labs": ["labs"]}, stays)
    specs = preparations.specs()
    encoders = {name: EncoderOptions(kind=DEFAULT_ENCODER[spec["kind"]]) for name, spec in specs.items()}
    torch.manual_seed(0)
    model = build_model(ModelOptions(hidden=8), encoders, specs, HEADS["binary"])
    pages = {name: one.model_dump(mode="json") for name, one in encoders.items()}
    path = StoragePath.of(tmp_path_factory.mktemp("joined") / "bundle")
    write_bundle(
        path, name="net", head=HEADS["binary"], preparations=preparations,
        predictor=NetworkParts(ModelOptions(hidden=8).model_dump(mode="json"), pages, model.state_dict()),
        calibration={"kind": "none"}, threshold={"value": 0.5}, cohort=CohortOptions(), target={}, about={},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def bundle(place) -> Bundle:  # noqa: ANN001
    return Bundle.load(place)


@needs_openvino
@pytest.mark.parametrize("dtype", dtypes())
def test_sequences_score_alone_as_among_others_as_a_graph_too(place, bundle, stays, dtype: str, tmp_path_factory, monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    fast = Bundle.load(place, plan=plan_page(16, dtype))
    everything, expected = fast.predict(stays), bundle.predict(stays)
    assert everything["error"].equals(expected["error"]) and everything["status"].equals(expected["status"])
    scored = np.array(expected["status"].to_pylist()) == "scored"
    assert scored.sum() > 20
    assert np.abs(numbers(everything)[scored] - numbers(expected)[scored]).max() < (1e-5 if dtype == "float32" else 5e-3)
    for row in (0, 17, 59):
        assert fast.predict(stays.slice(row, 1)).equals(everything.slice(row, 1))


def test_the_contract_names_the_sources_and_what_is_read_of_them(bundle) -> None:
    said = {column.name: column for column in bundle.contract}
    facts = {"missing", "categories", "seen", "range", "units", "rates"}
    found = {name: column.model_dump(exclude_none=True, exclude=facts) for name, column in said.items()}
    assert [column.missing for column in bundle.contract] == ["filled", "optional", "refused", "refused"]
    assert said["ecg"].rates == (25.0, 100.0)
    assert set(said["labs"].categories) == {"ward"}
    assert list(found) == ["vitals", "labs", "note", "ecg"]
    assert found["vitals"] == {
        "name": "vitals", "use": "events", "required": True, "input": "vitals", "joined": True, "fields": ("item", "value"),
        "steps": 6, "variables": 2,
    }  # fmt: skip
    assert found["labs"] == {
        "name": "labs", "use": "rows", "required": False, "input": "labs", "joined": True, "fields": ("k", "ward"), "many": "latest",
    }  # fmt: skip
    assert found["note"] == {"name": "note", "use": "text", "required": True, "input": "note", "tokens": 8}
    assert found["ecg"] == {"name": "ecg", "use": "signal", "required": True, "input": "ecg", "leads": 1, "rate": 50.0, "steps": 50}


def test_arrow_dicts_and_frames_give_the_same_and_one_row_as_all(bundle, stays) -> None:
    expected = bundle.predict(stays)
    assert set(expected["status"].to_pylist()) == {"scored"}
    assert bundle.predict(stays.to_pylist()).equals(expected)
    assert bundle.predict(stays.to_pandas()).equals(expected)
    assert bundle.predict(pa.concat_tables([stays.slice(0, 7), stays.slice(7)])).equals(expected)
    for row in (0, 31, 59):
        assert bundle.predict(stays.slice(row, 1)).equals(expected.slice(row, 1))
        assert bundle.predict(stays.slice(row, 1).to_pylist()).equals(expected.slice(row, 1))


def test_rows_after_the_decision_change_nothing(bundle, stays) -> None:
    rows = stays.to_pylist()
    expected = bundle.predict(rows)
    for row in rows:
        row["vitals"] = [*row["vitals"], {"@time": 0.5, "item": "a", "value": 1e6}]
        row["labs"] = [*row["labs"], {"@time": 3.0, "k": 1e6, "ward": "x"}]
    assert bundle.predict(rows).equals(expected)
    rows[0]["vitals"][-1]["@time"] = -0.5  # the twin: known in time, it counts
    assert not bundle.predict(rows)["probability"].slice(0, 1).equals(expected["probability"].slice(0, 1))


def test_a_hidden_source_is_one_that_is_not_there(bundle, stays) -> None:
    hidden = bundle.predict(stays, without=["labs"])
    assert hidden.equals(bundle.predict(stays.drop(["labs"])))
    empty = stays.set_column(stays.schema.get_field_index("labs"), "labs", pa.array([[]] * 60, LABS))
    assert hidden.equals(bundle.predict(empty))
    assert not hidden["probability"].equals(bundle.predict(stays)["probability"])


def test_a_bad_signal_is_one_quarantined_row(bundle, stays) -> None:
    rows = stays.slice(0, 4).to_pylist()
    expected = bundle.predict(rows)
    rows[1]["ecg"], rows[2]["ecg"] = [float("nan")] * 50, "broken"
    found = bundle.predict(rows)
    assert found["status"].to_pylist() == ["scored", "quarantined", "quarantined", "scored"]
    assert found.take([0, 3]).equals(expected.take([0, 3]))

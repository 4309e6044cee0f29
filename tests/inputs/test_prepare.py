from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow as pa
import pytest

from meddx.errors import BundleError
from meddx.inputs.options import EventsInput, ImageInput, TableInput, TextInput
from meddx.inputs.prepare import Preparations, fit, merge_errors
from meddx.inputs.types import Prepared


def cases() -> pa.Table:
    film = bytes(cv2.imencode(".png", np.arange(64, dtype=np.uint8).reshape(8, 8))[1])
    return pa.table({"age": [40.0, 50.0, 60.0], "image": pa.array([film, None, film[:30]], pa.binary())})


def prepared_for(optional: bool) -> Preparations:
    return fit({"vitals": TableInput(), "film": ImageInput(kind="image", size=8, optional=optional)}, {"vitals": ["age"]}, cases())


def test_names_columns_and_specs_are_in_the_recipes_order() -> None:
    made = prepared_for(optional=True)
    assert made.names == ("vitals", "film") and made.columns == ("age", "image")
    assert made.required_columns == ("age",) and made.optional_names == ("film",)
    assert {name: spec["kind"] for name, spec in made.specs().items()} == {"vitals": "table", "film": "image"}


def test_all_state_goes_through_json() -> None:
    made = prepared_for(optional=False)
    again = Preparations.from_state(json.loads(json.dumps(made.state())))
    assert again == made
    assert again.transform(cases())["film"].errors == made.transform(cases())["film"].errors
    for broken in ({}, {"inputs": [{"kind": "sound"}]}, {"inputs": [{}]}):
        with pytest.raises(BundleError):
            Preparations.from_state(broken)


def test_a_needed_input_that_is_absent_or_bad_spoils_the_row_an_optional_one_does_not() -> None:
    needed, optional = prepared_for(optional=False), prepared_for(optional=True)
    assert needed.row_errors(needed.transform(cases())) == {1: "input_absent", 2: "image_truncated"}
    assert optional.row_errors(optional.transform(cases())) == {}


def test_a_row_with_no_input_at_all_is_bad() -> None:
    there = Prepared({}, np.array([True, False, False]), {2: "image_bomb"})
    assert merge_errors({"a": there, "b": there}, optional=("a", "b")) == {1: "input_absent", 2: "image_bomb"}
    assert merge_errors({}) == {}


def night() -> tuple[dict[str, object], pa.Table]:
    inputs: dict[str, object] = {
        "labs": EventsInput(
            **{"kind": "events", "from": "labs", "variable": "test", "value": "v", "window": ["-4h", "0h"], "optional": True}
        ),
        "last": TableInput(**{"from": "labs", "columns": ["v"], "many": "latest"}),
        "note": TextInput(kind="text", min_count=1, max_tokens=4),
    }
    rows = [
        [{"@time": -1.0, "test": "hr", "v": 80.0}, {"@time": -0.5, "test": "hr", "v": 90.0}],
        [{"@time": -1.0, "test": "hr", "v": 70.0}],
        [],
    ]
    return inputs, pa.table({"labs": rows, "text": ["chest pain", "", "no pain"]})


def test_joined_sources_and_texts_are_prepared_beside_each_other_and_stored() -> None:
    inputs, table = night()
    made = fit(inputs, {"last": ["labs"]}, table)  # type: ignore[arg-type]
    assert made.columns == ("labs", "text") and made.required_columns == ("labs", "text") and made.optional_names == ("labs",)
    prepared = made.transform(table)
    assert made.row_errors(prepared) == {1: "text_empty"} and prepared["labs"].aside["summary"].shape == (3, 8)
    again = Preparations.from_state(json.loads(json.dumps(made.state(), allow_nan=False)))
    assert again == made and again.specs() == made.specs()

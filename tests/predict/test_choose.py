"""meddx.predict.choose: a faster way is taken only where it answers as torch does; a crash in one leaves torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fast_helper import dtypes, needs_openvino, network_bundle, numbers, shifted

from meddx.inputs.options import ImageInput, TableInput
from meddx.predict import choose as choosing
from meddx.predict.bundle import Bundle
from meddx.predict.choose import Parity, choose, compare, draw
from meddx.predict.engine import EnginePlan, plan_for
from meddx.predict.manifest import HeadPage
from meddx.storage import StoragePath

MANY = 10**9  # rows: a trial always pays
FILM = {"film": ImageInput(kind="image", size=16)}
BINARY = HeadPage(kind="binary", classes=("no", "yes"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(choosing, "FASTER", 0)  # how fast a small network is here is not the question


def _never() -> pa.Table:
    raise AssertionError("no trial was to be made")


def _bundle(tmp_path: Any, patients: pa.Table, **more: Any) -> StoragePath:
    return network_bundle(StoragePath.of(tmp_path / "b"), FILM, {}, patients, {"film": "cnn"}, **more)


@pytest.mark.slow
def test_little_work_tables_and_baselines_keep_the_usual_plan(tmp_path: Any, patients: pa.Table, make_bundle: Any) -> None:
    path = _bundle(tmp_path, patients)
    usual = Bundle.load(path).plan
    assert usual == EnginePlan(256)
    assert choose(path, 1000, _never) == choose(path, 1000, _never, device="cuda") == usual.page()
    for predictor in ("mlp", "logistic"):
        found = choose(make_bundle(predictor), MANY, _never)
        assert found == plan_for({"table": {"kind": "table"}}, predictor).page()


@needs_openvino
@pytest.mark.slow
def test_a_network_that_answers_alike_runs_as_a_graph(tmp_path: Any, patients: pa.Table) -> None:
    path = _bundle(tmp_path, patients)
    page = choose(path, MANY, lambda: draw([patients]))
    tried = page["trial"]["tried"]
    wanted = "bfloat16" if "bfloat16" in dtypes() else "float32"
    assert [(one["dtype"], one["result"]) for one in tried] == [(dtype, "chosen") for dtype in dict.fromkeys([wanted, "float32"])]
    assert (page["engine"], page["dtype"]) == ("openvino", wanted)
    assert page["trial"]["rows"] == 256 and all(0 <= one["difference"] < 0.005 and one["other_rows"] == 0 for one in tried)
    assert Bundle.load(path, plan=page).plan == EnginePlan.of_page(page)


@needs_openvino
@pytest.mark.slow
def test_after_the_first_trial_only_the_choice_is_tried_on_the_rows_at_hand(
    tmp_path: Any, patients: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with rows that it does not fit: then the graph in float32, torch's equal, is what is left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = _bundle(tmp_path, patients)
    wish = {"dtypes": ["bfloat16", "float32"]}
    first = choose(path, MANY, lambda: draw([patients]), **wish)
    again = choose(path, MANY, lambda: draw([patients.slice(20)]), **wish)
    (tried,) = again["trial"]["tried"]
    assert (first["dtype"], again["dtype"], tried["against"], tried["result"]) == (
        "bfloat16",
        "bfloat16",
        "openvino-cpu-float32",
        "chosen",
    )
    monkeypatch.setitem(choosing.BOUND, "bfloat16", 0.0)
    safer = choose(path, MANY, lambda: draw([patients]), **wish)
    assert (safer["engine"], safer["dtype"], safer["trial"]["tried"][0]["result"]) == ("openvino", "float32", "not exact enough")


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("by, left", [(300.0, "float32"), (1e6, None)])
def test_a_network_that_narrow_numbers_spoil_gets_the_next_safer_plan(tmp_path: Any, patients: pa.Table, by: float, left: str) -> None:
    path = _bundle(tmp_path, patients, change=shifted(by))
    page = choose(path, MANY, lambda: draw([patients]), dtypes=["bfloat16", "float32"])
    said = {one["dtype"]: one["result"] for one in page["trial"]["tried"]}
    assert said["bfloat16"] == "not exact enough"
    assert said["float32"] == ("chosen" if left else "not exact enough")
    assert (page.get("engine"), page["dtype"]) == ("openvino" if left else None, "float32")


@needs_openvino
@pytest.mark.slow
def test_twin_without_a_bound_decisions_flip(tmp_path: Any, patients: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choosing.BOUND, "bfloat16", np.inf)
    path = _bundle(tmp_path, patients, change=shifted(300.0))
    page = choose(path, MANY, lambda: draw([patients]), dtypes=["bfloat16"])
    assert page["dtype"] == "bfloat16" and page["trial"]["tried"][0]["difference"] > 0.05
    usual, fast = (Bundle.load(path, plan=plan).predict(patients) for plan in (None, page))
    assert np.abs(numbers(usual) - numbers(fast)).max() > 0.05


@needs_openvino
@pytest.mark.slow
def test_a_network_whose_graph_crashes_is_left_to_torch(tmp_path: Any, patients: pa.Table) -> None:
    """OpenVINO 2026.4 dies of a segmentation fault in compiling gated fusion; a later one may do it."""
    inputs = {"film": ImageInput(kind="image", size=16, optional=True), "table": TableInput(optional=True)}
    columns = {"table": ["size", "texture", "site"]}
    path = StoragePath.of(tmp_path / "gated")
    network_bundle(path, inputs, columns, patients, {"film": "cnn", "table": "mlp"}, fusion="gated")
    page = choose(path, MANY, lambda: draw([patients]), dtypes=["float32"])
    assert {one["result"] for one in page["trial"]["tried"]} <= {"it has no graph, or crashed", "chosen"}
    assert Bundle.load(path, plan=page).predict(patients)["status"].unique().to_pylist() == ["scored"]


def _answers(probability: list[float | None], decision: list[str | None], status: str = "scored") -> pa.Table:
    rows = len(probability)
    columns = {"probability": probability, "decision": decision, "status": [status] * rows, "error": pa.nulls(rows, pa.string())}
    return pa.table(columns)


def test_parity_is_the_largest_difference_the_flips_and_rows_that_fare_otherwise() -> None:
    usual = _answers([0.2, 0.5, None], ["no", "yes", None])
    assert compare(BINARY, usual, usual) == Parity(0.0, 0, 0)
    near = compare(BINARY, usual, _answers([0.2, 0.496, None], ["no", "no", None]))
    assert near.difference == pytest.approx(0.004) and near.flips == 1 and near.holds(0.005) and not near.holds(0.003)
    assert not compare(BINARY, usual, _answers([0.2, 0.5, None], ["no", "yes", None], "quarantined")).holds(1.0)
    page = HeadPage(kind="regression", mean=50.0, std=20.0)
    one, two = ({"value": [50.0], "low": [40.0], "high": [end], "status": ["scored"], "error": [None]} for end in (60.0, 62.0))
    assert compare(page, pa.table(one), pa.table(two)).difference == pytest.approx(0.1)


def test_probe_rows_are_drawn_by_seed_from_the_first_tables() -> None:
    tables = [pa.table({"x": np.arange(place * 750, (place + 1) * 750)}) for place in range(3)]
    seen = []

    def read() -> Any:
        for table in tables:
            seen.append(table)
            yield table

    found = draw(read())["x"].to_numpy()
    assert len(found) == 256 and len(seen) == 2 and (np.diff(found) > 0).all() and found.max() < 1024
    np.testing.assert_array_equal(draw(tables)["x"].to_numpy(), found)
    assert draw(tables[:1]).num_rows == 256 and draw([tables[0].slice(0, 5)]).num_rows == 5

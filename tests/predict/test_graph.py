"""meddx.predict.graph and kept: a network as a fixed graph answers as it does in torch, alone as among others; the cache is checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fast_helper import dtypes, needs_openvino, network_bundle, numbers, plan_page

from meddx.errors import BundleError
from meddx.inputs.options import ImageInput, TableInput
from meddx.predict import kept
from meddx.predict.bundle import Bundle
from meddx.predict.engine import EnginePlan
from meddx.predict.graph import Feed, NotAGraph, pack, unpack
from meddx.storage import StoragePath

FEEDS = [Feed("film", "pixels", (4, 1, 8, 8), "uint8"), Feed("film", "present", (4,), "bool")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def both(patients: Any, tmp_path_factory: pytest.TempPathFactory) -> StoragePath:
    """A picture and a table, each of which a case may lack."""
    inputs = {"film": ImageInput(kind="image", size=16, optional=True), "table": TableInput(optional=True)}
    path = StoragePath.of(tmp_path_factory.mktemp("graphs") / "both")
    columns = {"table": ["size", "texture", "site"]}
    return network_bundle(path, inputs, columns, patients, {"film": "cnn", "table": "mlp"})


def test_a_graph_is_read_as_it_was_written_and_not_with_one_bit_changed() -> None:
    data = pack(FEEDS, b"<net/>", b"\0\1\n\2")
    assert unpack(data) == (FEEDS, b"<net/>", b"\0\1\n\2")
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        with pytest.raises(NotAGraph):
            unpack(bytes(flipped))
    for cut in (0, 10, 79, len(data) - 1):
        with pytest.raises(NotAGraph):
            unpack(data[:cut])


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("dtype", dtypes())
@pytest.mark.parametrize("rows", [8, 64])
def test_a_graph_scores_one_row_as_it_scores_all(both: StoragePath, patients: Any, dtype: str, rows: int) -> None:
    usual, fast = Bundle.load(both), Bundle.load(both, plan=plan_page(rows, dtype))
    assert fast.plan == EnginePlan(rows, dtype, engine="openvino") and fast.digest == usual.digest  # type: ignore[arg-type]
    table = patients.set_column(patients.schema.get_field_index("image"), "image", _with_gaps(patients["image"]))
    everything = fast.predict(table, outputs=["embedding"])
    expected = usual.predict(table, outputs=["embedding"])
    assert everything["status"].equals(expected["status"])
    assert np.abs(numbers(everything) - numbers(expected)).max() < (1e-5 if dtype == "float32" else 5e-3)
    assert everything.schema == expected.schema
    for place in ([0], [7], [299], [5, 4, 250]):  # to the last bit
        assert fast.predict(table.take(place), outputs=["embedding"]).equals(everything.take(place))
    backwards = list(range(299, -1, -1))
    assert fast.predict(table.take(backwards), outputs=["embedding"]).take(backwards).equals(everything)
    one_thread = Bundle.load(both, plan={**plan_page(rows, dtype), "threads": 1})
    assert one_thread.predict(table, outputs=["embedding"]).equals(everything)


def _with_gaps(column: Any) -> Any:
    import pyarrow as pa

    return pa.array([None if place % 7 == 0 else one for place, one in enumerate(column.to_pylist())], pa.binary())


@needs_openvino
@pytest.mark.slow
def test_a_graph_hides_inputs_and_stands_beside_a_baseline_as_torch_does(both: StoragePath, patients: Any) -> None:
    usual, fast = Bundle.load(both), Bundle.load(both, plan=plan_page(64, "float32"))
    for without in (["film"], ["table"]):
        one, two = (numbers(bundle.predict(patients, without=without)) for bundle in (usual, fast))
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert fast.predict(patients.slice(0, 0)).equals(usual.predict(patients.slice(0, 0)))


@needs_openvino
@pytest.mark.slow
def test_a_damaged_graph_is_made_again_and_a_strange_folder_is_not_trusted(
    both: StoragePath, patients: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page = plan_page(64, "float32")
    expected = Bundle.load(both, plan=page).predict(patients)
    (file,) = (tmp_path / "meddx/engine").glob("*.graph")
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    assert Bundle.load(both, plan=page).predict(patients).equals(expected)
    assert file.read_bytes() == good and not [one for one in file.parent.iterdir() if one.name.startswith(".tmp-")]

    digest, plan = Bundle.load(both, plan=page).digest, EnginePlan.of_page(page)
    assert kept.read_kept(digest, plan) == good
    assert kept.read_kept("0" * 16, plan) is None and kept.read_kept(digest, replace(plan, batch_rows=8)) is None
    file.parent.chmod(0o777)
    assert kept.place_of(digest, plan) is None and kept.read_kept(digest, plan) is None


REFUSED = """
import sys
{before}
from meddx.errors import BundleError
from meddx.predict.bundle import Bundle
try:
    Bundle.load(sys.argv[1], plan={page})
except BundleError as error:
    print(error)
"""


def _said(both: StoragePath, before: str, page: dict[str, Any], **environment: str) -> str:
    command = [sys.executable, "-c", REFUSED.format(before=before, page=page), str(both)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, **environment})
    return done.stdout


@pytest.mark.slow
def test_a_plan_that_this_machine_cannot_obey_is_refused_by_name(both: StoragePath) -> None:
    gone = _said(both, "sys.modules['openvino'] = None", plan_page(64, "float32"))
    assert "openvino, which is not installed here" in gone and "meddx[fast]" in gone


@needs_openvino
@pytest.mark.slow
def test_a_processor_without_bfloat16_is_refused_by_name(both: StoragePath) -> None:
    old = _said(both, "", plan_page(64, "bfloat16"), OV_CPU_MAX_ISA="AVX2")
    assert "bfloat16, which this processor cannot" in old and "AVX512_BF16" in old
    assert _said(both, "", plan_page(64, "float32"), OV_CPU_MAX_ISA="AVX2") == ""


SCRIPT = """
import json, sys
from meddx.predict.bundle import Bundle
bundle = Bundle.load(sys.argv[1], plan=json.loads(sys.argv[2]))
found = bundle.predict([{"size": 0.1, "texture": None, "site": "north"}])
assert found["status"].to_pylist() == ["scored"], found
print(sorted(name for name in ("torch", "ray", "openvino_telemetry", "openvino.tools.ovc") if name in sys.modules))
"""


@needs_openvino
@pytest.mark.slow
def test_a_kept_graph_needs_no_torch_and_nothing_is_sent_or_left_at_home(both: StoragePath, tmp_path: Path) -> None:
    page = plan_page(8, "float32")
    Bundle.load(both, plan=page)
    command = [sys.executable, "-c", SCRIPT, str(both), json.dumps(page)]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_openvino
@pytest.mark.slow
def test_twin_the_package_imported_plainly_loads_what_sends_messages() -> None:
    """The twin looks, and lets nothing out: the sender is replaced before it can run."""
    script = "import sys; sys.modules['openvino_telemetry'] = None; import openvino; print('openvino.tools.ovc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "True"


@needs_openvino
@pytest.mark.slow
def test_rows_of_another_shape_never_reach_the_graph(both: StoragePath, patients: Any) -> None:
    fast = Bundle.load(both, plan=plan_page(8, "float32"))
    prepared = fast.preparations.transform(patients.slice(0, 5))
    with pytest.raises(BundleError, match="another shape than its graph"):
        fast.predictor.run(prepared)

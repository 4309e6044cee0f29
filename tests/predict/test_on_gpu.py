"""Networks on a GPU: obeyed by plan, refused by name where there is none, equal to the processor where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fast_helper import network_bundle, numbers

from meddx.errors import BundleError, RecipeError
from meddx.inputs.options import ImageInput
from meddx.predict import gpus
from meddx.predict.bundle import Bundle
from meddx.predict.choose import choose, draw, plans_for
from meddx.predict.engine import EnginePlan
from meddx.score import device
from meddx.score.options import ScoringOptions
from meddx.score.run import score
from meddx.storage import StoragePath

THERE = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not THERE, reason="this machine has no GPU")


@pytest.fixture
def path(tmp_path: Path, patients: pa.Table) -> StoragePath:
    return network_bundle(StoragePath.of(tmp_path / "b"), {"film": ImageInput(kind="image", size=16)}, {}, patients, {"film": "cnn"})


def test_a_plan_names_the_device_only_where_it_is_not_the_usual_one() -> None:
    assert "device" not in EnginePlan().page()
    plan = EnginePlan(batch_rows=512, device="cuda", dtype="bfloat16")
    assert plan.page()["device"] == "cuda" and EnginePlan.of_page(plan.page()) == plan
    for other in ({"device": "tpu"}, {"device": "cuda", "engine": "openvino"}):
        with pytest.raises(BundleError, match="not known here"):
            EnginePlan.of_page(plan.page() | other)


def test_a_gpu_is_tried_with_more_rows_at_once_from_fast_to_safe() -> None:
    tried = plans_for(EnginePlan(batch_rows=64), "cuda")
    assert [(one.device, one.dtype, one.batch_rows) for one in tried] == [("cuda", "bfloat16", 1024), ("cuda", "float32", 1024)]


@pytest.mark.skipif(THERE, reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_refused_by_name(path: StoragePath) -> None:
    with pytest.raises(BundleError, match="on a GPU, and CUDA finds none here"):
        Bundle.load(path, plan=EnginePlan(device="cuda").page())
    assert gpus.names() == [] and device.asked("auto") == "cpu"


def test_a_device_is_one_of_three_words() -> None:
    assert [device.asked(word) for word in ("cpu", "cuda")] == ["cpu", "cuda"]
    with pytest.raises(RecipeError, match="'gpu' is no device"):
        device.asked("gpu")


def test_a_wrong_word_is_refused_before_ray_is_started(path: StoragePath, tmp_path: Path) -> None:
    out = StoragePath.of(tmp_path / "out")
    with pytest.raises(RecipeError, match="'gpu' is no device"):
        score(path, path, out, options=ScoringOptions(), workers=2, device="gpu")
    assert not out.exists()


@needs_gpu
@pytest.mark.parametrize("dtype, bound", [("float32", 1e-4), ("bfloat16", 5e-3)])
def test_it_answers_as_the_processor_does(path: StoragePath, patients: pa.Table, dtype: str, bound: float) -> None:
    plan = EnginePlan(batch_rows=64, device="cuda", dtype=dtype)  # type: ignore[arg-type]
    bundle = Bundle.load(path, plan=plan.page())
    usual, found = Bundle.load(path).predict(patients), bundle.predict(patients, outputs=["embedding"])
    assert np.abs(numbers(usual) - numbers(found)).max() < bound
    assert bundle.predict(patients.slice(70, 1), outputs=["embedding"]).equals(found.slice(70, 1))


@needs_gpu
def test_it_is_chosen_where_it_is_faster(path: StoragePath, patients: pa.Table) -> None:
    page: dict[str, Any] = choose(path, 10**9, lambda: draw([patients]), device="cuda")
    assert {one["device"] for one in page["trial"]["tried"]} == {"cuda"} and len(page["trial"]["tried"]) == 2
    assert EnginePlan.of_page(page) in {*plans_for(Bundle.load(path).plan, "cuda"), Bundle.load(path).plan}

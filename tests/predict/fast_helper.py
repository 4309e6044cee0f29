"""Bundles to run as graphs, and whether this machine can."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from predict_helper import HEADS

from meddx.dataset.options import CohortOptions
from meddx.inputs.prepare import Preparations, fit
from meddx.models.options import EncoderOptions, FusionOptions, ModelOptions
from meddx.predict.bundle import write_bundle
from meddx.predict.networks import NetworkParts
from meddx.storage import StoragePath

HERE = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HERE, reason="openvino is not installed: pip install 'meddx[fast]'")
THRESHOLD = {"value": 0.5, "goal": "youden", "confidence": None, "reached": {}}


def dtypes() -> list[str]:
    """What this processor multiplies natively."""
    if not HERE:
        return ["float32"]
    from meddx.predict.graph import capabilities

    return ["float32", *(["bfloat16"] if "BF16" in capabilities() else [])]


def plan_page(rows: int, dtype: str) -> dict[str, Any]:
    return {"batch_rows": rows, "dtype": dtype, "channels_last": True, "threads": None, "engine": "openvino"}


Change = Callable[[dict[str, Any]], None]


def network_bundle(
    path: StoragePath,
    inputs: Mapping[str, Any],
    columns: Mapping[str, list[str]],
    table: pa.Table,
    encoders: Mapping[str, str],
    *,
    kind: str = "binary",
    fusion: str = "concat",
    change: Change | None = None,
) -> StoragePath:
    """An untrained network as a bundle; `change` edits its weights."""
    import torch

    from meddx.models.build import build_model

    preparations: Preparations = fit(dict(inputs), columns, table)
    options = ModelOptions(hidden=16, fusion=FusionOptions(kind=fusion))  # type: ignore[arg-type]
    nets = {name: EncoderOptions(kind=one) for name, one in encoders.items()}
    torch.manual_seed(0)
    weights = dict(build_model(options, nets, preparations.specs(), HEADS[kind]).state_dict())
    if change is not None:
        change(weights)
    parts = NetworkParts(options.model_dump(mode="json"), {name: one.model_dump(mode="json") for name, one in nets.items()}, weights)
    write_bundle(
        path, name="net", head=HEADS[kind], preparations=preparations, predictor=parts,
        calibration={"kind": "none"}, threshold=THRESHOLD, cohort=CohortOptions(), target={}, about={},
    )  # fmt: skip
    return path


def shifted(by: float) -> Change:
    """Weights that answer as before, but from hidden values near `by`: narrow numbers lose what counts."""

    def change(weights: dict[str, Any]) -> None:
        weights["dense.0.bias"] = weights["dense.0.bias"] + by
        (answer,) = [name for name in weights if name.startswith("answer") and name.endswith("weight")]
        bias = answer.replace("weight", "bias")
        weights[bias] = weights[bias] - by * weights[answer].sum(1)

    return change


def numbers(table: pa.Table, name: str = "probability") -> np.ndarray:
    found: np.ndarray = table[name].to_numpy(zero_copy_only=False)
    return found

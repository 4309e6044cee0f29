"""Heads, untrained networks, and bundles that an attacker has changed and signed again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from meddx.inputs.prepare import Preparations
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.predict.networks import NetworkParts
from meddx.storage import StoragePath
from meddx.yamlconf import canonical

HEADS = {
    "binary": {"kind": "binary", "classes": ["benign", "malignant"]},
    "multiclass": {"kind": "multiclass", "classes": ["grade 1", "grade 2", "grade 3"]},
    "multilabel": {"kind": "multilabel", "classes": ["oedema", "effusion"]},
    "ordinal": {"kind": "ordinal", "classes": ["grade 1", "grade 2", "grade 3"]},
    "regression": {"kind": "regression", "classes": [], "mean": 50.0, "std": 20.0},
}


def network_parts(preparations: Preparations, head: dict[str, Any], kind: str, offset: list[float] | None = None) -> NetworkParts:
    import torch

    from meddx.models.build import build_model

    encoders = {name: EncoderOptions(kind=kind) for name in preparations.names}
    torch.manual_seed(0)
    model = build_model(ModelOptions(hidden=16), encoders, preparations.specs(), head)
    return NetworkParts(
        ModelOptions(hidden=16).model_dump(mode="json"),
        {name: one.model_dump(mode="json") for name, one in encoders.items()},
        model.state_dict(),
        offset,
    )


def sign_again(path: StoragePath) -> None:
    """The attacker knows how digests work."""
    names = [info.path.name for info in path.list() if info.path.name != "digests.json"]
    listed = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    (path / "digests.json").replace(canonical(listed).encode())


def edit(path: StoragePath, **changes: Any) -> None:
    page = json.loads((path / "bundle.json").read_text())
    page.update(changes)
    (path / "bundle.json").replace(json.dumps(page).encode())
    sign_again(path)

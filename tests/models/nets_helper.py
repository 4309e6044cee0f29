"""Specs, random batches and a user's own network for the tests of models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

HEAD = {"kind": "binary", "classes": ["no", "yes"]}


def image_spec(size: int = 28, channels: int = 1, full: int = 255, optional: bool = False) -> dict[str, Any]:
    return {
        "kind": "image",
        "optional": optional,
        "channels": channels,
        "size": size,
        "max": full,
        "mean": [0.5] * channels,
        "std": [0.25] * channels,
    }


def table_spec(optional: bool = False) -> dict[str, Any]:
    return {
        "kind": "table",
        "optional": optional,
        "numbers": 3,
        "names": ["a", "b", "c"],
        "categories": [4, 130],
        "category_names": ["d", "e"],
    }


def signal_spec(optional: bool = False, steps: int = 50) -> dict[str, Any]:
    return {"kind": "signal", "optional": optional, "leads": 2, "steps": steps, "rate": 100.0, "summary_names": []}


def events_spec(optional: bool = False) -> dict[str, Any]:
    return {"kind": "events", "optional": optional, "steps": 12, "variables": 3, "names": ["a", "b", "c"], "summary_names": []}


def text_spec(optional: bool = False) -> dict[str, Any]:
    return {"kind": "text", "optional": optional, "tokens": 20, "words": 30}


def random_sequence(spec: dict[str, Any], rows: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Lengths from 0 (first row) to all (second row); events have all their steps."""
    if spec["kind"] == "events":
        shape = (rows, spec["steps"], spec["variables"])
        return {name: torch.randn(shape, generator=draw) for name in ("values", "seen", "since")}
    most = spec["tokens"] if spec["kind"] == "text" else spec["steps"]
    length = torch.randint(1, most + 1, (rows,), generator=draw, dtype=torch.int32)
    length[:2] = torch.tensor([0, most])[:rows]
    if spec["kind"] == "text":
        tokens = torch.randint(1, spec["words"], (rows, most), generator=draw, dtype=torch.int32)
        return {"tokens": tokens * (torch.arange(most) < length[:, None]), "length": length}
    samples = torch.randn(rows, spec["leads"], most, generator=draw)
    return {"samples": samples * (torch.arange(most) < length[:, None])[:, None], "length": length}


def random_inputs(spec: dict[str, Any], rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    if spec["kind"] in ("signal", "events", "text"):
        return random_sequence(spec, rows, draw)
    if spec["kind"] == "table":
        codes = torch.stack([torch.randint(0, levels, (rows,), generator=draw) for levels in spec["categories"]], 1)
        return {"numbers": torch.randn(rows, 3, generator=draw), "missing": torch.zeros(rows, 3), "codes": codes}
    pixels = torch.randint(0, spec["max"] + 1, (rows, spec["channels"], spec["size"], spec["size"]), generator=draw)
    return {"pixels": pixels.to(torch.uint8 if spec["max"] == 255 else torch.uint16)}


class Mean(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_features = width
        self.dense = nn.Linear(1, width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dense(pixels.float().mean((1, 2, 3), keepdim=False)[:, None])
        return out


def own(spec: dict[str, Any], width: int = 5) -> nn.Module:
    return Mean(width)


def own_needs(spec: dict[str, Any], *, width: int) -> nn.Module:
    return Mean(width)


def no_width(spec: dict[str, Any]) -> nn.Module:
    return nn.Flatten()


def no_module(spec: dict[str, Any]) -> str:
    return "network"


NOT_CALLABLE = 3

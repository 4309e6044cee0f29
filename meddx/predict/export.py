"""A torch network in, the same as a fixed graph for one planned shape out: weights and operations, no code."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from meddx.inputs.prepare import Preparations
from meddx.inputs.types import Prepared
from meddx.predict.engine import EnginePlan, example
from meddx.predict.graph import PRESENT, Feed, openvino, pack
from meddx.predict.manifest import Column

WIDER = {"uint16": "float32", "uint32": "float64"}  # no operation of the graph takes the first; all its values fit the second


class _Flat(nn.Module):
    """The network with one argument an array."""

    def __init__(self, model: Any, feeds: Sequence[Feed]) -> None:
        super().__init__()
        self.model, self.places = model, [(one.input, one.array) for one in feeds]

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        batch: dict[str, dict[str, Tensor]] = {}
        for (name, array), value in zip(self.places, values, strict=True):
            batch.setdefault(name, {})[array] = value
        features = self.model.embed(batch)
        return self.model.answer(features), features


def export(model: nn.Module, preparations: Preparations, columns: Sequence[Column], plan: EnginePlan) -> bytes:
    """The graph of `model` for batches of `plan.batch_rows` rows, as `Graph` reads it.

    Raises whatever torch and OpenVINO raise about a network whose way hangs on its values, and may crash in native code:
    call it where that does no harm.
    """
    feeds, values = _arguments(example(preparations, columns, plan.batch_rows))
    flat = _Flat(model.eval(), feeds).eval()
    ov = openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    with torch.no_grad(), _quiet():
        program = torch.export.export(flat, tuple(values))
        decoder = TorchFXPythonDecoder.from_exported_program(program, dynamic_shapes=False)
        front = FrontEndManager().load_by_framework("pytorch")
        graph = front.convert(front.load(decoder))
    if len(graph.inputs) != len(feeds) or len(graph.outputs) != 2 or graph.is_dynamic():
        raise ValueError("the graph has other inputs than the network")
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder) / "graph.xml", Path(folder) / "graph.bin"
        ov.serialize(graph, xml, weights)
        return pack(feeds, xml.read_bytes(), weights.read_bytes())


def _arguments(batch: Mapping[str, Prepared]) -> tuple[list[Feed], list[Tensor]]:
    feeds, values = [], []
    for name, one in batch.items():
        for array, numbers in {**one.arrays, PRESENT: one.present}.items():
            dtype = WIDER.get(str(numbers.dtype), str(numbers.dtype))
            feeds.append(Feed(name, array, numbers.shape, dtype))
            values.append(torch.from_numpy(np.ascontiguousarray(numbers, dtype)))
    return feeds, values


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's remarks about torch's tables of operations."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

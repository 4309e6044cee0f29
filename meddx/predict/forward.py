"""A torch network and a plan in, what runs one batch of the planned shape out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meddx.inputs.types import Prepared
from meddx.predict.engine import EnginePlan

Run = Callable[[Mapping[str, Prepared]], list[NDArray[np.float32]]]


@contextmanager
def torch_forward(model: Any, plan: EnginePlan, embed: bool) -> Iterator[Run]:
    """Batch to [logits [n, k]], and with `embed` the features [n, hidden]: on the model's device, in evaluation mode; its own mode and
    torch's threads are put back."""
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    narrow = plan.dtype == "bfloat16"
    was_training = model.training

    def run(batch: Mapping[str, Prepared]) -> list[NDArray[np.float32]]:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            return [one.float().cpu().numpy() for one in _forward(model, _tensors(batch, plan, device), embed)]

    model.eval()
    try:
        with _threads(plan.threads):
            yield run
    finally:
        model.train(was_training)


def _forward(model: Any, batch: dict[str, dict[str, Tensor]], embed: bool) -> tuple[Tensor, ...]:
    if not embed:
        return (model(batch),)
    if hasattr(model, "both"):  # tags: the answer hangs on each word, the features are their mean
        logits, features = model.both(batch)
        return logits, features
    features = model.embed(batch)
    return model.answer(features), features


def _tensors(batch: Mapping[str, Prepared], plan: EnginePlan, device: Any) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, one in batch.items():
        arrays = {key: torch.from_numpy(np.ascontiguousarray(values)).to(device) for key, values in one.arrays.items()}
        for key, values in arrays.items():
            if plan.channels_last and values.ndim == 4:
                arrays[key] = values.contiguous(memory_format=torch.channels_last)
        found[name] = {**arrays, "present": torch.from_numpy(one.present).to(device)}
    return found


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if wanted is not None and wanted != before:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)

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

PRESENT = "present"
Run = Callable[[Mapping[str, Prepared]], list[NDArray[np.float32]]]


@contextmanager
def torch_forward(model: Any, plan: EnginePlan, embed: bool) -> Iterator[Run]:
    """Batch to [logits [n, k]], and with `embed` the features [n, hidden]: on the model's device, in evaluation mode; its own mode and
    torch's threads are put back.  On a GPU the arrays are filled when the block ends: until then batches are on their way."""
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    narrow = plan.dtype == "bfloat16"
    was_training = model.training
    road = _Road(device) if device.type == "cuda" else None

    def run(batch: Mapping[str, Prepared]) -> list[NDArray[np.float32]]:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            found = [one.float() for one in _forward(model, _tensors(batch, plan, road), embed)]
            return [one.numpy() if road is None else road.home(one) for one in found]

    model.eval()
    try:
        with _threads(plan.threads), _exact(device):
            yield run
            if road is not None:
                road.wait()
    finally:
        model.train(was_training)


class _Road:
    """The way to a GPU and back through pinned memory: batches are copied in a stream of their own while the one before is computed."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._copies = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def there(self, values: Tensor) -> Tensor:
        main = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            moved = values.pin_memory().to(self._device, non_blocking=True)
        main.wait_stream(self._copies)
        moved.record_stream(main)
        return moved

    def home(self, values: Tensor) -> NDArray[np.float32]:
        """An array that is filled once `wait` has returned."""
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        return host.numpy()

    def wait(self) -> None:
        torch.cuda.current_stream(self._device).synchronize()


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Convolutions in float32 are that, also on a GPU: by default cuDNN rounds their factors to 10 bits (TF32)."""
    before = torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _forward(model: Any, batch: dict[str, dict[str, Tensor]], embed: bool) -> tuple[Tensor, ...]:
    if not embed:
        return (model(batch),)
    if hasattr(model, "both"):  # tags: the answer hangs on each word, the features are their mean
        logits, features = model.both(batch)
        return logits, features
    features = model.embed(batch)
    return model.answer(features), features


def _tensors(batch: Mapping[str, Prepared], plan: EnginePlan, road: _Road | None) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, one in batch.items():
        arrays = {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in {**one.arrays, PRESENT: one.present}.items()}
        if road is not None:
            arrays = {key: road.there(values) for key, values in arrays.items()}
        for key, values in arrays.items():
            if plan.channels_last and values.ndim == 4:
                arrays[key] = values.contiguous(memory_format=torch.channels_last)
        found[name] = arrays
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

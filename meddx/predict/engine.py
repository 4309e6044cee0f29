"""Prepared arrays in, logits out: forwards of one planned shape, so that a case's answer does not hang on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from meddx.inputs.types import Prepared

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = NDArray[np.float64]
TABLE_ROWS = 256
ELEMENTS = 1 << 18  # of one batch: pixels, samples, values; what stays in the caches of a usual processor
WORD = 64  # numbers that a word becomes in the network
AT_ONCE = 4096  # rows prepared together, at most
AT_ONCE_BYTES = 64 << 20  # of long texts and volumes, and of their logits
PICTURES = 4  # of a case with several, where the spec does not say how many


@dataclass(frozen=True)
class EnginePlan:
    """How forwards run.  Chosen once and kept with the predictions, for each of these can change the last bits.

    `batch_rows`: rows of every forward; `threads`: of one forward, None as torch has it in this process, 1 for a baseline.
    """

    batch_rows: int = TABLE_ROWS
    dtype: Literal["float32"] = "float32"
    channels_last: bool = True
    threads: int | None = None


def plan_for(specs: Mapping[str, Mapping[str, Any]]) -> EnginePlan:
    """The usual plan for inputs with these specs: 256 rows, fewer (a power of two, at least 8) where a case is large.

    Volumes go down to 1 row: the first layer of a 3D network holds some 16 to 64 copies of each.
    """
    elements = sum(elements_of(spec) for spec in specs.values())
    rows, least = TABLE_ROWS, 1 if any(spec["kind"] == "volume" for spec in specs.values()) else 8
    while rows > least and rows * elements > ELEMENTS:
        rows //= 2
    return EnginePlan(batch_rows=rows)


def rows_at_once(plan: EnginePlan, specs: Mapping[str, Mapping[str, Any]], logits: int) -> int:
    """Rows that are prepared together: a power of two and so a multiple of the plan's batch; fewer where a case or its logits are large."""
    large = [elements_of(spec) for spec in specs.values() if spec["kind"] in ("tokens", "volume")]
    size = 4 * sum(large) + 8 * logits
    rows = AT_ONCE
    while rows > plan.batch_rows and rows * size > AT_ONCE_BYTES:
        rows //= 2
    return rows


def elements_of(spec: Mapping[str, Any]) -> int:
    """Numbers that one case brings to the network; a table's few count as none."""
    match spec["kind"]:
        case "image":
            pictures = int(spec.get("items") or PICTURES) if spec.get("many") in ("mean", "max", "attention") else 1
            return pictures * int(spec["channels"]) * int(spec["size"]) ** 2
        case "volume":
            depth, height, width = (int(side) for side in spec["size"])
            return int(spec["channels"]) * depth * height * width
        case "signal":
            return int(spec["leads"]) * int(spec["steps"])
        case "events":
            return int(spec["steps"]) * int(spec["variables"])
        case "text" | "tokens":
            return int(spec["tokens"]) * WORD
    return 0


def network_logits(
    model: nn.Module, prepared: Mapping[str, Prepared], plan: EnginePlan | int, offset: Sequence[float] | None = None
) -> Floats:
    """Logits [n, k] of the prepared rows, on the model's device, in evaluation mode (the model's own mode is put back).

    `plan` may be just the rows of a batch; `offset` [k] is added.  Rows with an error must have been taken out before.
    """
    return network_features(model, prepared, plan, offset, embed=False)[0]


def network_features(
    model: nn.Module,
    prepared: Mapping[str, Prepared],
    plan: EnginePlan | int,
    offset: Sequence[float] | None = None,
    *,
    embed: bool = True,
) -> tuple[Floats, NDArray[np.float32]]:
    """(logits as `network_logits`, float32 [n, hidden] what the network makes of each case before its answer layer).

    One forward gives both.  Without `embed` the second has no columns.
    """
    import torch

    plan = EnginePlan(batch_rows=plan) if isinstance(plan, int) else plan
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), _threads(plan.threads):
            found = [
                [one.float().cpu().numpy()[:rows] for one in _forward(model, _tensors(batch, plan, device), embed)]
                for batch, rows in batches(prepared, plan.batch_rows)
            ]
    finally:
        model.train(was_training)
    logits = _joined([one[0].astype(np.float64) for one in found])
    features = np.concatenate([one[1] for one in found]) if embed and found else np.zeros((len(logits), 0), np.float32)
    return (logits + np.asarray(offset, np.float64) if offset is not None and len(logits) else logits), features


def _forward(model: Any, batch: dict[str, dict[str, Tensor]], embed: bool) -> tuple[Tensor, ...]:
    if not embed:
        return (model(batch),)
    if hasattr(model, "both"):  # tags: the answer hangs on each word, the features are their mean
        logits, features = model.both(batch)
        return logits, features
    features = model.embed(batch)
    return model.answer(features), features


def estimator_logits(
    estimator: Any, head: dict[str, Any], specs: Mapping[str, dict[str, Any]], prepared: Mapping[str, Prepared], plan: EnginePlan
) -> Floats:
    """Logits [n, k] of a baseline, in batches of the planned shape: BLAS too rounds by the shape.

    One thread unless the plan says more: a batch is too small to share, and threads that wait for each other on busy
    processors took seconds instead of milliseconds.
    """
    from threadpoolctl import threadpool_limits

    from meddx.models.baselines import baseline_logits

    with threadpool_limits(plan.threads or 1):
        return _joined([
            np.asarray(baseline_logits(estimator, head, specs, batch), np.float64)[:rows]
            for batch, rows in batches(prepared, plan.batch_rows)
        ])  # fmt: skip


def both_logits(network: Floats, beside: Floats) -> Floats:
    """The mean of a network's logits [n, k], its offset added, and those of the baseline beside it.

    A geometric mean of the two probabilities, normalised (Genest and Zidek, "Combining probability distributions", Statistical
    Science 1 (1986) 114: the logarithmic opinion pool); calibration, fitted on this mean, settles its slope.
    """
    return (network + beside) / 2


def batches(prepared: Mapping[str, Prepared], rows: int) -> Iterator[tuple[dict[str, Prepared], int]]:
    """(exactly `rows` rows, how many of them count): the last batch is filled up with the first row of all."""
    total = len(next(iter(prepared.values())).present)
    for start in range(0, total, rows):
        take = np.zeros(rows, np.int64)
        real = min(rows, total - start)
        take[:real] = np.arange(start, start + real)
        yield {name: select(one, take) for name, one in prepared.items()}, real


def select(prepared: Prepared, rows: NDArray[Any]) -> Prepared:
    """Some rows (positions or a mask), without the errors."""
    arrays, aside = ({name: values[rows] for name, values in of.items()} for of in (prepared.arrays, prepared.aside))
    return Prepared(arrays, prepared.present[rows], aside=aside)


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def _tensors(batch: Mapping[str, Prepared], plan: EnginePlan, device: Any) -> dict[str, dict[str, Tensor]]:
    import torch

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
    import torch

    before = torch.get_num_threads()
    if wanted is not None and wanted != before:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)

"""Prepared arrays in, logits out: forwards of one planned shape, so that a case's answer does not hang on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.errors import BundleError
from meddx.inputs.types import Prepared

if TYPE_CHECKING:
    from torch import nn

    from meddx.inputs.prepare import Preparations
    from meddx.predict.graph import Graph
    from meddx.predict.manifest import Column

Floats = NDArray[np.float64]
TABLE_ROWS = 256
# rows a second of 30 columns: logistic 161,000 in batches of 256, 1,730,000 in these; boosting 46,000 in 256, 140,000 in 4,096
BASELINES, BASELINE_ROWS = frozenset({"prevalence", "logistic", "linear", "boosting", "forest"}), 16_384
BASELINE_NUMBERS = 1 << 20  # of one batch of a baseline: rows times columns
ELEMENTS = 1 << 18  # of one batch: pixels, samples, values; what stays in the caches of a usual processor
WORD = 64  # numbers that a word becomes in the network
AT_ONCE = 4096  # rows of tables prepared together
AT_ONCE_BATCHES = 2  # of anything that is slower to prepare: the next ones are prepared while these are in the network
AT_ONCE_BYTES = 64 << 20  # of long texts and volumes, and of their logits
PICTURES = 4  # of a case with several, where the spec does not say how many
TRIAL = "trial"  # what the choice was made by stands beside the plan
USUAL = {"engine": "torch", "device": "cpu"}


@dataclass(frozen=True)
class EnginePlan:
    """How forwards run.  Chosen once and kept with the predictions, for each of these can change the last bits.

    `batch_rows`: rows of every forward; `threads`: of one forward, None as this process has them, 1 for a baseline;
    `engine`: what runs a network (a baseline runs as it is); `dtype`: in which numbers; `device`: where torch runs it.
    """

    batch_rows: int = TABLE_ROWS
    dtype: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    threads: int | None = None
    engine: Literal["torch", "openvino"] = "torch"
    device: Literal["cpu", "cuda"] = "cpu"

    def page(self) -> dict[str, Any]:
        """As JSON.  The usual engine and device are not named, as in the plans from before there were others."""
        return {name: value for name, value in asdict(self).items() if name not in USUAL or USUAL[name] != value}

    @classmethod
    def of_page(cls, page: Mapping[str, Any]) -> EnginePlan:
        """The plan that `page` described.  BundleError where this version does not know it whole: half a plan gives other bits."""
        given = {name: value for name, value in page.items() if name != TRIAL}
        plan = cls(**{one.name: given.pop(one.name) for one in fields(cls) if one.name in given})
        good = plan.engine in ("torch", "openvino") and plan.dtype in ("float32", "bfloat16") and isinstance(plan.channels_last, bool)
        good = good and (plan.device == "cpu" or (plan.device == "cuda" and plan.engine == "torch"))
        counts = [plan.batch_rows] if plan.threads is None else [plan.batch_rows, plan.threads]
        if given or not good or not all(isinstance(one, int) and one > 0 for one in counts):
            raise BundleError("the plan of these predictions is not known here", "engine", "use the meddx that began them, or score anew")
        return plan


def plan_for(specs: Mapping[str, Mapping[str, Any]], baseline: str | None = None) -> EnginePlan:
    """The usual plan for inputs with these specs: 256 rows, fewer, a power of two, where a case is large; at least 8.

    `baseline`: its kind where one answers instead of a network: scikit-learn takes longer to begin than to answer, so it gets more
    rows of a table.  Volumes go down to 1 row: the first layer of a 3D network holds some 16 to 64 copies of each.
    """
    elements = sum(elements_of(spec) for spec in specs.values())
    columns = sum(int(spec.get("numbers", 0)) + sum(spec.get("categories", ())) for spec in specs.values() if spec["kind"] == "table")
    rows = BASELINE_ROWS if baseline in BASELINES else TABLE_ROWS
    while rows > TABLE_ROWS and rows * columns > BASELINE_NUMBERS:
        rows //= 2
    least = 1 if any(spec["kind"] == "volume" for spec in specs.values()) else 8
    while rows > least and rows * elements > ELEMENTS:
        rows //= 2
    return EnginePlan(batch_rows=rows)


def plan_of_page(specs: Mapping[str, Mapping[str, Any]], predictor: Mapping[str, Any]) -> EnginePlan:
    """The usual plan of a bundle; `predictor`: what its manifest says of it."""
    return plan_for(specs, predictor.get("kind"))


def rows_at_once(plan: EnginePlan, specs: Mapping[str, Mapping[str, Any]], logits: int) -> int:
    """Rows that are prepared together: a power of two times the plan's batch; fewer where a case or its logits are large."""
    large = [elements_of(spec) for spec in specs.values() if spec["kind"] in ("tokens", "volume")]
    size = 4 * sum(large) + 8 * logits
    rows = max(AT_ONCE, plan.batch_rows)
    if any(spec["kind"] != "table" for spec in specs.values()):
        rows = AT_ONCE_BATCHES * plan.batch_rows
    while rows > plan.batch_rows and rows * size > AT_ONCE_BYTES:
        rows //= 2
    return max(rows, plan.batch_rows)


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


def example(preparations: Preparations, columns: Sequence[Column], rows: int) -> dict[str, Prepared]:
    """A batch of a case of which nothing is known: its arrays have the shapes and types of any other."""
    nothing = pa.table({column.name: pa.nulls(1) for column in columns})
    return next(batches(preparations.transform(nothing), rows))[0]


def network_logits(
    model: nn.Module | Graph, prepared: Mapping[str, Prepared], plan: EnginePlan | int, offset: Sequence[float] | None = None
) -> Floats:
    """Logits [n, k] of the prepared rows, on the model's device, in evaluation mode (the model's own mode is put back).

    `plan` may be just the rows of a batch; `offset` [k] is added.  Rows with an error must have been taken out before.
    """
    return network_features(model, prepared, plan, offset, embed=False)[0]


def network_features(
    model: nn.Module | Graph,
    prepared: Mapping[str, Prepared],
    plan: EnginePlan | int,
    offset: Sequence[float] | None = None,
    *,
    embed: bool = True,
) -> tuple[Floats, NDArray[np.float32]]:
    """(logits as `network_logits`, float32 [n, hidden] what the network makes of each case before its answer layer).

    One forward gives both.  Without `embed` the second has no columns.
    """
    plan = EnginePlan(batch_rows=plan) if isinstance(plan, int) else plan
    if plan.engine == "torch":
        from meddx.predict.forward import torch_forward as forward
    else:
        from meddx.predict.graph import graph_forward as forward
    with forward(model, plan, embed) as run:
        found = [[one[:rows] for one in run(batch)] for batch, rows in batches(prepared, plan.batch_rows)]
    logits = _joined([one[0].astype(np.float64) for one in found])
    features = np.concatenate([one[1] for one in found]) if embed and found else np.zeros((len(logits), 0), np.float32)
    return (logits + np.asarray(offset, np.float64) if offset is not None and len(logits) else logits), features


def estimator_logits(
    estimator: Any, head: dict[str, Any], specs: Mapping[str, dict[str, Any]], prepared: Mapping[str, Prepared], plan: EnginePlan
) -> Floats:
    """Logits [n, k] of a baseline, in batches of the planned shape: BLAS too rounds by the shape.

    One thread unless the plan says more: a batch is too small to share, and threads that wait for each other on busy
    processors took seconds instead of milliseconds.
    """
    from meddx.models.baselines import baseline_logits

    with _libraries().limit(limits=plan.threads or 1):
        return _joined([
            np.asarray(baseline_logits(estimator, head, specs, batch, rows), np.float64)[:rows]
            for batch, rows in batches(prepared, plan.batch_rows)
        ])  # fmt: skip


@cache
def _libraries() -> Any:
    """The libraries with threads of their own, found once: looking for them reads the map of the process, which took a tenth of the time.

    By the time a baseline answers it has been built, so BLAS and OpenMP are there.
    """
    import sklearn.utils._openmp_helpers  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


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
        real = min(rows, total - start)
        if real == rows:
            yield {name: select(one, slice(start, start + rows)) for name, one in prepared.items()}, real
            continue
        take = np.zeros(rows, np.int64)
        take[:real] = np.arange(start, start + real)
        yield {name: select(one, take) for name, one in prepared.items()}, real


def select(prepared: Prepared, rows: NDArray[Any] | slice) -> Prepared:
    """Some rows (positions, a mask or a slice), without the errors."""
    arrays, aside = ({name: values[rows] for name, values in of.items()} for of in (prepared.arrays, prepared.aside))
    return Prepared(arrays, prepared.present[rows], aside=aside)


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros((0, 0))

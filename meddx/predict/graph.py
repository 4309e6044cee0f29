"""A network as a fixed graph in, its logits out: OpenVINO runs it, torch is not imported.

The bytes of a graph: a line of magic, the SHA-256 of all that follows, a line of JSON that says which array goes where, then
OpenVINO's own two files.  Read as they are: no code, no pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import BundleError
from meddx.inputs.types import Prepared
from meddx.predict.engine import EnginePlan

MAGIC = b"meddx graph 1\n"
HIDDEN = ("openvino.tools.ovc", "openvino_telemetry")
INSTALL = 'pip install "meddx[fast]" on every machine, or score into another folder'
PRESENT = "present"


class NotAGraph(ValueError):
    """The bytes are not those that were written."""


@dataclass(frozen=True)
class Feed:
    """One argument of the graph: an array of an input, how long each of its axes is, and the type that it is fed as."""

    input: str
    array: str
    shape: tuple[int, ...]
    dtype: str


@cache
def openvino() -> Any:
    """The package without its converter: importing that sends a message to its maker, and writes an identifier into the home folder.

    What it cannot import it does without.  BundleError where it is not installed.
    """
    hidden = [name for name in HIDDEN if "openvino" not in sys.modules and name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BundleError("the network is to run with openvino, which is not installed here", "engine", INSTALL) from error
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    return openvino


def check_obeyed(plan: EnginePlan) -> None:
    """BundleError where this machine cannot run networks as the plan says."""
    if plan.engine != "openvino":
        return
    openvino()
    if plan.dtype == "bfloat16" and "BF16" not in capabilities():
        raise BundleError(
            "the network is to run in bfloat16, which this processor cannot",
            "engine",
            "use a machine with AVX512_BF16 or AMX, or score into another folder",
        )


@cache
def capabilities() -> frozenset[str]:
    """What numbers this processor multiplies natively: FP32, BF16, FP16, INT8."""
    return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@cache
def _core() -> Any:
    return openvino().Core()


def pack(feeds: Sequence[Feed], graph: bytes, weights: bytes) -> bytes:
    """The bytes of a graph: OpenVINO's XML and weights, and what each argument is."""
    page = {"feeds": [[one.input, one.array, list(one.shape), one.dtype] for one in feeds], "graph": len(graph)}
    content = json.dumps(page).encode() + b"\n" + graph + weights
    return MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unpack(data: bytes) -> tuple[list[Feed], bytes, bytes]:
    """What `pack` was given.  NotAGraph where one bit differs."""
    start = len(MAGIC) + 65
    content = memoryview(data)[start:]
    if data[:start] != MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise NotAGraph("damaged")
    end = data.index(b"\n", start)
    page = json.loads(data[start:end])
    feeds = [Feed(name, array, tuple(shape), dtype) for name, array, shape, dtype in page["feeds"]]
    split = end + 1 + int(page["graph"])
    return feeds, data[end + 1 : split], data[split:]


class Graph:
    """A compiled graph: batches of the planned shape in, logits and features out."""

    def __init__(self, data: bytes, plan: EnginePlan) -> None:
        check_obeyed(plan)
        ov = openvino()
        self.feeds, graph, weights = unpack(data)
        model = _core().read_model(graph, ov.Tensor(np.frombuffer(weights, np.uint8)) if weights else b"")
        settings = {
            "INFERENCE_PRECISION_HINT": ov.Type.bf16 if plan.dtype == "bfloat16" else ov.Type.f32,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else some processors round to 8 bits on their own
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": plan.threads or threads_here(),
            "ENABLE_CPU_PINNING": False,  # else all workers of a machine hold on to the same few processors
        }
        self._request = _core().compile_model(model, "CPU", settings).create_infer_request()
        self._lock = threading.Lock()

    def run(self, batch: Mapping[str, Prepared]) -> list[NDArray[np.float32]]:
        """[logits [n, k], features [n, hidden]] of exactly the planned rows."""
        arrays = [_fed(one, batch[one.input]) for one in self.feeds]
        with self._lock:  # one request, whose answers the next one overwrites
            found = self._request.infer(arrays, share_inputs=True)
            return [np.array(found[place], np.float32) for place in range(2)]


def threads_here() -> int:
    """The processors this process may use; Ray and batch systems say it in OMP_NUM_THREADS.  More or fewer never moved a bit."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(free, int(asked) if asked.isdigit() and int(asked) else free))


def _fed(feed: Feed, prepared: Prepared) -> NDArray[Any]:
    values = prepared.present if feed.array == PRESENT else prepared.arrays[feed.array]
    if values.shape != feed.shape:  # OpenVINO would read beyond it
        raise BundleError(f"the input {feed.input} has another shape than its graph", "engine", "score into another folder")
    return np.ascontiguousarray(values, feed.dtype)


Run = Callable[[Mapping[str, Prepared]], list[NDArray[np.float32]]]


@contextmanager
def graph_forward(model: Graph, plan: EnginePlan, embed: bool) -> Iterator[Run]:
    """As `torch_forward`; the features cost nothing here."""
    yield model.run

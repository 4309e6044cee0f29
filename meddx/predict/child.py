"""A task on stdin in, a graph or the lines of a trial on disk out: what runs apart, for it may crash.

Each line is written as soon as it is known, so that a crash in one way of running the network leaves the findings about the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from meddx.inputs.types import Prepared
from meddx.predict.bundle import Bundle
from meddx.predict.engine import EnginePlan, example, network_logits
from meddx.predict.graph import Graph
from meddx.predict.kept import keep, read_kept

REPEATS = 2


def make(task: Mapping[str, Any]) -> None:
    """Write the graph of a bundle, once it has answered one batch."""
    bundle, plan = _bundle(task), EnginePlan.of_page(task["plan"])
    data = _made(bundle, plan)
    Graph(data, plan).run(example(bundle.preparations, bundle.contract, plan.batch_rows))
    Path(task["graph"]).write_bytes(data)


def attempt(task: Mapping[str, Any]) -> None:
    """Predict the probe rows in each of the ways, `torch` or a dtype of a graph; one line a way, with its predictions beside."""
    probe = pa.ipc.open_file(pa.memory_map(task["probe"])).read_all()
    usual = EnginePlan.of_page(task["plan"])
    bundle = _bundle(task, None if "torch" in task["ways"] else replace(usual, engine="openvino"))
    batch = example(bundle.preparations, bundle.contract, usual.batch_rows)
    data: bytes | None = None
    for way in task["ways"]:
        if way == "torch":
            _tell(task, way, bundle, probe, batch)
            continue
        plan = replace(usual, engine="openvino", dtype=way)
        data = data or read_kept(bundle.digest, usual) or _made(bundle, usual)
        _tell(task, way, replace(bundle, predictor=Graph(data, plan), plan=plan), probe, batch)
        keep(bundle.digest, plan, data)


def _bundle(task: Mapping[str, Any], plan: EnginePlan | None = None) -> Bundle:
    bundle = Bundle.load(task["bundle"], plan=plan.page() if plan else None)
    if bundle.digest != task["digest"]:
        raise ValueError("another bundle")
    return bundle


def _made(bundle: Bundle, plan: EnginePlan) -> bytes:
    from meddx.predict.export import export

    return export(bundle.predictor, bundle.preparations, bundle.contract, plan)


def _tell(task: Mapping[str, Any], way: str, bundle: Bundle, probe: pa.Table, batch: Mapping[str, Prepared]) -> None:
    answers = bundle.predict(probe, score_outside=True)
    folder = Path(task["folder"])
    with pa.OSFile(str(folder / f"{way}.arrow"), "wb") as file, pa.ipc.new_file(file, answers.schema) as writer:
        writer.write_table(answers)
    with (folder / "lines").open("a") as lines:
        lines.write(json.dumps({"way": way, "seconds": _seconds(bundle, batch)}) + "\n")


def _seconds(bundle: Bundle, batch: Mapping[str, Prepared]) -> float:
    """The least time of one forward of the planned shape; the first ones of this process are over."""
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        network_logits(bundle.predictor, batch, bundle.plan)
        found.append(time.perf_counter() - start)
    return min(found)


if __name__ == "__main__":
    tasks: dict[str, Callable[[Mapping[str, Any]], None]] = {"make": make, "attempt": attempt}
    if "torch" in sys.argv[2:]:
        import torch  # noqa: F401  (takes a second, while who started this reads the rows)
    tasks[sys.argv[1]](json.load(sys.stdin))
    sys.stdout.flush()
    os._exit(0)  # what native libraries do when they are taken down is not our word

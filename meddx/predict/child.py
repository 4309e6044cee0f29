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
    """Predict the probe rows in each of the ways; one line a way, with its predictions beside.

    Graphs are all made from the first bundle, whose weights are there where one way is torch's.
    """
    probe = pa.ipc.open_file(pa.memory_map(task["probe"])).read_all()
    first: Bundle | None = None
    data: bytes | None = None
    for way, page in task["ways"].items():
        plan = EnginePlan.of_page(page)
        if first is None or plan.engine == "torch":
            bundle = _bundle(task, plan)
        else:
            data = data or read_kept(first.digest, plan) or _made(first, plan)
            bundle = replace(first, predictor=Graph(data, plan), plan=plan)
            keep(bundle.digest, plan, data)
        first = first or bundle
        _tell(task, way, bundle, probe, example(bundle.preparations, bundle.contract, plan.batch_rows))


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
        lines.write(json.dumps({"way": way, "seconds": _seconds(bundle, batch) / bundle.plan.batch_rows}) + "\n")


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

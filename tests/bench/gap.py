"""How long no forward runs where one unit ends and the next begins, as a share of a unit; and how much of a unit forwards fill.

    python tests/bench/gap.py BUNDLE DATA [units]

In one process, so that the forwards can be watched; the work on a unit is the same as in the guarded child.  For networks that run as
graphs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from meddx.errors import IncompleteError
from meddx.predict.graph import Graph
from meddx.score import run
from meddx.score.options import ScoringOptions
from meddx.score.runner import Job, Outcome, Runner
from meddx.score.units import Task
from meddx.storage import StoragePath

Spans = list[tuple[float, float]]


def watched(spans: Spans) -> Any:
    """Graph.run that notes its begin and end."""
    real = Graph.run

    def timed(graph: Graph, batch: Any) -> Any:
        start = time.perf_counter()
        found = real(graph, batch)
        spans.append((start, time.perf_counter()))
        return found

    return timed


def main(bundle: str, data: str, most: int = 12) -> None:
    spans: Spans = []
    units: list[tuple[float, float, Spans]] = []

    def execute(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        runner = Runner(job)
        for task in islice(tasks, most):
            spans.clear()
            start = time.perf_counter()
            yield from runner.run(task)
            units.append((start, time.perf_counter(), list(spans)))
        runner.close()

    run.run_here = execute  # type: ignore[assignment]
    Graph.run = watched(spans)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        try:
            run.score(StoragePath.of(bundle), StoragePath.of(data), StoragePath.of(Path(out) / "o"), options=ScoringOptions())
        except IncompleteError:
            print(f"stopped after {most} units")
    units = units[1:]  # the first one warms up
    boundary = [two[2][0][0] - one[2][-1][1] for one, two in pairwise(units)]
    lasted = [two[2][0][0] - one[2][0][0] for one, two in pairwise(units)]
    inside = [later[0] - earlier[1] for _, _, calls in units for earlier, later in pairwise(calls)]
    busy = [sum(end - start for start, end in calls) / (stop - begin) for begin, stop, calls in units]
    shares = [gap / unit for gap, unit in zip(boundary, lasted, strict=True)]
    print(f"units {len(units)}, forwards a unit {len(units[0][2])}, a unit lasts {statistics.median(lasted):.3f} s")
    print(f"gap at a boundary: median {statistics.median(boundary) * 1000:.1f} ms, {statistics.median(shares):.2%} of a unit")
    print(f"between forwards of a unit: median {statistics.median(inside) * 1000:.2f} ms")
    print(f"forwards run {statistics.median(busy):.1%} of the time")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(one) for one in sys.argv[3:4]))

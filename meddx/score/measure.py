"""Units in, the rate at which one device scores their rows out; for a minute, and nothing is published."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from meddx import record
from meddx.errors import StorageError
from meddx.score import device, ledger
from meddx.score.forecast import Rate
from meddx.score.units import Unit, UnitFailed, make_tasks
from meddx.score.worker import UnitScorer, assemble

SECONDS = 60.0
THREADS = "OMP_NUM_THREADS"


def measure(
    scorer: UnitScorer, units: Sequence[Unit], seconds: float, workers: int, engine: str, start_seconds: float
) -> tuple[str, list[Rate]]:
    """(a line, the rate or none).  In the order in which a job would take the units; the last may be left in its middle.

    The scorer has answered before, so what is loaded or compiled at the first time is not measured.
    """
    start = time.monotonic()
    rows, done, failed = 0, 0, ""
    for task in make_tasks(units, (), "probe"):
        for unit in task:
            try:
                answered, whole = _score(scorer, unit, start + seconds)
            except (UnitFailed, StorageError) as error:
                answered, whole, failed = 0, False, f"; a unit failed: {getattr(error, 'kind', '') or type(error).__name__}"
            rows, done = rows + answered, done + whole
            if time.monotonic() >= start + seconds:
                break
        if time.monotonic() >= start + seconds:
            break
    took = time.monotonic() - start
    if not rows:
        return f"probe: no row was scored in {took:.0f} s{failed}", []
    rate = Rate(
        device.kind(),
        engine,
        workers,
        rows,
        round(took, 3),
        round(start_seconds, 3),
        record.own_peak_mb(),
        "probe",
        time.strftime("%Y-%m-%d"),
    )
    where = "one worker of 1 CPU" if workers else "this process"
    return f"probe: {rows:,} rows in {took:.0f} s, {rate.a_worker:,.0f} a second by {where}, nothing kept{failed}", [rate]


def _score(scorer: UnitScorer, unit: Unit, deadline: float) -> tuple[int, bool]:
    """(rows answered, whether the unit is whole and encoded)."""
    tables, rows = [], 0
    steps = scorer.steps(unit)
    for table in steps:
        tables.append(table)
        rows += table.num_rows
        if time.monotonic() >= deadline:
            break
    else:
        ledger.encode(assemble(unit, tables), unit, ledger.Stamp((), "", "", ""))
        return rows, True
    steps.close()
    scorer.close()
    return rows, False


@contextmanager
def threads_of(workers: int) -> Iterator[None]:
    """As many threads for a forward as a job has in each process: Ray gives its workers one."""
    if not workers:
        yield
        return
    before, torch = os.environ.get(THREADS), sys.modules.get("torch")
    count = None if torch is None else torch.get_num_threads()
    os.environ[THREADS] = "1"
    if torch is not None:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before
        if torch is not None:
            torch.set_num_threads(count)

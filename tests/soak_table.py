"""A scenario of `make soak` and what became of its rows in, a dated line of tests/soak/RESULTS.md out."""

from __future__ import annotations

import datetime
import os
import platform
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("soak") / "RESULTS.md"
HEAD = """# What `make soak` found

Each run appends a line a scenario. Every output is compared with that of a run which nobody disturbed, row by row, and
`meddx score --verify` proves its books. A fault is a kill, a pulled cable or a pause in the middle of the work: the column after it
says how many of the job's parts stood then. A line is written before it is judged; missing, twice and differing must be 0.

| date | machine | scenario | faults | parts at the faults, of all | resumes | rows | missing | twice | differing | seconds |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def line(cells: str, start: float) -> None:
    """Append one; `start`: of time.monotonic()."""
    if not RESULTS.exists():
        RESULTS.write_text(HEAD)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"
    with RESULTS.open("a") as stream:
        stream.write(f"| {datetime.date.today()} | {machine} | {cells} | {time.monotonic() - start:.0f} |\n")

"""A named step in; the death of the process, or a pause, out, when a test asks for it.

`MEDDX_FAILPOINT=published` dies there, `published:3` at the third time; `published:3:wait` puts the file `published.reached` into
the folder `MEDDX_FAILPOINT_GATE` and goes on once `published.go` lies there.  Each step boundary of scoring calls `reach`: the
tests kill or pause there, resume, and compare with an undisturbed run.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE, GATE = "MEDDX_FAILPOINT", "MEDDX_FAILPOINT_GATE"
EXIT_CODE = 70
NAMES = (
    "planned",  # the plan is on storage
    "marker",  # the unit's marker is on storage, nothing was read
    "opened",  # a source file is open
    "half_unit",  # a batch of the unit is scored
    "built",  # the part is whole in memory
    "before_publish",
    "temp_written",  # a folder: the temporary file is synced, the final name is not there
    "reply_lost",  # the final name stands, and the caller has not heard of it
    "published",
    "half_retired",  # one part of an older plan is gone, others still stand
    "before_finish",  # every unit is there, the record is not
    "finished",
)


def reach(name: str) -> None:
    """Die at once, without cleaning up, as a power cut would; or wait, where the request says so."""
    asked, _, more = os.environ.get(VARIABLE, "").partition(":")
    if asked != name:
        return
    count, _, action = more.partition(":")
    left = int(count or 1) - 1
    if left > 0:
        os.environ[VARIABLE] = f"{name}:{left}:{action}"  # the count lives where the request came from: no state of our own
    elif action == "wait":
        os.environ.pop(VARIABLE)
        _wait(Path(os.environ[GATE]), name)
    else:
        os._exit(EXIT_CODE)


def _wait(gate: Path, name: str) -> None:
    (gate / f"{name}.reached").touch()
    while not (gate / f"{name}.go").exists():
        time.sleep(0.01)

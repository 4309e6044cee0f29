"""A named step in, death of the process out, when a test asks for it: `MEDDX_FAILPOINT=published` or `published:3`.

Each step boundary of scoring calls `reach`.  The tests kill there, resume, and compare with an undisturbed run.
"""

from __future__ import annotations

import os

VARIABLE = "MEDDX_FAILPOINT"
EXIT_CODE = 70
NAMES = ("planned", "opened", "half_unit", "built", "before_publish", "published", "before_finish", "finished")


def reach(name: str) -> None:
    """Die at once, without cleaning up, as a power cut would; with `name:count` at the count-th time."""
    asked, _, count = os.environ.get(VARIABLE, "").partition(":")
    if asked != name:
        return
    left = int(count or 1) - 1
    if left <= 0:
        os._exit(EXIT_CODE)
    os.environ[VARIABLE] = f"{name}:{left}"  # the count lives where the request came from: no state of our own

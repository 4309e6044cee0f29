"""Work done in, a moving bar out where somebody watches: plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def advance(log: Callable[[str], None], what: str, done: int, total: int) -> None:
    """Tell `log` how far `what` is, if it is one that shows bars; any function that takes a line will do as a log."""
    show = getattr(log, "advance", None)
    if show is not None:
        show(what, done, total)


class Console:
    """A log for people: each line at once on stdout; on a terminal also one bar, on stderr, that goes when the work is done."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._what = ""

    def __call__(self, text: str) -> None:
        print(text, flush=True)  # rich moves a line that is printed beside a live bar above it

    def advance(self, what: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None or what != self._what:
            self._start(what, total)
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._stop()

    def _start(self, what: str, total: int) -> None:
        from rich.console import Console as Screen
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._stop()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar, self._what = Progress(*columns, console=Screen(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()), what
        self._task = self._bar.add_task(what, total=total)
        self._bar.start()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

"""Outcomes in; a bar on a terminal, one plain line a minute in a log, and the rate for the next night's forecast out."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

from meddx.progress import advance
from meddx.score.forecast import Rate, duration
from meddx.score.runner import Outcome

SECONDS_A_LINE = 60.0
PATIENCE_S = 10.0  # listing and footers: what takes longer is told of


class Progress:
    """What a job has done so far.  As a context it says a line a minute, also while one long unit is at work."""

    def __init__(self, log: Callable[[str], None], rows: int, workers: int) -> None:
        self._log, self._rows, self._workers = log, rows, workers
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._by_device: dict[str, list[float]] = {}  # rows, seconds, memory
        self._over = Event()
        self._thread = Thread(target=self._tell, daemon=True)
        self.done = self.quarantined = self.attempted = self.lost = self.units = 0
        self.start_seconds = 0.0

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def see(self, outcome: Outcome) -> None:
        self.attempted += int(outcome.attempts)
        self.lost += outcome.state == "lost"
        if not outcome.kind:
            self.units += 1
            self.done += int(outcome.rows)
            self.quarantined += int(outcome.quarantined)
        if outcome.state == "published":
            held = self._by_device.setdefault(str(outcome.device), [0, 0.0, 0])
            held[0] += int(outcome.rows)
            held[1] += float(outcome.seconds)
            held[2] = max(held[2], int(outcome.memory_mb))
            if self._first is None:
                now = time.monotonic()
                self._first = now, self.done
                self.start_seconds = max(0.0, now - self._start - float(outcome.seconds))
        advance(self._log, "scoring, rows", self.done, self._rows)

    @property
    def seconds(self) -> float:
        """Since the job began to work."""
        return time.monotonic() - self._start

    @property
    def rows_a_second(self) -> float:
        """From the plan on: the start of what scores is included, listing and the trial of an engine are not."""
        return self.done / max(self.seconds, 1e-9)

    def rates(self, engine: str) -> list[Rate]:
        """What was measured, one a kind of device.

        Without workers the time is that of the clock: a machine may have several units in hand, and only the sum counts.
        """
        now, clock = time.strftime("%Y-%m-%d"), max(self.seconds - self.start_seconds, 1e-3)
        return [
            Rate(
                device,
                engine,
                self._workers,
                int(rows),
                round(seconds if self._workers else clock, 3),
                round(self.start_seconds, 3),
                int(memory),
                "run",
                now,
            )
            for device, (rows, seconds, memory) in self._by_device.items()
            if rows and seconds
        ]

    def line(self) -> str:
        """`rows 1,000 of 9,000; 250 a second; about 32 s left; quarantined 3`."""
        said = f"rows {self.done:,} of {self._rows:,}"
        if self.done:
            rate = self._steady()
            said += f"; {rate:,.0f} a second; about {duration(max(0, self._rows - self.done) / max(rate, 1e-9))} left"
        else:
            said += f"; no unit is done yet, {time.monotonic() - self._start:,.0f} s"
        return f"{said}; quarantined {self.quarantined:,}"

    def _steady(self) -> float:
        """Once there are some units: without the start, which would make the first hour look worse than it is."""
        if self._first is not None and self.units > 2 * max(1, self._workers) and self.done > self._first[1]:
            return (self.done - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)
        return self.rows_a_second

    def _tell(self) -> None:
        while not self._over.wait(SECONDS_A_LINE):
            self._log(self.line())


class Patience:
    """Told of each step of a preparation; says a line once it has taken ten seconds, and then one a minute."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log, self._next = log, time.monotonic() + PATIENCE_S

    def __call__(self, what: str, done: int, total: int) -> None:
        """`total` 0: not known yet."""
        if total:
            advance(self._log, what, done, total)
        if time.monotonic() >= self._next and done != total:
            self._next = time.monotonic() + SECONDS_A_LINE
            self._log(f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,} so far")

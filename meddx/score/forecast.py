"""Measured rates and what is left in, the hours and the cost of a night out; unknown where nothing like it was measured."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from meddx import record
from meddx.predict import gpus
from meddx.score import device
from meddx.score.plan import FOLDER
from meddx.storage import StoragePath

MOST_KEPT = 16
PROBE_NEXT = "--probe measures it in a minute"


@dataclass(frozen=True)
class Rate:
    """What one worker did on one kind of device: `rows` in `seconds` of work (of all workers together).

    `workers`: 0 in the process itself; `start_seconds` from the job's begin to the first unit's; `source`: run or probe.
    """

    device: str
    engine: str
    workers: int
    rows: int
    seconds: float
    start_seconds: float
    memory_mb: int
    source: str
    day: str

    @property
    def a_worker(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def words(self) -> str:
        how = "in this process" if not self.workers else f"with {self.workers} workers" if self.workers > 1 else "with 1 worker"
        late = "; starting Ray comes on top" if self.workers and self.source == "probe" else ""
        return f"as {'a probe' if self.source == 'probe' else 'the last run'} on {self.day} had it {how} ({self.device}){late}"


@dataclass(frozen=True)
class Forecast:
    """`seconds` None: unknown, and `why` says why; else by which measurement."""

    rows: int
    workers: int
    seconds: float | None
    why: str
    rate: Rate | None = None
    price: float | None = None

    @property
    def hours(self) -> float | None:
        return None if self.seconds is None else self.seconds / 3600

    @property
    def cost(self) -> float | None:
        return None if self.hours is None else cost_of(self.hours, self.workers, self.price)

    @property
    def lines(self) -> list[str]:
        """`expected: ...`, and `cost: ...` where a price is given."""
        if not self.rows:
            return ["expected: nothing to do"]
        if self.seconds is None:
            return [f"expected: unknown, {self.why}"] + ([] if self.price is None else ["cost: unknown"])
        rate = self.rows / max(self.seconds, 1e-9)
        lines = [f"expected: {duration(self.seconds)} at {rate:,.0f} rows a second, {self.why}"]
        if self.price is not None:
            whose = "this machine" if not self.workers else f"{self.workers} workers" if self.workers > 1 else "1 worker"
            lines.append(f"cost: {money(self.cost or 0.0)}, {whose} at {self.price:,.2f} an hour" + (" each" if self.workers > 1 else ""))
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        hours, cost = (None if one is None else round(one, 6) for one in (self.hours, self.cost))
        rate = None if not self.seconds else round(self.rows / self.seconds, 3)
        found: dict[str, Any] = {"rows": self.rows, "hours": hours, "rows_a_second": rate, "by": self.why}
        return found | ({} if self.price is None else {"cost": cost})


def forecast(
    rates: Sequence[Rate], rows: int, workers: int, engine: str | None, price: float | None = None, address: str | None = None
) -> Forecast:
    """Of `rows` rows on `workers` workers of this kind of device; `engine` None: not chosen yet, so any.

    The workers of a cluster elsewhere are of a kind that nobody here knows, so there the last rate of Ray workers is taken.
    """
    elsewhere = bool(workers) and (address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    here = device.kind(1 if workers else None)
    like = [one for one in rates if bool(one.workers) == bool(workers) and one.rows and one.seconds and engine in (None, one.engine)]
    fitting = like if elsewhere else [one for one in like if one.device in (here, *gpus.names())]
    if not fitting:
        why = f"nothing was measured yet; {PROBE_NEXT}"
        if like:
            why = f"it was measured on {like[0].device}, and here is {here}; {PROBE_NEXT}"
        return Forecast(rows, workers, None, why, None, price)
    rate = next((one for one in fitting if one.workers == workers), fitting[0])
    at_once = max(1, workers)
    if not elsewhere and rate.workers != workers:
        at_once = max(1, min(workers, device.cpus()))  # more than there are CPUs share them
    seconds = rate.start_seconds + rows / (rate.a_worker * at_once)
    return Forecast(rows, workers, seconds, rate.words, rate, price)


def cost_of(hours: float, workers: int, price: float | None) -> float | None:
    """`price`: of an hour of one worker, or of this machine where there are none."""
    return None if price is None else hours * max(1, workers) * price


def actual(rows: int, seconds: float, workers: int, price: float | None) -> dict[str, Any]:
    """What a job really took, beside what `Forecast.as_dict` said."""
    cost = cost_of(seconds / 3600, workers, price)
    found: dict[str, Any] = {"rows": rows, "hours": round(seconds / 3600, 6), "rows_a_second": round(rows / max(seconds, 1e-9), 3)}
    return found | ({} if cost is None else {"cost": round(cost, 6)})


def money(cost: float) -> str:
    """In whatever the price was given in."""
    return f"about {cost:,.2f}" if cost >= 0.01 else "less than 0.01"


def duration(seconds: float) -> str:
    """`40 s`, `12 minutes`, `3.4 hours`."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def engine_words(engine: Mapping[str, Any] | None) -> str:
    """What runs the forwards, as a rate names it."""
    page = engine or {}
    where = " on cuda" if page.get("device") == "cuda" else ""
    return f"{page.get('engine', 'torch')} {page.get('dtype', 'float32')}{where}"


def known_rates(out: StoragePath, bundle: str) -> list[Rate]:
    """Of this output's last job, then of this user's others with the same bundle on this machine, the newest first."""
    made = record.read(out / FOLDER) or {}
    return [*_parse(made.get("rates")), *_kept(bundle)]


def remember(bundle: str, rates: Sequence[Rate]) -> None:
    """Keep them for this user's next output of the bundle, each in the place of an older one like it; best effort."""
    place = _place(bundle)
    if place is None or not rates:
        return
    new = {_like(one) for one in rates}
    kept = [*rates, *(one for one in _kept(bundle) if _like(one) not in new)][:MOST_KEPT]
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump([asdict(one) for one in kept], file, indent=1)
            Path(name).replace(place)
        finally:
            Path(name).unlink(missing_ok=True)


def _like(one: Rate) -> tuple[Any, ...]:
    return one.device, one.engine, one.workers


def _kept(bundle: str) -> list[Rate]:
    place = _place(bundle)
    try:
        return _parse(json.loads(place.read_text())) if place is not None else []
    except (OSError, ValueError):
        return []


def _parse(page: Any) -> list[Rate]:
    """What can be read of it; a page of another version tells nothing."""
    names = {one.name for one in fields(Rate)}
    return [Rate(**one) for one in page or [] if isinstance(one, dict) and one.keys() == names]


def _place(bundle: str) -> Path | None:
    """`$XDG_CACHE_HOME/meddx/rates/<bundle>.json`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "meddx" / "rates" / f"{bundle}.json"
    except RuntimeError:  # no home
        return None

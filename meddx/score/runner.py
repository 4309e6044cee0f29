"""A job and a task in, published parts and one small outcome a unit out: what every executor runs, wherever it runs.

The edge where a unit may fail: whatever goes wrong here is an outcome, for the night goes on without that unit.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import pyarrow as pa

from meddx import failpoints, record
from meddx.errors import IncompleteError, StorageError
from meddx.score import device, ledger, markers
from meddx.score.bundles import Bundles, Predictor
from meddx.score.limits import Limits
from meddx.score.options import ScoringOptions
from meddx.score.units import Piece, Task, Unit
from meddx.score.worker import Place, UnitFailed, scorer_of
from meddx.storage import StoragePath

RETRY_AFTER = (0.2, 1.0)  # seconds, with jitter; the storage layer has its own retries below these
SETTLED = ("busy", "permission", "full")  # kinds of storage trouble that another try a second later does not mend
HOPELESS = ("permission", "full")  # every other unit would fail alike
STOP_AFTER = 20  # units in a row that fail with one kind: the night is lost, say so now


@dataclass(frozen=True)
class Job:
    """All that an executor needs, small and picklable."""

    bundle: StoragePath
    root: StoragePath
    out: StoragePath
    stamp: ledger.Stamp
    options: ScoringOptions
    required: tuple[str, ...]
    bundles: Bundles
    limits: Limits = field(default_factory=Limits)
    defer: bool = True  # leave a unit that another job seems to be at
    alone: bool = False  # the storage has no conditional write: no other job is there


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.  `lost`: another attempt had published it, or it left the plan; `failed`: it stays undone, `kind` says why.

    `careful`: only from a process that shall not decode it carefully itself; nothing is settled yet.
    `busy`: the marker of another job stands, which may be alive; it is left for the end.
    """

    unit: str
    state: Literal["published", "lost", "failed", "careful", "busy"]
    rows: int
    seconds: float = 0.0
    kind: str = ""
    detail: str = ""
    attempts: int = 0  # how often it was scored, whether or not that was published
    quarantined: int = 0
    device: str = ""  # what worked on it, and how much memory that has needed so far
    memory_mb: int = 0


class CarefulScorer(Protocol):
    """Scores a unit of which a row may kill the process that decodes it.  `died_at`: where it did, if that was seen."""

    def score(self, unit: Unit, died_at: Place | None) -> pa.Table: ...
    def close(self) -> None: ...


class NotHere(Exception):
    """This unit wants care, and this process leaves that to another."""


class CannotTravel(Exception):
    """Nor can another process: the bundle's classes are local, or stand in a notebook."""


class HandOver:
    """Leaves a unit that wants care to the process that started this one."""

    def score(self, unit: Unit, died_at: Place | None) -> pa.Table:
        raise NotHere

    def close(self) -> None:
        """Nothing is held."""


class Attempts:
    """A unit and a way to score it in, its outcome out: what was scored is published, and whatever goes wrong is said."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._watch = ledger.Watch(job.out, len(job.stamp.plans))
        self._count, self._marked, self._quarantined = 0, False, 0

    def make(self, unit: Unit, score: Callable[[Unit], pa.Table]) -> Outcome:
        """Trouble with the storage is tried again.  The marker stands while it lasts, and where `score` leaves the unit to another."""
        start, self._count, self._marked, self._quarantined = time.monotonic(), 0, False, 0
        outcome = self._attempt(unit, score)
        for pause in RETRY_AFTER:
            if outcome.kind != "storage":
                break
            time.sleep(pause * random.uniform(0.5, 1.5))
            outcome = self._attempt(unit, score)
        if self._marked and outcome.state != "careful":
            markers.end(self._job.out, unit.id)
        seconds, memory = time.monotonic() - start, record.own_peak_mb()
        outcome = replace(outcome, seconds=seconds, attempts=self._count, quarantined=self._quarantined)
        return replace(outcome, device=device.kind(engine=self._job.stamp.engine), memory_mb=memory)

    def _attempt(self, unit: Unit, score: Callable[[Unit], pa.Table]) -> Outcome:
        kind, detail = "", ""
        try:
            return Outcome(unit.id, self._score_and_publish(unit, score), unit.rows)
        except NotHere:
            return Outcome(unit.id, "careful", unit.rows)
        except UnitFailed as error:
            kind, detail = error.kind, error.detail
        except MemoryError:
            kind = "memory"
        except StorageError as error:
            kind, detail = error.kind if error.kind in SETTLED else "storage", error.what
        except (Exception, SystemExit) as error:  # the edge "run a unit": only the type is told, for a message may hold values
            kind, detail = "crashed", type(error).__name__
        return Outcome(unit.id, "failed", unit.rows, kind=kind, detail=detail)

    def _score_and_publish(self, unit: Unit, score: Callable[[Unit], pa.Table]) -> Literal["published", "lost", "busy"]:
        if ledger.part_path(self._job.out, unit.id).is_file() or self._watch.retired(unit.id):
            return "lost"
        if not self._marked:
            if self._job.defer and markers.of_another(self._job.out, unit.id, self._job.stamp.token):
                return "busy"
            markers.begin(self._job.out, unit.id, self._job.stamp.token)
            self._marked = True
        self._count += 1
        start = time.monotonic()
        table = score(unit)
        data, counts = ledger.encode(table, unit, self._job.stamp, time.monotonic() - start)
        self._quarantined = counts.quarantined
        failpoints.reach("built")
        return "published" if ledger.publish(self._job.out, unit.id, data, self._watch, alone=self._job.alone) else "lost"


class Runner:
    """Loads the bundle once and scores tasks until it is closed.

    `bundle`: the loaded one, if it is; `watch` is told before each step where the work is, if that is known.  With `careful`, a unit that
    raises here, or whose marker says that an earlier attempt did not end in order, is decoded by that.
    """

    def __init__(
        self,
        job: Job,
        *,
        bundle: Predictor | None = None,
        careful: CarefulScorer | None = None,
        watch: Callable[[Place | None], None] | None = None,
    ) -> None:
        self._careful, self._watch = careful, watch
        self._place: Place | None = None
        bundle = bundle or job.bundles.load(job.bundle, job.stamp.engine)
        if bundle.digest != job.stamp.bundle:
            raise StorageError("the bundle changed while the job was running", str(job.bundle), "run the same command again")
        self._scorer = scorer_of(bundle, job.root, job.required, job.options, self._see)
        self._attempts = Attempts(job)
        self._suspects = markers.found(job.out) if careful is not None else set()

    def run(self, task: Task) -> Iterator[Outcome]:
        """One outcome a unit, as it is done."""
        for unit in task:
            outcome = self._attempts.make(unit, self._score)
            if outcome.kind:
                self._scorer.close()
            yield outcome

    def close(self) -> None:
        self._scorer.close()
        if self._careful is not None:
            self._careful.close()

    def _see(self, place: Place | None) -> None:
        self._place = place
        if self._watch is not None:
            self._watch(place)

    def _score(self, unit: Unit) -> pa.Table:
        trouble: BaseException | None = None
        self._see(None)
        if unit.id not in self._suspects:
            try:
                table = self._scorer.score(unit)
                self._see(None)
                return table
            except (UnitFailed, StorageError):
                self._scorer.close()
                raise
            except (Exception, SystemExit) as error:  # the edge "decode a row": which row it was is found out below
                trouble = error
        self._scorer.close()
        if self._careful is not None:
            with suppress(CannotTravel):
                return self._careful.score(unit, self._place)
        if trouble is not None:
            raise trouble
        return self._scorer.score(unit)


class Breaker:
    """Stops a job whose units all fail alike."""

    def __init__(self) -> None:
        self._kind, self._in_a_row = "", 0

    def see(self, outcome: Outcome) -> None:
        """IncompleteError after STOP_AFTER failures of one kind in a row, at once where no unit can do better."""
        self._in_a_row = self._in_a_row + 1 if outcome.kind and outcome.kind == self._kind else int(bool(outcome.kind))
        self._kind = outcome.kind
        if self._in_a_row >= (1 if outcome.kind in HOPELESS else STOP_AFTER):
            raise IncompleteError(
                f"stopped: {self._in_a_row} units in a row failed with {outcome.kind!r} {outcome.detail}",
                "",
                "mend that, then run the same command again; everything published is kept",
            )


def encode_task(task: Task) -> str:
    """A task as text, for an executor that passes messages."""
    return json.dumps([asdict(unit) for unit in task])


def decode_task(text: str) -> Task:
    def unit(page: dict[str, Any]) -> Unit:
        return Unit(page["id"], tuple(Piece(**piece) for piece in page["pieces"]), page["weight"], page["stream"], page["family"])

    return tuple(unit(page) for page in json.loads(text))

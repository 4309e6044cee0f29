"""A job and a task in, published parts and one small outcome a unit out: what every executor runs, wherever it runs.

The edge where a unit may fail: whatever goes wrong here is an outcome, for the night goes on without that unit.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from meddx.errors import IncompleteError, StorageError
from meddx.score import failpoints, ledger
from meddx.score.bundles import Bundles
from meddx.score.options import ScoringOptions
from meddx.score.units import Piece, Task, Unit
from meddx.score.worker import UnitFailed, scorer_of
from meddx.storage import StoragePath

RETRY_AFTER = (0.2, 1.0)  # seconds, with jitter; the storage layer has its own retries below these
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


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.  `lost`: another attempt had published it; `failed`: it stays undone, `kind` says why."""

    unit: str
    state: Literal["published", "lost", "failed"]
    rows: int
    seconds: float = 0.0
    kind: str = ""
    detail: str = ""


class Runner:
    """Loads the bundle once and scores tasks until it is closed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        bundle = job.bundles.load(job.bundle)
        if bundle.digest != job.stamp.bundle:
            raise StorageError("the bundle changed while the job was running", str(job.bundle), "run the same command again")
        self._scorer = scorer_of(bundle, job.root, job.required, job.options)

    def run(self, task: Task) -> Iterator[Outcome]:
        """One outcome a unit, as it is done."""
        for unit in task:
            yield self._run(unit)

    def close(self) -> None:
        self._scorer.close()

    def _run(self, unit: Unit) -> Outcome:
        start = time.monotonic()
        outcome = self._attempt(unit)
        for pause in RETRY_AFTER:
            if outcome.kind != "storage":
                break
            time.sleep(pause * random.uniform(0.5, 1.5))
            outcome = self._attempt(unit)
        return replace(outcome, seconds=time.monotonic() - start)

    def _attempt(self, unit: Unit) -> Outcome:
        kind, detail = "", ""
        try:
            return Outcome(unit.id, self._score_and_publish(unit), unit.rows)
        except UnitFailed as error:
            kind, detail = error.kind, error.detail
        except MemoryError:
            kind = "memory"
        except StorageError as error:
            kind, detail = "storage", error.what
        except Exception as error:  # the edge "run a unit": only the type is told, for a message may hold values
            kind, detail = "crashed", type(error).__name__
        self._scorer.close()
        return Outcome(unit.id, "failed", unit.rows, kind=kind, detail=detail)

    def _score_and_publish(self, unit: Unit) -> Literal["published", "lost"]:
        if ledger.part_path(self._job.out, unit.id).exists():
            return "lost"
        data, _ = ledger.encode(self._scorer.score(unit), unit, self._job.stamp)
        failpoints.reach("built")
        return "published" if ledger.publish(self._job.out, unit.id, data) else "lost"


class Breaker:
    """Stops a job whose units all fail alike."""

    def __init__(self) -> None:
        self._kind, self._in_a_row = "", 0

    def see(self, outcome: Outcome) -> None:
        """IncompleteError after STOP_AFTER failures of one kind in a row."""
        self._in_a_row = self._in_a_row + 1 if outcome.kind and outcome.kind == self._kind else int(bool(outcome.kind))
        self._kind = outcome.kind
        if self._in_a_row >= STOP_AFTER:
            raise IncompleteError(
                f"stopped: {STOP_AFTER} units in a row failed with {outcome.kind!r} {outcome.detail}",
                "",
                "mend that, then run the same command again; everything published is kept",
            )


def encode_task(task: Task) -> str:
    """A task as text, for an executor that passes messages."""
    return json.dumps([asdict(unit) for unit in task])


def decode_task(text: str) -> Task:
    def unit(page: dict[str, Any]) -> Unit:
        return Unit(page["id"], tuple(Piece(**piece) for piece in page["pieces"]), page["weight"], page["stream"])

    return tuple(unit(page) for page in json.loads(text))

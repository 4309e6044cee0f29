"""Messages in, answers out: the processes that decode where decoding may kill (`python -m meddx.score.serve PIPE` forks them).

Each says where it is before each step, so that who asked for it knows what it died of.  Nothing of them outlives that one.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, NoReturn

import pyarrow as pa

from meddx.errors import MeddxError, StorageError
from meddx.failpoints import VARIABLE
from meddx.predict.estimators import warm_up
from meddx.score.bundles import Bundles, Predictor
from meddx.score.limits import Limits, Watchdog
from meddx.score.runner import HandOver, Job, Runner
from meddx.score.units import Unit
from meddx.score.worker import Place, UnitFailed, UnitScorer, scorer_of
from meddx.storage import StoragePath

SEEN_S, LONG_S = 0.2, 3600.0  # within which a fork sees that its pipe is closed; a killed one has gone long before
SLACK = 1.5  # who waits for the answer should be the one that ends this process


@dataclass(frozen=True)
class Step:
    """Rows [start, stop) of a piece of the unit; `stop` None: as far as the batch goes.

    `verdict`: they are quarantined with this reason; `blind`: even without reading them.  `until`: all rows of this and the
    following pieces before that number, together.
    """

    piece: int
    start: int = 0
    stop: int | None = None
    verdict: str = ""
    blind: bool = False
    until: int = 0


class Server:
    """The bundle, loaded as the first job says, and what it is asked to do."""

    def __init__(self, pipe: Connection, limits: Limits) -> None:
        self._pipe, self._limits = pipe, limits
        self._loaded: tuple[dict[str, Any] | None, Predictor] | None = None
        self._dog = Watchdog()
        self._seconds = limits.patience_s
        self._runner: Runner | None = None
        self._scorer: UnitScorer | None = None
        self._unit: Unit | None = None
        self._checked = -1

    def load(self, bundles: Bundles, path: StoragePath, engine: dict[str, Any] | None) -> Predictor:
        if self._loaded is None or self._loaded[0] != engine:
            self._loaded = engine, bundles.load(path, engine)
            self._limits.cap_memory()
        return self._loaded[1]

    def serve(self, kind: str, what: Any) -> None:
        if kind == "job":
            self._learn(what)
        elif kind == "task":
            self._work(what)
        elif kind == "unit":
            self._unit, self._checked = what, -1
        else:
            self._pipe.send(self._try(what))
        self._dog.rest()

    def _learn(self, job: Job) -> None:
        bundle = self.load(job.bundles, job.bundle, job.stamp.engine)
        self._runner = Runner(job, bundle=bundle, careful=HandOver(), watch=self._see)
        self._scorer = scorer_of(bundle, job.root, job.required, job.options, self._see)
        self._pipe.send(("ready",))

    def _see(self, place: Place | None) -> None:
        self._dog.arm(self._seconds)
        self._pipe.send(("at", place))

    def _work(self, units: Sequence[Unit]) -> None:
        """Normal work: an outcome a unit; it ends early at a unit that wants care."""
        assert self._runner is not None
        self._seconds = self._limits.patience_s
        self._dog.arm(self._seconds)
        for outcome in self._runner.run(tuple(units)):
            self._pipe.send(("outcome", outcome))
            if outcome.state == "careful":
                return
        self._pipe.send(("idle",))

    def _try(self, step: Step) -> tuple[Any, ...]:
        self._seconds = self._limits.patience_s * SLACK
        self._dog.arm(self._seconds)
        try:
            stop, table = self._answer(step)
        except UnitFailed as error:
            return "failed", error.kind, error.detail
        except StorageError as error:
            return "storage", error
        except MemoryError:
            return "raised", "decoder_memory", "MemoryError"
        except (Exception, SystemExit) as error:  # the edge "decode a row": only the type is told, for a message may hold values
            return "raised", "decoder_raised", type(error).__name__
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return "table", stop, sink.getvalue().to_pybytes()

    def _answer(self, step: Step) -> tuple[int, pa.Table]:
        """(where the rows end, their predictions)."""
        scorer, unit = self._scorer, self._unit
        assert scorer is not None and unit is not None
        if step.until:
            return 0, scorer.score(_some(unit, step.piece, step.until)).drop_columns(["unit", "row"])
        piece = unit.pieces[step.piece]
        if step.blind:
            assert step.stop is not None
            return step.stop, scorer.quarantine(step.stop - step.start, None, step.verdict)
        if self._checked != step.piece:
            scorer.check_version(piece)
            self._checked = step.piece
        chunk = next(scorer.chunks(unit, step.piece, step.start), None)
        if chunk is None:
            raise UnitFailed("rows_differ", "a file has fewer rows than were planned")
        chunk = chunk.cut(step.start, chunk.stop if step.stop is None else step.stop)
        if step.verdict:
            return chunk.stop, scorer.quarantine(chunk.rows, chunk.table, step.verdict)
        table = scorer.answer(unit, step.piece, chunk)
        if chunk.stop == piece.stop:
            scorer.check_version(piece)
        return chunk.stop, table


def _some(unit: Unit, first: int, until: int) -> Unit:
    """Some pieces of a unit, as heavy as their share of its rows."""
    pieces = unit.pieces[first:until]
    return replace(unit, pieces=pieces, weight=max(1, unit.weight * sum(piece.rows for piece in pieces) // unit.rows))


def main() -> None:
    """Fork a server for each one that is asked for.  This process has no threads, and does nothing that could end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the one that started this process, and that one ends it
    control = Connection(int(sys.argv[1]))
    living: dict[int, int] = {}
    while True:
        try:
            wish, number, *more = control.recv()
            if wish == "end":
                control.send(_end(living.pop(number, 0)))
                continue
            handle = recv_handle(control)
        except (EOFError, OSError):  # who asked has gone
            break
        if more[1] == "estimator":
            warm_up()
        if not (pid := os.fork()):
            control.close()
            _become(Connection(handle), *more)
        os.close(handle)
        living[number] = pid
    for pid in living.values():
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _end(pid: int) -> int:
    """The exit code of a fork whose pipe is closed; one that does not see it is killed."""
    if not pid:
        return 0
    until = time.monotonic() + SEEN_S
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            until += LONG_S
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def _become(pipe: Connection, failpoint: bool, kind: str) -> NoReturn:
    """A fork's life."""
    if not failpoint:  # it is meant for one process
        os.environ.pop(VARIABLE, None)
    try:
        _serve(pipe)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _serve(pipe: Connection) -> None:
    inbox: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    try:
        server = _load(pipe, inbox.get())
        while True:
            server.serve(*_loads(inbox.get()))
    except MeddxError as error:
        pipe.send(("unusable", error))
    except _Foreign as error:
        pipe.send(("foreign", *error.args))
    Event().wait()  # until that was read and the pipe is closed


class _Foreign(Exception):
    """What came cannot be made here."""


def _load(pipe: Connection, message: bytes) -> Server:
    """What runs a network is known once there is a plan; until then all else is imported that it takes.  A baseline has no choice."""
    path, bundles, limits = _loads(message)
    server, facts = Server(pipe, limits), bundles.facts(path)
    if facts.kind == "estimator":
        server.load(bundles, path, facts.engine)
    return server


def _loads(message: bytes) -> tuple[Any, ...]:
    try:
        found: tuple[Any, ...] = pickle.loads(message)
        return found
    except (AttributeError, ImportError) as error:
        raise _Foreign(type(error).__name__) from error


def _listen(pipe: Connection, inbox: SimpleQueue[bytes]) -> None:
    """A thread, so that the end of the other process is seen in the middle of work."""
    while True:
        try:
            inbox.put(pipe.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)


if __name__ == "__main__":
    main()

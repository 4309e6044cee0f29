"""A unit of which a row kills, hangs or raises in, a table of all its rows out: those rows quarantined, all others as always.

Batches are cut as in normal work.  What fails is cut finer, down to single rows, and a row is tried twice, the second time
alone in a fresh process: a row is called poison for what was seen to happen to it, never for how often its unit was begun,
since a killed job leaves begun units too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from meddx.errors import IncompleteError, StorageError
from meddx.score.child import ChildDied, ChildOverran, Nursery
from meddx.score.serve import Step
from meddx.score.units import Unit
from meddx.score.worker import Place, UnitFailed, assemble

PARTS = 16  # into which what failed is cut.  One row costs as much as a whole forward, and a finer cut one more start of the child
TOGETHER = 256  # rows of small files
LENIENCE = 5  # times a row's patience: for a batch, which is only cut, and for the first row of a process, which pays for all that comes
FALSE_STARTS = 3  # deaths before a row was read: that is no row's doing
ALL_BAD = 20  # rows that fail before any passes: the decoder is broken, not the rows
CRASHED, OVERRAN, MEMORY, RAISED = "decoder_crashed", "decoder_overran", "decoder_memory", "decoder_raised"
UNDONE = {CRASHED: "crashed", OVERRAN: "overran", MEMORY: "memory", RAISED: "crashed"}


@dataclass(frozen=True)
class Answer:
    """Predictions up to row `stop`."""

    stop: int
    table: pa.Table


@dataclass(frozen=True)
class Trouble:
    """What happened instead, and where; `place` None: before anything was read."""

    reason: str
    place: Place | None
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason} {self.detail}".rstrip()


class Careful:
    """Scores units step by step in a child, and outlives it."""

    def __init__(self, nursery: Nursery, begin: Callable[[], None] | None = None) -> None:
        """`begin` is called before each unit: from then on the child is watched, not this process."""
        self._nursery, self._begin = nursery, begin
        self._unit = Unit("", (), 0)
        self._passed = self._poison = 0

    def score(self, unit: Unit, died_at: Place | None = None) -> pa.Table:
        """`died_at`: where normal work was seen to end; that batch is not tried as a whole again.

        UnitFailed where it is not the rows: nothing can be read, or not a single row can be decoded.  StorageError, CannotTravel.
        """
        if self._begin is not None:
            self._begin()
        self._unit, self._passed, self._poison = unit, 0, 0
        tables: list[pa.Table] = []
        for number, until in _together(unit):
            found = self._ask(Step(number, until=until)) if until > number + 1 else None
            if isinstance(found, Answer):
                tables.append(found.table)
                self._passed += 1
            else:
                for one in range(number, until):
                    tables += self._piece(one, died_at)
        return assemble(unit, tables)

    def close(self) -> None:
        self._nursery.close()

    def _piece(self, number: int, died_at: Place | None) -> list[pa.Table]:
        """The tables of a piece, batch by batch."""
        piece, tables = self._unit.pieces[number], []
        at = piece.start
        while at < piece.stop:
            seen = died_at is not None and died_at.read and (died_at.unit, died_at.piece, died_at.start) == (self._unit.id, number, at)
            more, at = self._range(Step(number, at), Trouble("", died_at) if seen else None)
            tables += more
        return tables

    def _range(self, step: Step, known: Trouble | None = None) -> tuple[list[pa.Table], int]:
        """The tables of a step, cut finer as far as it must be, and where they end."""
        found = known or self._try(step)
        if isinstance(found, Answer):
            return [found.table], found.stop
        assert found.place is not None
        at, stop = found.place.start, found.place.stop
        if stop - at == 1:
            answer = self._alone(step, found)
            return [answer.table], answer.stop
        size = max(1, (stop - at) // PARTS)
        tables: list[pa.Table] = []
        while at < stop:
            more, at = self._range(Step(step.piece, at, min(at + size, stop)))
            tables += more
        return tables, at

    def _alone(self, step: Step, first: Trouble) -> Answer:
        """One row, once more; if that goes wrong too, its quarantine."""
        if first.reason != RAISED:  # what died is gone; what is out of memory may have been so before this row
            self._nursery.close()
        step = Step(step.piece, step.start, step.start + 1)
        found = self._try(step)
        if isinstance(found, Answer):
            return found
        self._poison += 1
        if self._poison >= ALL_BAD and not self._passed:
            raise UnitFailed(UNDONE[found.reason], f"none of {self._poison} rows can be decoded: {found}")
        return self._sentence(Step(step.piece, step.start, step.stop, verdict=found.reason))

    def _sentence(self, step: Step) -> Answer:
        found = self._try(step)
        if isinstance(found, Answer):
            return found
        raise UnitFailed(UNDONE[found.reason], f"a row could not even be put aside: {found}")

    def _try(self, step: Step) -> Answer | Trouble:
        """An answer, or the trouble that rows made.  Trouble in reading is settled here."""
        unread, how = 0, ""
        for _ in range(FALSE_STARTS):
            found = self._ask(step)
            if isinstance(found, Answer):
                self._passed += not step.verdict
                return found
            if found.place is not None and found.place.read:
                return found
            if found.reason != CRASHED:  # slow storage, or no memory for a batch: no row's fault
                raise UnitFailed(UNDONE[found.reason], f"while a file was read: {found}")
            unread, how = unread + (found.place is not None), found.detail
            if found.place is not None and unread > 1:  # seen twice: the pages of this row group kill who reads them
                return self._sentence(Step(step.piece, step.start, found.place.stop, verdict=CRASHED, blind=True))
        raise UnitFailed("crashed", f"the process died {FALSE_STARTS} times before it had read a row: {how}")

    def _ask(self, step: Step) -> Answer | Trouble:
        try:
            child = self._nursery.get()
        except IncompleteError as error:
            raise UnitFailed("crashed", error.what) from error
        place: Place | None = None
        try:
            child.show(self._unit)
            child.send("step", step)
            while True:
                kind, *more = child.receive(time.monotonic() + self._patience(step, place, child.warm))
                if kind != "at":
                    child.warm = child.warm or kind == "table"
                    return _reply(kind, more, place)
                place = more[0]
        except ChildDied as death:
            return self._buried(Trouble(CRASHED, place, str(death)))
        except ChildOverran:
            return self._buried(Trouble(OVERRAN, place))

    def _buried(self, trouble: Trouble) -> Trouble:
        self._nursery.close()
        return trouble

    def _patience(self, step: Step, place: Place | None, warm: bool) -> float:
        """Seconds for what is going on.  Reading has those of normal work: it waits for the storage."""
        assert self._nursery.job is not None
        limits = self._nursery.job.limits
        if not step.until and (place is None or not place.read):
            return limits.patience_s
        return limits.row_patience_s * (1 if warm and place is not None and place.stop - place.start == 1 else LENIENCE)


def _together(unit: Unit) -> Iterator[tuple[int, int]]:
    """Pieces [number, until) that have so few rows that they are first tried together: small files, single pictures."""
    number = rows = 0
    for until, piece in enumerate(unit.pieces):
        if until > number and rows + piece.rows > TOGETHER:
            yield number, until
            number, rows = until, 0
        rows += piece.rows
    yield number, len(unit.pieces)


def _reply(kind: str, more: list[Any], place: Place | None) -> Answer | Trouble:
    if kind == "table":
        stop, data = more
        return Answer(stop, pa.ipc.open_stream(data).read_all())
    if kind == "raised":
        return Trouble(more[0], place, more[1])
    if kind == "storage":
        error: StorageError = more[0]
        raise error
    raise UnitFailed(*more)

"""Units in, some of their rows out as the bundle will see them: what a faster engine is tried on before the night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from meddx.score.bundles import Facts
from meddx.score.sources import PARQUET
from meddx.score.units import Unit
from meddx.score.worker import UnitScorer
from meddx.storage import StoragePath

UNITS, ROWS = 16, 1024  # of how many units, and how many rows of all of them together


@dataclass(frozen=True)
class _Columns:
    """As much of a bundle as reading needs: nothing is predicted here."""

    columns: tuple[str, ...]
    digest: str = ""

    def schema(self, outputs: Sequence[str] = ()) -> pa.Schema:
        raise NotImplementedError

    def predict(self, rows: pa.Table, **wishes: Any) -> pa.Table:
        raise NotImplementedError


def part_of(unit: Unit, most: int) -> Unit:
    """The first rows of a unit, as heavy as their share."""
    first = unit.pieces[0]
    pieces = (replace(first, rows=min(first.rows, most)),) if unit.family == PARQUET else unit.pieces[:most]
    rows = sum(piece.rows for piece in pieces)
    return replace(unit, pieces=pieces, weight=max(1, unit.weight * rows // unit.rows))


def rows_of(units: Sequence[Unit], root: StoragePath, facts: Facts) -> Iterator[pa.Table]:
    """The first rows, as far as they can be read, of units here and there, for one file says little of an archive; and where a few units
    are all there is, the same many from each."""
    scorer = UnitScorer(_Columns(facts.columns), root, facts.required)
    chosen = units[:: max(1, len(units) // UNITS)][:UNITS]
    try:
        for unit in (part_of(one, ROWS // len(chosen)) for one in chosen):
            if unit.family == PARQUET:
                chunks = (chunk for number, piece in enumerate(unit.pieces) for chunk in scorer.chunks(unit, number, piece.start))
            else:
                chunks = (chunk for chunk in scorer.pictures(unit, unit.pieces))
            yield from (chunk.table for chunk in chunks if chunk.table is not None and not chunk.error)
    finally:
        scorer.close()

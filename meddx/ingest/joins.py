"""Declared joins in, all joined sources opened and put beside the cases out, and what a user is told of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError, LeakError
from meddx.ingest.block import Reject
from meddx.ingest.cases import RESERVED, CaseMaker, must_exist
from meddx.ingest.find import Found
from meddx.ingest.join import Joined, column_after
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.spooled import read_joined

PIECE_BYTES = 64 << 20  # joined rows that are held at once


class Joins:
    """All joined sources of a dataset."""

    def __init__(self, joined: Sequence[Joined], cases: CaseMaker) -> None:
        self.joined = joined
        self.schema = pa.schema([*cases.schema, *(one.field for one in joined)])

    @property
    def rejects(self) -> list[Reject]:
        return [reject for one in self.joined for reject in one.spooled.rejects]

    def extend(self, cases: pa.Table) -> Iterator[pa.Table]:
        """The cases with a column for each source, in pieces whose joined rows take about 64 MB."""
        if not self.joined or not cases.num_rows:
            yield cases
            return
        codes = [one.look_up(cases) for one in self.joined]
        load = np.cumsum(sum(one.weights(found) for one, found in zip(self.joined, codes, strict=True)))
        edges = [0, *(np.flatnonzero(np.diff(load // PIECE_BYTES)) + 1).tolist(), cases.num_rows]
        for start, end in zip(edges, edges[1:], strict=False):
            piece = cases.slice(start, end - start)
            columns = [one.column(piece, found[start:end]) for one, found in zip(self.joined, codes, strict=True)]
            yield pa.table([*piece.columns, *columns], schema=self.schema)

    def finish(self) -> dict[str, dict[str, Any]]:
        """{source: its block of the record}."""
        return {one.name: one.finish() for one in self.joined}


def check_joined(cases: SourceOptions, joined: Mapping[str, SourceOptions], case: CaseOptions) -> None:
    """Raises DataError for a join that cannot be meant, before anything is read."""
    for key, given in (("join", cases.join), ("pivot", cases.pivot), ("keep", cases.keep != ("*",))):
        if given:
            raise DataError(f"`{key}` is for a joined source, and this one gives the cases", "case.from", f"leave `{key}` out")
    for name, source in joined.items():
        where = f"sources.{name}"
        if name in RESERVED:
            raise DataError(f"a source cannot be named {name!r}", where, "choose another name")
        if not source.join:
            raise DataError(f"the source {name!r} says not how its rows find their case", where, "say `join`")
        if source.labels:
            raise DataError("`labels` is for the source of the cases", where, "join the label table as a source of its own")
        if len({column_after(case, one) for one in source.join.values()}) < len(source.join):
            raise DataError("two join keys name one column of the cases", where, "name each once")
        if source.time and source.time_unit and case.predict_after is None:
            raise DataError(
                "`time_unit` counts from the case's own zero, and case.predict_at is no duration",
                where,
                "say case.predict_at: 48h, or drop it",
            )
        if source.time and not source.time_unit and case.predict_column is None:
            raise DataError(
                f"{name!r} has stamps in `time`, and case.predict_at names no column",
                where,
                "say case.predict_at, or `time_unit` for numbers",
            )


def open_joins(joined: Mapping[str, SourceOptions], found: Mapping[str, Found], case: CaseOptions, cases: CaseMaker) -> Joins:
    """Read every joined source.

    Raises DataError where one has the name of a column of the cases or joins by one that is not there, LeakError where a row may
    belong to several cases and nothing tells when it was known.
    """
    for name, source in joined.items():
        if name in cases.schema.names:
            raise DataError(f"the source {name!r} has the name of a column of the cases", f"sources.{name}", "rename the source")
        for column in source.join.values():
            must_exist(column_after(case, column), cases.schema, f"the source of the cases, for the join of {name!r}")
        where = f"sources.{name}"
        if source.time is None and "case_id" not in {column_after(case, one) for one in source.join.values()}:
            raise LeakError(
                f"the rows of {name!r} are not joined by the case's own id, so one may belong to several cases, and nothing tells which "
                "of them were known when a case is decided",
                where,
                "declare `time` (when a row was known) and case.predict_at, or join by the column of case.id",
            )
    return Joins([Joined(read_joined(name, source, found[name], case.zone), case, cases) for name, source in joined.items()], cases)


def show_joined(name: str, block: Mapping[str, Any]) -> list[str]:
    """The plain lines of one join."""
    lines = [
        f"{name}: {block['matched']:,} of {block['cases']:,} cases matched, {block['unmatched']:,} unmatched, "
        f"{block['several']:,} with several rows (at most {block['most']:,}); "
        f"{block['rows_unmatched']:,} of {block['rows']:,} source rows match no case"
    ]
    told = {
        "without_time": "rows without a time", "too_late": "rows later than predict_at", "outside_window": "rows outside the window",
        "undecided": "rows of cases without predict_at", "other_variables": "rows of other variables",
    }  # fmt: skip
    dropped = [f"{text} {block[key]:,}" for key, text in told.items() if block[key]]
    if dropped:
        lines.append(f"{name}: dropped " + ", ".join(dropped))
    if not block["joined"]:
        lines.append(f"{name}: no row is left for any case")
    texts = {"unmatched": "cases without a row", "several": "cases with several", "without_case": "source keys without a case"}
    lines += [f"{name}: {text}, such as {'; '.join(block['examples'][what])}" for what, text in texts.items() if block["examples"][what]]
    lines += [f"{name}: {note}" for note in block["notes"]]
    return lines + [f"{name}: quarantined as {reason}: {count:,}" for reason, count in block["reasons"].items()]

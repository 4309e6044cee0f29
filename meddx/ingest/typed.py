"""Files of text cells in (csv, tsv, xlsx), blocks of typed rows out, in two streaming passes.

Pass 1 looks at every value and learns what each column is; pass 2 converts.  A type learned from the first rows only
would break on the last ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest import tables, xlsx
from meddx.ingest.block import Block, Damaged, Reject, Unit
from meddx.ingest.columns import Kind, Learner, MissingCodes, convert, matches, undecodable, words_of
from meddx.ingest.decide import Plan, decide
from meddx.ingest.find import Found
from meddx.ingest.options import SourceOptions
from meddx.ingest.tables import TextBatch
from meddx.ingest.text import TextForm, detect
from meddx.storage import FileInfo

Batches = Callable[[FileInfo, TextForm, SourceOptions], Iterator[TextBatch]]


@dataclass
class TextReader:
    """An opened table source: its plan is fixed, and each file can be read on its own."""

    source: SourceOptions
    forms: dict[str, TextForm]
    plan: Plan
    units: Sequence[Unit]
    expected: int
    rejects: Sequence[Reject]
    facts: dict[str, Any]
    notes: list[str]
    batches: Batches = field(repr=False)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, one.arrow) for name, one in self.plan.types.items()])

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The typed rows of one file; a row whose cells are not what its columns are is rejected with the reason."""
        missing = codes_by_column(self.source, self.plan.types)
        for batch in self.batches(unit.files[0], self.forms[unit.name], self.source):
            yield self._block(batch, unit.name, missing)

    def _block(self, batch: TextBatch, name: str, missing: Mapping[str, MissingCodes]) -> Block:
        rejects = [Reject(name, "row_width", "not as many values as columns", row) for row in batch.bad_widths]
        reasons: dict[int, tuple[str, str]] = {}
        columns = []
        for column, to in self.plan.types.items():
            words = words_of(batch.table.column(column), missing[column])
            values, wrong = convert(words, to, self.plan.decimal)
            columns.append(values)
            _note(reasons, undecodable(words), "bytes_undecodable", column)
            _note(reasons, wrong, f"{to.kind}_unreadable", column)
        block = Block(pa.table(columns, schema=self.schema), name, batch.rows, rejects)
        if not reasons:
            return block
        mask = np.ones(len(batch.rows), bool)
        mask[list(reasons)] = False
        return block.keep(mask, [block.reject(i, reason, f"column {column}") for i, (reason, column) in sorted(reasons.items())])


def _note(reasons: dict[int, tuple[str, str]], flags: np.ndarray | None, reason: str, column: str) -> None:
    for index in [] if flags is None else np.flatnonzero(flags):
        reasons.setdefault(int(index), (reason, column))


def codes_by_column(source: SourceOptions, columns: Iterable[str]) -> dict[str, MissingCodes]:
    """What means missing in each column: the codes for every column and those declared for it."""
    everywhere = MissingCodes(source.missing)
    return {
        name: MissingCodes([*source.missing, *source.missing_in[name]]) if name in source.missing_in else everywhere for name in columns
    }


def open_text(found: Found, source: SourceOptions, text: Sequence[str], known: Mapping[str, Kind]) -> TextReader:
    """Pass 1 over every file.  A damaged file is rejected as one row when there are others, else it raises."""
    batches: Batches = xlsx.batches if found.format == "xlsx" else tables.batches
    rejects: list[Reject] = []
    forms: dict[str, TextForm] = {}
    units: list[Unit] = []
    learned: dict[str, Learner] = {}
    rows = good = 0
    for file in found.files:
        name = file.path.relative_to(found.root) if found.is_folder else file.path.name
        try:
            form = xlsx.detect(file, source) if found.format == "xlsx" else detect(file, source, found.format)
            learned = learned or {column: Learner() for column in form.names}
            _same_columns(learned, form, file)
            seen, bad = _learn(batches(file, form, source), learned, source, text)
        except Damaged as error:
            if len(found.files) == 1:
                raise
            rejects.append(Reject(name, error.reason, error.what))
            continue
        forms[name] = form
        units.append(Unit(name, rows, (file,)))
        rows, good = rows + seen, good + seen - bad
    if not good:
        raise DataError(
            f"none of {rows:,} rows has as many values as the header, or every file is damaged", str(found.root), "check the delimiter"
        )
    plan = decide(learned, source, text, comma_parts={one.delimiter for one in forms.values()} == {","}, known=known, where=str(found.root))
    facts = _facts(forms, plan, found.format)
    return TextReader(source, forms, plan, units, rows + len(rejects), rejects, facts, list(plan.notes), batches)


def _learn(batches: Iterator[TextBatch], learned: Mapping[str, Learner], source: SourceOptions, text: Sequence[str]) -> tuple[int, int]:
    """(rows seen, rows of the wrong width among them); the learner of every column that is not text anyhow has seen every value."""
    missing = codes_by_column(source, learned)
    open_columns = {name: one for name, one in learned.items() if name in source.dates or not matches(text, name)}
    seen = bad = 0
    for batch in batches:
        seen += batch.table.num_rows + len(batch.bad_widths)
        bad += len(batch.bad_widths)
        for name, one in open_columns.items():
            one.see(words_of(batch.table.column(name), missing[name]))  # undecodable texts are null: they say nothing about the type
    return seen, bad


def _same_columns(learned: Mapping[str, Learner], form: TextForm, file: FileInfo) -> None:
    missing, more = set(learned) - set(form.names), set(form.names) - set(learned)
    if missing or more:
        which = f"lacks {sorted(missing)[:5]}" if missing else f"has {sorted(more)[:5]} beside"
        raise DataError(f"the files of the source differ: this one {which}", str(file.path), "a source's files have the same columns")


def _facts(forms: Mapping[str, TextForm], plan: Plan, kind: str) -> dict[str, Any]:
    def listed(values: set[str]) -> str:
        return ", ".join(sorted(values))

    facts: dict[str, Any] = {"format": kind}
    if kind != "xlsx":
        facts["encoding"] = listed({form.encoding + (" with BOM" if form.bom else "") for form in forms.values()})
        facts["delimiter"] = listed({form.delimiter for form in forms.values()})
    facts["decimal"] = plan.decimal
    facts["date_orders"] = plan.date_orders
    return facts

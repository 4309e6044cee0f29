"""Long rows (one a value) in, wide rows (one a time, a number column a variable) out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddx.errors import DataError
from meddx.ingest.block import Block
from meddx.ingest.cases import must_exist
from meddx.ingest.columns import NUMBER, MissingCodes
from meddx.ingest.options import SourceOptions

LONG = pa.schema([("@variable", pa.int32()), ("@value", pa.float64())])


class Pivot:
    """The variables of `pivot.only` as columns.  Of several values of one variable at one time the last in the file is taken.

    Missing codes of a single variable stand in `missing_in` under its name, as for any column.
    """

    def __init__(self, source: SourceOptions, schema: pa.Schema, mark: str, where: str) -> None:
        assert source.pivot is not None
        self.options, self.mark = source.pivot, mark if mark in NUMBER else "."
        self.names = list(source.pivot.only)
        if len(set(self.names)) < len(self.names):
            raise DataError("a variable stands twice in `pivot.only`", where, "name each once")
        for column in (self.options.variable, self.options.value):
            must_exist(column, schema, where)
        self.fields = [pa.field(name, pa.float64()) for name in self.names]
        self._codes = {i: MissingCodes(source.missing_in[name]).numbers for i, name in enumerate(self.names) if name in source.missing_in}

    def long(self, block: Block) -> tuple[Block, int]:
        """(the block with `@variable`, the place in `only`, and `@value` beside its columns; how many rows were of other variables).

        A value that is no number is a reject.
        """
        variables = pc.index_in(block.table.column(self.options.variable).cast(pa.string()), pa.array(self.names))
        mine = variables.is_valid().to_numpy()
        others = int((~mine).sum())
        values = block.table.column(self.options.value)
        wrong = np.zeros(len(mine), bool)
        if not pa.types.is_floating(values.type):
            texts = values.cast(pa.string())
            numeric = pc.match_substring_regex(texts, NUMBER[self.mark])
            wrong = mine & ~pc.fill_null(numeric, True).to_numpy()
            kept = pc.replace_substring(pc.if_else(pc.fill_null(numeric, False), texts, None), self.mark, ".")
            values = pc.utf8_ltrim(kept, "+").cast(pa.float64())
        table = block.table.append_column("@variable", pc.fill_null(variables, -1)).append_column("@value", values.cast(pa.float64()))
        whole = Block(table, block.source, block.rows, block.rejects, block.path_digests)
        rejects = [
            whole.reject(int(i), "value_unreadable", f"variable {self.names[variables[int(i)].as_py()]}") for i in np.flatnonzero(wrong)
        ]
        return whole.keep(mine & ~wrong, rejects), others

    def wide(self, rows: pa.Table, groups: np.ndarray, count: int) -> list[pa.Array]:
        """One float64 [count] column a variable from long rows; `groups` int64 [n] says to which wide row each goes, in time order."""
        variables = rows.column("@variable").to_numpy()
        values = rows.column("@value").to_numpy()
        there = ~np.isnan(values)
        for i, codes in self._codes.items():
            there &= ~((variables == i) & np.isin(values, codes.to_numpy()))
        made = np.full((len(self.names), count), np.nan)
        made[variables[there], groups[there]] = values[there]  # where an index repeats, numpy keeps the last
        return [pa.array(column, from_pandas=True) for column in made]

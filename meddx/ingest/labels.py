"""A table of labels and blocks of images in, blocks with the table's columns out; both sides are accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest.block import Block, Reject
from meddx.ingest.find import Found
from meddx.ingest.opened import open_reader
from meddx.ingest.options import SourceOptions
from meddx.yamlconf import nearest


def label_source(source: SourceOptions) -> SourceOptions:
    """How the label table is read: its own path and form, the missing codes, texts and dates of the source."""
    assert source.labels is not None
    shared = {key: getattr(source, key) for key in ("missing", "missing_in", "text", "dates", "encoding", "delimiter", "decimal", "sheet")}
    return SourceOptions(path=source.labels.path, **shared)


class LabelJoin:
    """The label table in memory, keyed by what names an image.  An image without a row gets nulls; a row without an image is rejected."""

    def __init__(self, table: pa.Table, rows: np.ndarray, source: SourceOptions, images: pa.Schema, name: str) -> None:
        assert source.labels is not None
        self.match, key = source.labels.match, source.labels.key
        self.name, self._rows = name, rows
        self._rejects: list[Reject] = []
        self._index = self._indexed(table.column(key).to_pylist())
        self._used = np.zeros(len(rows), bool)
        self._table = table.drop_columns([key]) if key in images.names else table
        clash = [one for one in self._table.column_names if one in images.names]
        if clash:
            raise DataError(
                f"the label table has columns that the images have too: {', '.join(clash[:5])}", name, "rename them in the table"
            )
        self.schema = pa.schema([*images, *self._table.schema])
        self.facts: dict[str, Any] = {"rows": len(rows), "key": key, "match": self.match}
        self.notes: list[str] = []
        self._without = 0

    @classmethod
    def open(cls, source: SourceOptions, found: Found, images: pa.Schema, text: Sequence[str]) -> LabelJoin:
        """Read the whole label table.  Raises DataError when it has no such key column."""
        assert source.labels is not None
        reader = open_reader(found, label_source(source), text, {})
        key = source.labels.key
        if key not in reader.schema.names:
            guess = nearest(key, reader.schema.names)
            hint = f"did you mean {guess!r}?" if guess else f"its columns: {', '.join(reader.schema.names[:12])}"
            raise DataError(f"the label table has no column {key!r}", str(found.root), hint)
        blocks = [(unit, block) for unit in reader.units for block in reader.read_unit(unit)]
        table = pa.concat_tables([block.table for _, block in blocks])
        rows = np.concatenate([block.rows + unit.offset for unit, block in blocks])
        join = cls(table, rows, source, images, found.root.name)
        join._rejects += [*reader.rejects, *(one for _, block in blocks for one in block.rejects)]
        join.notes += reader.notes
        return join

    def _indexed(self, keys: list[str | None]) -> dict[str, int]:
        index: dict[str, int] = {}
        for position, key in enumerate(keys):
            if not key:
                self._rejects.append(Reject(self.name, "label_key_missing", "", int(self._rows[position])))
            elif key in index:
                self._rejects.append(Reject(self.name, "label_key_repeated", "", int(self._rows[position])))
            else:
                index[key] = position
        return index

    def join(self, block: Block) -> Block:
        """The block with the label columns; null where the table has no row for the image.  Remembers which rows were used."""
        keys = block.table.column(self.match).to_pylist()
        found = [self._index.get(key) if key else None for key in keys]
        self._used[[position for position in found if position is not None]] = True
        self._without += found.count(None)
        labels = self._table.take(pa.array(found, pa.int64()))
        columns = [*block.table.columns, *labels.columns]
        return Block(pa.table(columns, schema=self.schema), block.source, block.rows, block.rejects, block.path_digests)

    def left_over(self) -> list[Reject]:
        """Once every image was joined: one reject for each row of the table that gave no label."""
        no_image = [Reject(self.name, "no_image", "", int(self._rows[i])) for i in self._index.values() if not self._used[i]]
        if self._without:
            self.notes.append(f"{self._without:,} images have no row in the label table: they are cases without a label")
        return [*self._rejects, *no_image]

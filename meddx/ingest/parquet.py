"""Parquet files in, blocks of typed rows out: numbers stay numbers, texts stay texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meddx.errors import DataError
from meddx.ingest import dates
from meddx.ingest.block import Block, Damaged, Empty, Reject, Unit
from meddx.ingest.columns import ColumnType, MissingCodes, convert, matches, words_of
from meddx.ingest.find import Found
from meddx.ingest.options import SourceOptions
from meddx.ingest.typed import codes_by_column
from meddx.storage import FileInfo

BATCH_BYTES = 32 << 20
BATCH_ROWS = 10_000
CONTENT = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OSError)


@dataclass
class ParquetReader:
    """Opened Parquet files of one schema."""

    source: SourceOptions
    text: Sequence[str]
    schema: pa.Schema
    units: Sequence[Unit]
    expected: int
    rejects: Sequence[Reject]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The rows of one file.  A row group that breaks off rejects each row that did not come, for its count is known."""
        file, done = _open(unit.files[0]), 0
        missing = codes_by_column(self.source, self.schema.names)
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            end = done + group.num_rows
            try:
                for batch in file.iter_batches(_batch_rows(group), row_groups=[number], columns=self.schema.names):
                    yield self._block(batch, unit.name, done, missing)
                    done += batch.num_rows
            except CONTENT as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # a fault of the storage, not of the file
                lost = [Reject(unit.name, "page_unreadable", "", row) for row in range(done + 1, end + 1)]
                yield Block(self.schema.empty_table(), unit.name, np.empty(0, np.int64), lost)
            done = end

    def _block(self, batch: pa.RecordBatch, name: str, done: int, missing: Mapping[str, MissingCodes]) -> Block:
        wrong = np.zeros(batch.num_rows, bool)
        columns = []
        for column in self.schema.names:
            values, bad = _convert(
                batch.column(column), self.schema.field(column).type, missing[column], self.source.dates.get(column), column
            )
            columns.append(values)
            if bad is not None:
                wrong |= bad
        rows = np.arange(done + 1, done + 1 + batch.num_rows, dtype=np.int64)
        block = Block(pa.table(columns, schema=self.schema), name, rows)
        return block.keep(~wrong, [block.reject(int(i), "date_unreadable") for i in np.flatnonzero(wrong)]) if wrong.any() else block


def _batch_rows(group: Any) -> int:
    return max(16, min(BATCH_ROWS, BATCH_BYTES * int(group.num_rows) // max(int(group.total_byte_size), 1)))


def _open(file: FileInfo) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.path.open(), page_checksum_verification=True)
    except CONTENT as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        kind = Empty if file.size == 0 else Damaged
        raise kind("not readable as Parquet", str(file.path), "copy it again from its origin") from error


def open_parquet(found: Found, source: SourceOptions, text: Sequence[str]) -> ParquetReader:
    """The schema of all files, from their footers.  Raises DataError where they differ; a damaged one of many is a reject."""
    rejects: list[Reject] = []
    units: list[Unit] = []
    notes: list[str] = []
    rows, schema = 0, None
    for info in found.files:
        name = info.path.relative_to(found.root) if found.is_folder else info.path.name
        try:
            file = _open(info)
        except Damaged as error:
            if len(found.files) == 1:
                raise
            rejects.append(Reject(name, error.reason, error.what))
            continue
        mine = _target_schema(file.schema_arrow, source, text, notes if schema is None else [])
        if schema is not None and not mine.equals(schema):
            raise DataError(
                "the files of the source differ in their columns", str(info.path), "a source's files have the same columns and types"
            )
        schema = mine
        units.append(Unit(name, rows, (info,)))
        rows += file.metadata.num_rows
    if schema is None or not rows:
        raise DataError("the source has no row", str(found.root), "check the export that made it")
    return ParquetReader(source, text, schema, units, rows + len(rejects), rejects, {"format": "parquet"}, notes)


def _target_schema(schema: pa.Schema, source: SourceOptions, text: Sequence[str], notes: list[str]) -> pa.Schema:
    repeated = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if repeated:
        raise DataError(f"the file names a column twice: {', '.join(repeated[:5])}", source.path, "rename one")
    fields = []
    for one in schema:
        to = pa.string() if matches(text, one.name) and not pa.types.is_nested(one.type) else _target(one.type, one.name in source.dates)
        if to is None or one.name.startswith("__index_level_"):
            notes.append(f"column {one.name!r} is left out: {'an index of pandas' if to is not None else f'{one.type} is no plain value'}")
        else:
            fields.append(pa.field(one.name, to))
    return pa.schema(fields)


def _target(kind: pa.DataType, is_date: bool) -> pa.DataType | None:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        return None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_date(kind) or is_date:
        return pa.timestamp("us")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return pa.string()


def _convert(
    values: pa.Array, to: pa.DataType, missing: MissingCodes, order: dates.Order | None, name: str
) -> tuple[pa.Array, np.ndarray | None]:
    """(the column as `to`, bool of rows whose text is no date or None)."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    textual = pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    try:
        if textual and not pa.types.is_binary(to):
            kind = ColumnType("date", order or "ymd") if pa.types.is_timestamp(to) else ColumnType("text")
            return convert(words_of(values.cast(pa.string()), missing), kind, ".")
        if pa.types.is_string(to):
            return _masked(_as_text(values), missing), None
        if pa.types.is_floating(to):
            return _numbers(values.cast(pa.float64()), missing), None
        return values.cast(to, safe=not pa.types.is_timestamp(to)), None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"the column {name!r} ({values.type}) does not fit into {to}", "the Parquet source", "declare it under `text`"
        ) from error


def _numbers(values: pa.Array, missing: MissingCodes) -> pa.Array:
    """NaN and missing codes as null; each step only where there is something to do, for there may be thousands of columns."""
    nothing = pa.scalar(None, pa.float64())
    if pc.any(pc.is_nan(values)).as_py():
        values = pc.if_else(pc.fill_null(pc.is_nan(values), False), nothing, values)
    return pc.if_else(missing.found_in_numbers(values), nothing, values) if len(missing.numbers) else values


def _as_text(values: pa.Array) -> pa.Array:
    """The exact text of each value: 12 for the float 12.0, true and false for booleans."""
    if pa.types.is_floating(values.type):
        texts = values.cast(pa.string())
        whole = pc.fill_null(pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53)), False)
        integers = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
        texts = pc.if_else(whole, integers, texts)
        return pc.if_else(pc.fill_null(pc.is_nan(values), False), pa.scalar(None, pa.string()), texts)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type) or pa.types.is_fixed_size_binary(values.type):
        return values.cast(pa.binary()).cast(pa.string())
    return values.cast(pa.string())


def _masked(texts: pa.Array, missing: MissingCodes) -> pa.Array:
    return pc.if_else(missing.found_in(texts), pa.scalar(None, pa.string()), texts)

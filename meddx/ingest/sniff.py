"""A source in, a small sample as text with doubts noted out: what `meddx draft` writes a page from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from meddx.ingest import text as texts
from meddx.ingest import xlsx
from meddx.ingest.columns import NUMBER, matches
from meddx.ingest.dates import first_two
from meddx.ingest.find import Found, find
from meddx.ingest.opened import open_reader
from meddx.ingest.options import SourceOptions

SUSPECTS = ("?", "-", ".", "NA", "N/A", "n/a", "NaN", "nan", "None", "none", "NULL", "null", "missing", "unknown", "Unknown", "#N/A")
SAMPLE_BYTES = 256 << 20  # volumes are large: the sample ends here
NUMERIC_SUSPECTS = (-1.0, -9.0, -99.0, -999.0, 99.0, 999.0, 9999.0)


@dataclass(frozen=True)
class Sniffed:
    """`table`: rows as written in the file (string columns; pictures binary); `notes`: one plain sentence each; `format`: the family."""

    table: pa.Table
    notes: list[str]
    format: str


def sniff(source: SourceOptions, rows: int = 1000, text: Sequence[str] = ()) -> Sniffed:
    """The first `rows` rows of the source and what is doubtful in them.  `text`: columns that are known to be codes.

    Raises DataError when the source is not there, empty or damaged.
    """
    found = find(source)
    if found.format in ("csv", "tsv", "xlsx"):
        table, notes = _of_text(found, source, rows)
    else:
        table, notes = _of_typed(found, source, rows, text)
    for name in table.column_names:
        if pa.types.is_string(table.column(name).type) and not matches(text, name):
            notes += _doubts(name, [value.strip() for value in table.column(name).to_pylist() if value], source)
    return Sniffed(table, notes, found.format)


def _of_text(found: Found, source: SourceOptions, rows: int) -> tuple[pa.Table, list[str]]:
    file = found.files[0]
    if found.format == "xlsx":
        form = xlsx.detect(file, source)
        records, notes = xlsx.sample(file, form, source, rows), []
    else:
        form = texts.detect(file, source, found.format)
        records = texts.sample(file, form, source, rows)
        notes = [f"encoding {form.encoding}{' with a byte order mark' if form.bom else ''}", f"values parted by {form.delimiter!r}"]
    whole = [record for record in records if len(record) == len(form.names)]
    if len(whole) < len(records):
        notes.append(f"{len(records) - len(whole)} of {len(records)} rows have another number of values than the header")
    if len(found.files) > 1:
        notes.append(f"{len(found.files):,} files; this is the first")
    columns = {name: pa.array([record[i] for record in whole], pa.string()) for i, name in enumerate(form.names)}
    return pa.table(columns), notes


def _of_typed(found: Found, source: SourceOptions, rows: int, text: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Parquet, MedMNIST and images: the first blocks, with numbers as text too, so that one page fits all formats."""
    reader = open_reader(found, source, text, {})
    taken: list[pa.Table] = []
    rejected = 0
    for block in (block for unit in reader.units for block in reader.read_unit(unit)):
        taken.append(block.table.slice(0, rows - sum(one.num_rows for one in taken)))
        rejected += len(block.rejects)
        if sum(one.num_rows for one in taken) >= rows or sum(one.nbytes for one in taken) >= SAMPLE_BYTES:
            break
    table = pa.concat_tables(taken) if taken else reader.schema.empty_table()
    fields = [pa.field(one.name, one.type if pa.types.is_binary(one.type) else pa.string()) for one in table.schema]
    notes = list(reader.notes) + ([f"{rejected} of the first files or rows cannot be read"] if rejected else [])
    return pa.table([_as_text(table.column(one.name)) for one in fields], schema=pa.schema(fields)), notes


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
        texts_ = [None if rows is None else json.dumps(rows, ensure_ascii=False) for rows in column.to_pylist()]
        return pa.chunked_array([pa.array(texts_, pa.string())])
    return column if pa.types.is_binary(column.type) else column.cast(pa.string())


def _doubts(name: str, values: list[str], source: SourceOptions) -> list[str]:
    declared = {*source.missing, *source.missing_in.get(name, ())}
    suspects = sorted({value for value in values if value in SUSPECTS} - declared)
    notes = [f"column {name!r}: {', '.join(map(repr, suspects))} may mean missing"] if suspects else []
    mark = "," if source.decimal == "," or (source.delimiter == ";" and source.decimal == "auto") else "."
    rest = [value for value in values if value not in SUSPECTS and value not in declared]
    if rest and all(re.match(NUMBER[mark], value) for value in rest):
        return notes + _number_doubts(name, [float(value.replace(",", ".")) for value in rest], declared, rest)
    pairs = [first_two(value) for value in rest]
    if rest and all(pair != (0, 0) for pair in pairs) and not any(max(pair) > 12 for pair in pairs) and name not in source.dates:
        notes.append(f"column {name!r}: dates such as 03/04/2020; say under `dates` whether day or month comes first")
    return notes


def _number_doubts(name: str, numbers: list[float], declared: set[str], texts_: list[str]) -> list[str]:
    """A code for missing stands alone: the only negative value, or far beyond all others."""
    notes = []
    if any(re.match(r"[+-]?0\d", value) for value in texts_):
        notes.append(f"column {name!r}: leading zeros, so it is a code and stays text")
    for suspect in NUMERIC_SUSPECTS:
        others = [number for number in numbers if number != suspect]
        if len(others) == len(numbers) or not others or f"{suspect:g}" in declared:
            continue
        if (suspect < 0 and min(others) >= 0) or (suspect > 0 and suspect >= 3 * max(map(abs, others)) > 0):
            notes.append(f"column {name!r}: {suspect:g} may mean missing")
    return notes

"""One source in, an opened reader out: the table of format families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from meddx.errors import DataError
from meddx.ingest.block import Block, Reader, Unit
from meddx.ingest.columns import Kind
from meddx.ingest.find import FOLDER_FORMATS, Found
from meddx.ingest.options import SourceOptions


def open_reader(found: Found, source: SourceOptions, text: Sequence[str], known: Mapping[str, Kind]) -> Reader:
    """The reader of `found.format`, with the column of `file_as`; each family is imported only when it is used."""
    if source.series and found.format != "dicom":
        raise DataError("`series` is for DICOM", str(found.root), "leave it out")
    reader = _family(found, source, text, known)
    if source.file_as is None:
        return reader
    if found.format in FOLDER_FORMATS:
        raise DataError("`file_as` is for tables: a folder of images has `file_name` already", str(found.root), "use `file_name`")
    return WithFile(reader, source.file_as, str(found.root))


class WithFile:
    """A reader whose rows also say which file they come from, by its path within the source: the name, where there are no folders."""

    def __init__(self, reader: Reader, name: str, where: str) -> None:
        if name in reader.schema.names:
            raise DataError(f"file_as: {name!r} is a column already", where, "choose another name")
        self._reader, self._field = reader, pa.field(name, pa.string())
        self.units, self.expected, self.rejects = reader.units, reader.expected, reader.rejects
        self.facts, self.notes = reader.facts, reader.notes

    @property
    def schema(self) -> pa.Schema:
        return self._reader.schema.append(self._field)

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The blocks of the reader with the column added."""
        for block in self._reader.read_unit(unit):
            column = pa.repeat(pa.scalar(unit.name, pa.string()), block.table.num_rows)
            yield replace(block, table=block.table.append_column(self._field, column))


def _family(found: Found, source: SourceOptions, text: Sequence[str], known: Mapping[str, Kind]) -> Reader:
    if found.format in ("csv", "tsv", "xlsx"):
        from meddx.ingest.typed import open_text

        return open_text(found, source, text, known)
    if found.format == "parquet":
        from meddx.ingest.parquet import open_parquet

        return open_parquet(found, source, text)
    if found.format == "medmnist":
        from meddx.ingest.medmnist import open_medmnist

        return open_medmnist(found)
    if found.format == "wfdb":
        from meddx.ingest.wfdb import open_wfdb

        return open_wfdb(found, source)
    if found.format == "iob":
        from meddx.ingest.iob import open_iob

        return open_iob(found, source)
    if source.series:
        from meddx.ingest.series import open_series

        return open_series(found, source)
    from meddx.ingest.folder import open_folder

    return open_folder(found, source)

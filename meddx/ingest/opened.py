"""One source in, an opened reader out: the table of format families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meddx.ingest.block import Reader
from meddx.ingest.columns import Kind
from meddx.ingest.find import Found
from meddx.ingest.options import SourceOptions


def open_reader(found: Found, source: SourceOptions, text: Sequence[str], known: Mapping[str, Kind]) -> Reader:
    """The reader of `found.format`; each family is imported only when it is used."""
    if found.format in ("csv", "tsv", "xlsx"):
        from meddx.ingest.typed import open_text

        return open_text(found, source, text, known)
    if found.format == "parquet":
        from meddx.ingest.parquet import open_parquet

        return open_parquet(found, source, text)
    if found.format == "medmnist":
        from meddx.ingest.medmnist import open_medmnist

        return open_medmnist(found)
    from meddx.ingest.folder import open_folder

    return open_folder(found, source)

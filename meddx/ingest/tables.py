"""A csv or tsv file in, batches of undecoded cells with their row numbers out, in bounded memory."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from meddx.errors import DataError
from meddx.ingest.block import Damaged
from meddx.ingest.options import SourceOptions
from meddx.ingest.text import TextForm, open_bytes
from meddx.storage import FileInfo

BLOCK = 1 << 22  # bytes parsed at once; also the longest quoted value
NATIVE = ("utf-8", "ascii")


@dataclass(frozen=True)
class TextBatch:
    """Cells as binary or string columns; `rows` int64 [n] 1-based in the file; `bad_widths`: numbers of rows of the wrong width."""

    table: pa.Table
    rows: np.ndarray
    bad_widths: list[int]


class _Transcoded(io.RawIOBase):
    """A readable stream of UTF-8 from another encoding; bytes that it cannot read come out as *invalid* UTF-8, to be found by cell."""

    def __init__(self, raw: Any, encoding: str) -> None:
        self.raw = raw
        # Wide encodings have no single bad byte to escape, only lone surrogates to pass on.
        self.decoder = codecs.getincrementaldecoder(encoding)("surrogatepass" if encoding.startswith("utf-") else "surrogateescape")
        self.ready = b""
        self.ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self.ended and (size < 0 or len(self.ready) < size):
            piece = bytes(self.raw.read(1 << 20))
            self.ended = not piece
            self.ready += self.decoder.decode(piece, final=self.ended).encode("utf-8", "surrogatepass")
        size = len(self.ready) if size < 0 else size
        taken, self.ready = self.ready[:size], self.ready[size:]
        return taken

    def close(self) -> None:
        self.raw.close()
        super().close()


def batches(file: FileInfo, form: TextForm, source: SourceOptions) -> Iterator[TextBatch]:
    """The rows of `file`.  Raises Damaged when the file breaks off or a quote is never closed; a header alone gives no batch."""
    bad: list[int] = []
    first_row = 1 + source.skip_rows + int(source.header)  # as pyarrow counts
    try:
        with _open(file, form) as stream:
            reader = _reader(stream, form, source, bad)
            numbers = _RowNumbers(bad, first_row)
            for batch in reader:
                yield TextBatch(pa.Table.from_batches([batch]), *numbers.take(batch.num_rows))
            yield TextBatch(reader.schema.empty_table(), np.empty(0, np.int64), numbers.rest())
    except (pa.ArrowInvalid, OSError, UnicodeError) as error:
        raise _explained(error, file) from error


def _open(file: FileInfo, form: TextForm) -> Any:
    stream = open_bytes(file)
    return stream if form.encoding in NATIVE else pa.PythonFile(_Transcoded(stream, form.encoding), mode="r")


def _reader(stream: Any, form: TextForm, source: SourceOptions, bad: list[int]) -> Any:
    def skip(row: Any) -> str:
        bad.append(row.number)
        return "skip"

    # One thread: row numbers are known only then, and parsing is not what takes the time.
    return pacsv.open_csv(
        stream,
        read_options=pacsv.ReadOptions(
            use_threads=False,
            block_size=BLOCK,
            column_names=list(form.names),
            skip_rows=source.skip_rows,
            skip_rows_after_names=int(source.header),
        ),
        parse_options=pacsv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pacsv.ConvertOptions(column_types={name: pa.binary() for name in form.names}, strings_can_be_null=False),
    )


class _RowNumbers:
    """Gives the good rows of each batch their number in the file, from the numbers of the rows that the parser left out."""

    def __init__(self, bad: list[int], first: int) -> None:
        self.bad, self.first = bad, first
        self.next = first

    def take(self, count: int) -> tuple[np.ndarray, list[int]]:
        candidates = np.arange(self.next, self.next + count + len(self.bad), dtype=np.int64)
        rows = candidates[~np.isin(candidates, np.array(self.bad, np.int64))][:count]
        if count:
            self.next = int(rows[-1]) + 1
        passed = [number for number in self.bad if number < self.next]
        self.bad[:] = [number for number in self.bad if number >= self.next]
        return rows - self.first + 1, [number - self.first + 1 for number in passed]

    def rest(self) -> list[int]:
        return [number - self.first + 1 for number in self.bad]


def _explained(error: Exception, file: FileInfo) -> DataError:
    text = str(error)
    if "straddling" in text:
        what = f"a value longer than {BLOCK >> 20} MB, or a quote that is never closed"
        return Damaged(what, str(file.path), "mend the quotes in the file")
    if isinstance(error, UnicodeError):
        return Damaged("the file is not in the encoding that it seems to have", str(file.path), "declare `encoding`")
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # a fault of the storage, not of the file
    return Damaged(
        f"the file cannot be parsed: {text[:100] if 'Truncated' in text else type(error).__name__}",
        str(file.path),
        "copy it again from its origin",
    )

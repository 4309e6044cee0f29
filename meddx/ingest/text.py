"""Bytes of a text file in; encoding, delimiter and column names out, each detected or declared."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from meddx.errors import DataError, RecipeError
from meddx.ingest.block import Damaged, Empty
from meddx.ingest.options import SourceOptions
from meddx.storage import FileInfo

HEAD = 1 << 20
PIECE = 1 << 22
EVIDENCE = 1 << 18  # bytes of lines beyond ASCII that are enough to know an encoding
AGREE = 0.9  # share of those lines that an encoding must be able to read; the others are quarantined later
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class TextForm:
    """How one text file is written.  `names`: its columns; `bom`: whether a byte order mark stands first."""

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    bom: bool = False


def open_bytes(file: FileInfo) -> Any:
    """A binary stream of the file's content, unpacked where the name ends in .gz."""
    raw = file.path.open()
    return pa.CompressedInputStream(raw, "gzip") if file.path.name.lower().endswith(".gz") else raw


def read_head(file: FileInfo) -> bytes:
    """The first megabyte of content.  Raises Empty for no bytes, Damaged for a broken gzip."""
    try:
        with open_bytes(file) as stream:
            head = bytes(stream.read(HEAD))
    except (OSError, pa.ArrowInvalid) as error:
        raise Damaged("the compressed file is damaged", str(file.path), "copy it again from its origin") from error
    if not head.strip(b"\x00\r\n\t \xef\xbb\xbf"):
        raise Empty("the file is empty", str(file.path), "check the export that made it")
    return head


def detect(file: FileInfo, source: SourceOptions, kind: str) -> TextForm:
    """The form of `file`; `kind` is csv or tsv.  Declared keys are taken at their word."""
    head = read_head(file)
    encoding, bom = encoding_of(file, head, source.encoding)
    text = _decode(head, encoding)
    lines = _after(text, source.skip_rows)
    if len(head) == HEAD:
        lines = lines[: lines.rfind("\n") + 1] or lines  # the last line of the sample is cut
    delimiter: str = source.delimiter
    if delimiter == "auto":
        delimiter = "\t" if kind == "tsv" else _delimiter(lines, len(source.columns))
    return TextForm(encoding, delimiter, _names(file, lines, delimiter, source), bom)


def sample(file: FileInfo, form: TextForm, source: SourceOptions, rows: int) -> list[list[str]]:
    """The first `rows` records after the header, as texts."""
    lines = _after(_decode(read_head(file), form.encoding), source.skip_rows)
    records = [record for record in _records(lines, form.delimiter, rows + 2) if record]
    return records[int(source.header) :][:rows]


def _after(text: str, skipped: int) -> str:
    parts = text.split("\n", skipped)
    return parts[skipped] if len(parts) > skipped else ""


def _decode(head: bytes, encoding: str) -> str:
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    return codecs.getincrementaldecoder(name)("replace").decode(head)


def encoding_of(file: FileInfo, head: bytes, declared: str) -> tuple[str, bool]:
    """(encoding, whether a byte order mark stands first) of a file that begins with `head`; a declared one is taken at its word."""
    bom = next((name for mark, name in BOMS if head.startswith(mark)), None)
    if declared != "auto":
        try:
            name = codecs.lookup(declared).name.removesuffix("-sig")
        except LookupError as error:
            raise RecipeError(f"the encoding {declared!r} is not known", "source.encoding", "such as utf-8, gb18030, latin-1") from error
        return name, bom is not None
    if bom:
        return bom, True
    if b"\x00" in head[:4096]:
        raise DataError(
            "the file holds zero bytes: not a text file, or UTF-16 without a mark", str(file.path), "declare `encoding: utf-16-le`"
        )
    guessed = guess_encoding(_lines_beyond_ascii(file))
    if guessed is None:
        raise DataError("the encoding of the file cannot be told", str(file.path), "declare `encoding`, such as cp1251, big5 or shift_jis")
    return guessed, False


def _lines_beyond_ascii(file: FileInfo) -> list[bytes]:
    """Lines that tell an encoding, from the whole file where they are rare: a first umlaut may stand in the last gigabyte."""
    lines: list[bytes] = []
    size, rest = 0, b""
    with open_bytes(file) as stream:
        try:
            while size < EVIDENCE and (piece := bytes(stream.read(PIECE))):
                if rest.isascii() and piece.isascii():
                    rest = b""
                    continue
                whole, _, rest = (rest + piece).rpartition(b"\n")
                found = [line for line in whole.splitlines() if not line.isascii()]
                lines += found
                size += sum(map(len, found))
        except OSError as error:
            raise Damaged("the compressed file is damaged", str(file.path), "copy it again from its origin") from error
    return lines + ([rest] if rest and not rest.isascii() else [])


def guess_encoding(lines: list[bytes]) -> str | None:
    """utf-8, gb18030, latin-1 or cp1252 for lines beyond ASCII; None when it is none of them.

    Most lines decide, for one bad line must not change all others.  Chinese bytes come in pairs and Western accents stand
    alone between letters; libraries that guess by letter frequency took a lone umlaut for Chinese.
    """
    if not lines or _readable(lines, "utf-8"):
        return "utf-8"
    runs = [len(run) for line in lines for run in re.findall(rb"[\x80-\xff]+", line)]
    beyond = sum(runs)
    if sum(run for run in runs if run >= 2) >= beyond / 2 and _readable(lines, "gb18030"):
        return "gb18030"
    if sum(run for run in runs if run >= 3) > beyond / 2:
        return None  # Cyrillic, Japanese, ...: whole words beyond ASCII
    has_windows_marks = any(re.search(rb"[\x80-\x9f]", line) for line in lines)
    return "cp1252" if has_windows_marks else "latin-1"


def _readable(lines: list[bytes], encoding: str) -> bool:
    return sum(_reads(line, encoding) for line in lines) >= AGREE * len(lines)


def _reads(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _records(lines: str, delimiter: str, limit: int) -> list[list[str]]:
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter)
    found: list[list[str]] = []
    try:
        for record in reader:
            found.append(record)
            if len(found) == limit:
                break
    except csv.Error:  # a field beyond the csv module's limit: what was read is sample enough
        pass
    return found


def _delimiter(lines: str, declared_columns: int) -> str:
    """The mark that parts most records into the header's number of values; `;`, tab and `|` before `,`, which is also a decimal mark."""
    best, best_score = ",", (0.0, 0)
    for mark in (";", "\t", "|", ","):
        records = [record for record in _records(lines, mark, 100) if record]
        width = declared_columns or (len(records[0]) if records else 0)
        if width < 2:
            continue
        share = sum(len(record) == width for record in records) / len(records)
        score = (round(share, 1), 0) if share >= AGREE else (share, width)
        if score > best_score:
            best, best_score = mark, score
    return _delimiter(lines, 0) if declared_columns and not best_score[0] else best


def _names(file: FileInfo, lines: str, delimiter: str, source: SourceOptions) -> tuple[str, ...]:
    records = [record for record in _records(lines, delimiter, 5) if record]
    if len(records) <= int(source.header):
        raise Empty("the file holds no row", str(file.path), "check the key `skip_rows` and the export")
    first = records[0]
    if source.header:
        return clean_names(first, str(file.path))
    if not source.columns:
        raise RecipeError("a file without a header needs `columns`", "source.columns", f"name its {len(first)} columns, in order")
    if len(first) != len(source.columns):
        message = f"`columns` names {len(source.columns)} columns, the file has {len(first)}"
        raise DataError(message, str(file.path), "name each column once, in order; check the delimiter")
    return source.columns


def clean_names(names: list[str], where: str) -> tuple[str, ...]:
    """Header names without outer blanks; an unnamed column is called unnamed_<position>.  Raises DataError for a repeated name."""
    cleaned = [name.strip().lstrip("\ufeff").strip() or f"unnamed_{i}" for i, name in enumerate(names, 1)]
    repeated = sorted(name for name, count in Counter(cleaned).items() if count > 1)
    if repeated:
        shown = ", ".join(repeated[:5])
        raise DataError(
            f"the header names a column twice: {shown}", where, "rename one in the file, or use skip_rows, header: false and columns"
        )
    return tuple(cleaned)

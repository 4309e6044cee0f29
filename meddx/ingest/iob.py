"""Files of one word and its tag a line in, one row a sentence with its entities out, streamed.

A line is `word<TAB>tag`, or more columns of which the first and the last count; in a file without tabs blanks part the columns.  A blank
line, or one that begins with -DOCSTART-, ends a sentence.  Tags are O, B-x, I-x, or bare B and I, whose label is `entity`.  One rule reads
both dialects (Ramshaw and Marcus 1995): I-x right after B-x or I-x continues an entity, any other I-x begins one, which is IOB1 and never
happens in IOB2.  A sentence with a line that cannot be read is one reject, for a hole would teach that what was there is no entity.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import DataError, RecipeError
from meddx.ingest.block import Block, Damaged, Empty, Reject, Unit
from meddx.ingest.find import Found
from meddx.ingest.options import SourceOptions
from meddx.ingest.text import encoding_of, open_bytes, read_head
from meddx.storage import FileInfo

BLOCK = 2_000  # sentences
MAX_WORDS = 20_000  # of a sentence: a file without blank lines must not fill the memory
MAX_LINE = 1 << 20  # characters
PIECE = 1 << 20  # bytes
BARE = "entity"
SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))
SCHEMA = pa.schema([("text", pa.string()), ("spans", SPANS), ("words", pa.float64())])
_TAG = re.compile(r"O|([BI])(?:-(.+))?")
_BAD_BYTES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class _Form:
    """How one file is written; `tabs`: whether tabs part its columns."""

    encoding: str
    bom: bool
    tabs: bool


@dataclass
class IobReader:
    """Opened files; each is one unit."""

    skipped: int
    forms: dict[str, _Form]
    units: Sequence[Unit]
    expected: int
    rejects: Sequence[Reject]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    schema: pa.Schema = SCHEMA

    def read_unit(self, unit: Unit) -> Iterator[Block]:
        """The sentences of one file: text (its words with a blank between), spans (places in that text in code points), words (how many).

        Rejects: tag_missing (one column), word_missing, tag_unreadable, bytes_undecodable, sentence_too_long; the detail is the line.
        """
        form, file = self.forms[unit.name], unit.files[0]
        with _explained(file):
            lines = islice(enumerate(_lines(file, form.encoding), 1), self.skipped, None)
            groups = (group for ends, group in groupby(lines, key=lambda line: _ends(line[1])) if not ends)
            numbered = enumerate((_sentence(group, form.tabs) for group in groups), 1)
            while some := list(islice(numbered, BLOCK)):
                good = [(number, one) for number, one in some if isinstance(one, dict)]
                rejects = [Reject(unit.name, *one, row=number) for number, one in some if isinstance(one, tuple)]
                rows = np.array([number for number, _ in good], np.int64)
                yield Block(pa.Table.from_pylist([one for _, one in good], schema=SCHEMA), unit.name, rows, rejects)


def open_iob(found: Found, source: SourceOptions) -> IobReader:
    """Counts the sentences of every file.  A damaged or empty file is one reject when there are others, else it raises."""
    if source.delimiter not in ("auto", "\t"):
        raise RecipeError("tagged words are parted by tabs or blanks", "source.delimiter", "leave the key out")
    forms: dict[str, _Form] = {}
    units: list[Unit] = []
    rejects: list[Reject] = []
    sentences = 0
    for file in found.files:
        name = file.path.relative_to(found.root) if found.is_folder else file.path.name
        try:
            forms[name] = form = _form(file, source)
            count = _count(file, form, source.skip_rows)
        except Damaged as error:
            if len(found.files) == 1:
                raise
            rejects.append(Reject(name, error.reason, error.what))
            continue
        units.append(Unit(name, sentences, (file,)))
        sentences += count
    if not units:
        raise DataError(
            f"none of {len(found.files)} files can be read: empty, or damaged", str(found.root), "check the export that made them"
        )
    facts = {
        "format": "iob",
        "encoding": ", ".join(sorted({one.encoding + (" with BOM" if one.bom else "") for one in forms.values()})),
        "delimiter": ", ".join(sorted({"\t" if one.tabs else " " for one in forms.values()})),
    }
    return IobReader(source.skip_rows, forms, units, sentences + len(rejects), rejects, facts)


def _form(file: FileInfo, source: SourceOptions) -> _Form:
    head = read_head(file)
    encoding, bom = encoding_of(file, head, source.encoding)
    with _explained(file):
        sample = list(islice((line for line in islice(_lines(file, encoding), source.skip_rows, None) if not _ends(line)), 1000))
    if not sample:
        raise Empty("the file holds no sentence", str(file.path), "check the key `skip_rows` and the export")
    with_tabs = sum("\t" in line for line in sample)
    return _Form(encoding, bom, source.delimiter == "\t" or 2 * with_tabs >= len(sample))


def _count(file: FileInfo, form: _Form, skipped: int) -> int:
    """How many sentences the file has, without a look at their words."""
    count, inside = 0, False
    with _explained(file):
        for line in islice(_lines(file, form.encoding), skipped, None):
            ends = _ends(line)
            count += not ends and not inside
            inside = not ends
    return count


@contextmanager
def _explained(file: FileInfo) -> Iterator[None]:
    """Damaged for a file that breaks off or is not in its encoding; a fault of the storage is not the file's."""
    try:
        yield
    except UnicodeError as error:
        raise Damaged("the file is not in the encoding that it seems to have", str(file.path), "declare `encoding`") from error
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged("the compressed file is damaged", str(file.path), "copy it again from its origin") from error


def _lines(file: FileInfo, encoding: str) -> Iterator[str]:
    """The lines without their ends (LF, CRLF, CR) and without byte order mark; a byte that cannot be read becomes a lone surrogate."""
    wide = encoding.startswith("utf-") and encoding != "utf-8"  # wide encodings have no single bad byte to escape
    decode = codecs.getincrementaldecoder(encoding)("surrogatepass" if wide else "surrogateescape")
    decoder = io.IncrementalNewlineDecoder(decode, translate=True)
    rest, fresh = "", True
    with open_bytes(file) as stream:
        while piece := bytes(stream.read(PIECE)):
            text = rest + decoder.decode(piece)
            if fresh and text:
                text, fresh = text.removeprefix("\ufeff"), False
            *whole, rest = text.split("\n")
            yield from whole
            if len(rest) > MAX_LINE:
                raise Damaged(f"a line of more than {MAX_LINE:,} characters", str(file.path), "a line is one word and its tag")
    rest += decoder.decode(b"", final=True)
    if rest:
        yield from rest.split("\n")


def _ends(line: str) -> bool:
    """Whether the line ends a sentence."""
    return not line.strip() or line.startswith("-DOCSTART-")


def _sentence(lines: Iterable[tuple[int, str]], tabs: bool) -> dict[str, Any] | tuple[str, str]:
    """One row; or (reason, line) where a line cannot be read."""
    words: list[str] = []
    spans: list[dict[str, Any]] = []
    place, before = 0, None
    for number, line in lines:
        read = _word(line, tabs)
        if isinstance(read, str):
            return read, f"line {number}"
        word, mark, label = read
        if len(words) == MAX_WORDS:
            return "sentence_too_long", f"line {number}"
        if mark == "I" and label == before:
            spans[-1]["end"] = place + len(word)
        elif mark:
            spans.append({"start": place, "end": place + len(word), "label": label})
        words.append(word)
        place, before = place + len(word) + 1, label
    return {"text": " ".join(words), "spans": spans, "words": float(len(words))}


def _word(line: str, tabs: bool) -> tuple[str, str | None, str | None] | str:
    """(word, B or I or None, label or None); or the reason why the line cannot be read."""
    if not line.isascii() and _BAD_BYTES.search(line):
        return "bytes_undecodable"
    parts = line.split("\t") if tabs else [part for part in line.split(" ") if part]
    if len(parts) < 2:
        return "tag_missing"
    word, tag = parts[0].strip(), _TAG.fullmatch(parts[-1].strip())
    if not word:
        return "word_missing"
    if tag is None:
        return "tag_unreadable"
    return word, tag[1], (tag[2] or BARE) if tag[1] else None

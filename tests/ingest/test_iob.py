"""Files of tagged words: both dialects, every bad line told, no sentence lost."""

from __future__ import annotations

import gzip
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import BooksError, DataError, RecipeError
from meddx.ingest import iob
from meddx.ingest.block import Empty
from meddx.ingest.find import find
from meddx.ingest.iob import SCHEMA, open_iob
from meddx.ingest.opened import open_reader
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.run import describe, ingest, sniff
from meddx.storage import StoragePath

IOB2 = "Type\tB-Disease\n2\tI-Disease\ndiabetes\tI-Disease\n.\tO\n\nAspirin\tB-Chemical\n"


def read(path: Path, **more: Any) -> tuple[list[dict[str, Any]], list[tuple[str, int | None, str]], int]:
    """(rows, rejects as (reason, row, detail), expected)."""
    source = SourceOptions(path=str(path), format="iob", **more)
    reader = open_reader(find(source), source, (), {})
    blocks = [block for unit in reader.units for block in reader.read_unit(unit)]
    assert all(block.table.schema == SCHEMA and block.table.num_rows == len(block.rows) for block in blocks)
    rejects = [*reader.rejects, *(one for block in blocks for one in block.rejects)]
    rows = [row for block in blocks for row in block.table.to_pylist()]
    assert reader.expected == len(rows) + len(rejects)
    return rows, [(one.reason, one.row, one.detail) for one in rejects], reader.expected


def write(folder: Path, content: str | bytes, name: str = "a.tsv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def found_in(folder: Path, content: str | bytes, **more: Any) -> list[list[tuple[str, str]]]:
    """(entity, label) of each sentence, the entity cut out of the text by its places."""
    rows, rejects, _ = read(write(folder, content), **more)
    assert not rejects
    return [[(row["text"][one["start"] : one["end"]], one["label"]) for one in row["spans"]] for row in rows]


def test_a_sentence_is_a_row_with_its_entities(tmp_path: Path) -> None:
    rows, rejects, expected = read(write(tmp_path, IOB2))
    assert rows[0] == {"text": "Type 2 diabetes .", "spans": [{"start": 0, "end": 15, "label": "Disease"}], "words": 4.0}
    assert rows[1] == {"text": "Aspirin", "spans": [{"start": 0, "end": 7, "label": "Chemical"}], "words": 1.0}
    assert not rejects and expected == 2


def test_both_dialects_and_bare_tags(tmp_path: Path) -> None:
    iob1 = "Type\tI-D\n2\tI-D\nflu\tB-D\nand\tO\nzinc\tI-C\nsalt\tI-D\n"
    assert found_in(tmp_path, iob1) == [[("Type 2", "D"), ("flu", "D"), ("zinc", "C"), ("salt", "D")]]
    assert found_in(tmp_path, "a\tB\nb\tI\nc\tB\nd\tO\ne\tI\n") == [[("a b", "entity"), ("c", "entity"), ("e", "entity")]]
    assert found_in(tmp_path, "a\tB-x-y\nb\tI-x-y\n\nc\tI-x-y\n") == [[("a b", "x-y")], [("c", "x-y")]]  # nothing goes over a blank line


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_docstart_and_line_ends(tmp_path: Path, end: str) -> None:
    text = f"-DOCSTART- -X- O O\n\n\n{IOB2}-DOCSTART-\tO\nx\tO\n \n\n".replace("\n", end)
    assert found_in(tmp_path, text) == [[("Type 2 diabetes", "Disease")], [("Aspirin", "Chemical")], []]


def test_blanks_part_the_columns_where_there_are_no_tabs_and_the_first_and_last_count(tmp_path: Path) -> None:
    assert found_in(tmp_path, "Type NN I-NP B-D\n2  CD I-NP I-D\nis VB O O\n") == [[("Type 2", "D")]]
    assert found_in(tmp_path, "Type\tNN\tB-D\n2\tCD\tI-D\n") == [[("Type 2", "D")]]


def test_a_word_may_hold_blanks_where_tabs_part_the_columns(tmp_path: Path) -> None:
    rows, _, _ = read(write(tmp_path, "heart  failure\tB-D\n5 \u00a0mg\tO\n"))
    assert (
        rows[0]["text"] == "heart  failure 5 \u00a0mg"
        and rows[0]["spans"] == [{"start": 0, "end": 14, "label": "D"}]
        and rows[0]["words"] == 2
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030", "latin-1"])
def test_encodings_are_told_as_for_tables(tmp_path: Path, encoding: str) -> None:
    word = "糖尿病" if encoding in ("utf-16", "gb18030") else "Übelkeit"
    path = write(tmp_path, f"{word}\tB-D\nist\tO\n".encode(encoding))
    rows, rejects, _ = read(path)
    assert rows[0]["text"] == f"{word} ist" and rows[0]["spans"][0]["end"] == len(word) and not rejects


def test_places_count_code_points(tmp_path: Path) -> None:
    assert found_in(tmp_path, "\U0001f9ec\tO\ne\u0301a\tB-D\n") == [[("e\u0301a", "D")]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("flu", "tag_missing"),
        ("New York", "tag_missing"),
        ("\tO", "word_missing"),
        ("flu\tE-D", "tag_unreadable"),
        ("flu\tB_D", "tag_unreadable"),
        ("flu\tb-D", "tag_unreadable"),
        ("flu\tB-", "tag_unreadable"),
        ("flu\t", "tag_unreadable"),
        ("flu\tOO", "tag_unreadable"),
    ],
)
def test_a_bad_line_puts_its_whole_sentence_aside_and_no_other(tmp_path: Path, line: str, reason: str) -> None:
    rows, rejects, expected = read(write(tmp_path, f"a\tO\n\nb\tB-D\n{line}\nc\tI-D\n\nd\tO\n"))
    assert [row["text"] for row in rows] == ["a", "d"] and rejects == [(reason, 2, "line 4")] and expected == 3


def test_a_byte_that_cannot_be_read_puts_its_sentence_aside(tmp_path: Path) -> None:
    good = "".join(f"für\tO\nwort{n}\tO\n\n" for n in range(30)).encode()
    rows, rejects, _ = read(write(tmp_path, b"f\xff\tO\n\n" + good))
    assert len(rows) == 30 and rejects == [("bytes_undecodable", 1, "line 1")]


def test_a_file_without_blank_lines_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iob, "MAX_WORDS", 5)
    rows, rejects, _ = read(write(tmp_path, "a\tO\n" * 6 + "\n" + "b\tO\n" * 5))
    assert [row["words"] for row in rows] == [5] and rejects == [("sentence_too_long", 1, "line 6")]
    monkeypatch.setattr(iob, "MAX_LINE", 10)
    monkeypatch.setattr(iob, "PIECE", 8)
    with pytest.raises(DataError, match="a line of more than"):
        read(write(tmp_path, "word" * 20 + "\tO\n"))


def test_pieces_of_the_file_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ("\ufeff" + IOB2 + "\nÜbel\tB-D\r\n病\tI-D\r\n\r\n") * 3
    whole = read(write(tmp_path, text.replace("\ufeff", "", 2)))
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(iob, "PIECE", size)
        assert read(write(tmp_path, text.replace("\ufeff", "", 2))) == whole


def test_many_sentences_come_in_blocks_with_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iob, "BLOCK", 3)
    path = write(tmp_path, "".join(f"w{n}\tO\n\n" if n != 4 else "bad\n\n" for n in range(8)))
    source = SourceOptions(path=str(path), format="iob")
    reader = open_iob(find(source), source)
    blocks = list(reader.read_unit(reader.units[0]))
    assert [block.rows.tolist() for block in blocks] == [[1, 2, 3], [4, 6], [7, 8]] and [len(block.rejects) for block in blocks] == [
        0,
        1,
        0,
    ]


@pytest.mark.parametrize("content", ["", "\n \n\n", "\ufeff", "-DOCSTART-\tO\n\n"])
def test_an_empty_file_alone_is_refused_and_among_others_put_aside(tmp_path: Path, content: str) -> None:
    with pytest.raises(Empty):
        read(write(tmp_path, content))
    write(tmp_path, IOB2, "b.tsv")
    rows, rejects, _ = read(tmp_path)
    assert len(rows) == 2 and [one[0] for one in rejects] == ["file_empty"]


def test_a_file_that_breaks_off_is_put_aside(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(("w\tO\n\n" * 5000).encode())[:-20], "a.tsv.gz")
    write(tmp_path, IOB2, "b.tsv")
    rows, rejects, _ = read(tmp_path)
    assert len(rows) == 2 and [one[0] for one in rejects] == ["file_unreadable"]
    write(tmp_path, gzip.compress(IOB2.encode()), "a.tsv.gz")
    assert len(read(tmp_path)[0]) == 4


def test_a_wrong_encoding_is_damage_and_a_wrong_delimiter_a_fault_of_the_page(tmp_path: Path) -> None:
    path = write(tmp_path, IOB2.encode("utf-16-le") + b"x")
    with pytest.raises(DataError, match="encoding"):
        read(path, encoding="utf-16-le")
    with pytest.raises(RecipeError, match="tabs or blanks"):
        read(path, delimiter=",")


def test_lines_before_the_first_word_are_skipped_where_the_page_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "Token\tLabel\n" + IOB2)
    assert read(path)[1] == [("tag_unreadable", 1, "line 1")]
    rows, rejects, expected = read(path, skip_rows=1)
    assert len(rows) == expected == 2 and not rejects


def test_a_large_file_is_read_without_holding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, ("heart\tB-D\nfailure\tI-D\nis\tO\nbad\tO\n\n") * 8_000)
    peaks = {}
    for block in (50, 1 << 30):  # the second is what it would take to hold all rows at once
        monkeypatch.setattr(iob, "BLOCK", block)
        monkeypatch.setattr(iob, "PIECE", 1 << 14)
        source = SourceOptions(path=str(path), format="iob")
        reader = open_iob(find(source), source)
        tracemalloc.start()
        assert sum(one.table.num_rows for one in reader.read_unit(reader.units[0])) == 8_000
        peaks[block] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[50] < 1 << 20 < peaks[1 << 30], peaks


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_sentence_does_not_balance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    source = SourceOptions(path=str(write(tmp_path, IOB2)), format="iob")
    count = iob._count
    monkeypatch.setattr(iob, "_count", lambda *given: count(*given) + lost)
    with pytest.raises(BooksError) if lost else nullcontext():
        ingest(source, CaseOptions(id="@row", patient="@case"), [], StoragePath.of(tmp_path / "out"))


def test_ingest_makes_a_dataset_and_sniff_shows_the_entities(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    write(folder, IOB2 + "\nbad\n", "train.txt")
    write(folder, "x\tO\n", "devel.conll")
    source = SourceOptions(path=str(folder), format="iob", file_as="file")
    done = ingest(source, CaseOptions(id="@row", patient="@case"), [], StoragePath.of(tmp_path / "out"))
    assert done["counts"] == {"read": 4, "written": 3, "quarantined": 1} and done["reasons"] == {"tag_missing": 1}
    assert done["columns"]["spans"].startswith("list<") and "format iob, encoding utf-8" in describe(done)[0]
    shown = sniff(source, 2).table
    assert (
        shown.column("spans").to_pylist()[1:] == ['[{"start": 0, "end": 15, "label": "Disease"}]']
        and shown.column("text").type == pa.string()
    )


def _written(rows: list[dict[str, Any]], sentences: list[list[tuple[list[str], str | None]]]) -> list[str]:
    """The lines that the rows came from, made from their entities alone."""
    lines = []
    for row, sentence in zip(rows, sentences, strict=True):
        place = 0
        for word in (word for words, _ in sentence for word in words):
            over = [one for one in row["spans"] if one["start"] <= place < one["end"]]
            lines.append(f"{word}\t" + "".join(("B-" if one["start"] == place else "I-") + one["label"] for one in over) + "O" * (not over))
            place += len(word) + 1
        lines.append("")
    return lines


_WORD = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=5).filter(lambda word: not word.startswith("-DOC"))
_ENTITY = st.tuples(st.lists(_WORD, min_size=1, max_size=3), st.sampled_from([None, "D", "x y", "entity"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_ENTITY, min_size=1, max_size=4), min_size=1, max_size=4))
def test_written_and_read_again_nothing_changes(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[list[str], str | None]]]
) -> None:
    lines, expected = [], []
    for sentence in sentences:
        expected.append([(" ".join(words), label) for words, label in sentence if label])
        for words, label in sentence:
            lines += [f"{word}\t{'O' if label is None else 'BI'[place > 0] + '-' + label}" for place, word in enumerate(words)]
        lines.append("")
    path = write(tmp_path_factory.mktemp("iob"), "\n".join(lines))
    rows, rejects, _ = read(path, encoding="utf-8")
    assert not rejects and _written(rows, sentences) == lines
    assert [[(row["text"][one["start"] : one["end"]], one["label"]) for one in row["spans"]] for row in rows] == expected
    assert [row["text"] for row in rows] == [" ".join(word for words, _ in sentence for word in words) for sentence in sentences]


@pytest.mark.parametrize(("name", "sentences", "entities"), [("NCBI-disease-IOB", 6347, 5921), ("BC5CDR-IOB", 9141, 18978)])
def test_real_corpora_lose_nothing(shared_data: Path, name: str, sentences: int, entities: int) -> None:
    rows, rejects, _ = read(shared_data / "ner" / name)
    assert len(rows) == sentences and not rejects and sum(len(row["spans"]) for row in rows) == entities

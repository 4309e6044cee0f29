"""Encoding, delimiter and names are found in the file, and stated."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from meddx.errors import DataError, RecipeError
from meddx.ingest.block import Damaged, Empty
from meddx.ingest.options import SourceOptions
from meddx.ingest.text import detect, guess_encoding
from meddx.storage import StoragePath


def form_of(path: Path, **keys: object):
    return detect(StoragePath.of(path).info(), SourceOptions(path=str(path), **keys), "csv")


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("id;ort\n1;Köln\n2;Zürich\n", "utf-8", ("utf-8", False)),
        ("id;ort\n1;Köln\n2;Zürich\n", "utf-8-sig", ("utf-8", True)),
        ("id;ort\n1;Köln\n2;Zürich\n", "latin-1", ("latin-1", False)),
        ("id,prix\n1,5 €\n2,Orléans\n", "cp1252", ("cp1252", False)),
        ("编号,诊断\n1,肺炎\n2,正常\n", "gb18030", ("gb18030", False)),
        ("诊断\n肺炎\n", "gb18030", ("gb18030", False)),
        ("编号,诊断\n1,肺炎\n", "utf-16", ("utf-16", True)),
        ("id,a\n1,2\n", "ascii", ("utf-8", False)),
    ],
)
def test_encoding_is_detected(csv_file, text, encoding, expected):
    form = form_of(csv_file(text, encoding))
    assert (form.encoding, form.bom) == expected
    assert form.names[0] in ("id", "编号", "诊断")


def test_the_first_umlaut_may_stand_far_behind_the_sample(csv_file):
    head = "id,a\n" + "1,x\n" * 1_400_000
    assert form_of(csv_file((head + "2,Köln\n").encode("latin-1"))).encoding == "latin-1"
    assert form_of(csv_file((head + "2,Köln\n").encode("utf-8"))).encoding == "utf-8"


def test_most_lines_decide_and_one_bad_line_changes_nothing():
    good = ["Köln".encode()] * 20
    assert guess_encoding([*good, "Köln".encode("latin-1")]) == "utf-8"
    assert guess_encoding(["Köln".encode("latin-1")] * 3) == "latin-1"
    assert guess_encoding(["5 µg/m²".encode("latin-1")]) == "latin-1"
    assert guess_encoding([]) == "utf-8"


def test_an_encoding_that_cannot_be_told_is_asked_for(csv_file):
    path = csv_file("номер,диагноз\n1,пневмония\n2,норма\n", "cp1251")
    with pytest.raises(DataError, match="cannot be told"):
        form_of(path)
    assert form_of(path, encoding="cp1251").names == ("номер", "диагноз")


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b,c\n1,2,3\n4,5,6\n", ","),
        ("a;b;c\n1,5;2,5;3,5\n4,5;5,5;6,5\n", ";"),
        ("a\tb\n1\t2\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ('a,b\n"x;y",2\n"z;w",3\n', ","),
        ("only\n1\n2\n", ","),
        ('a;b\n"quoted\nnewline";2\n', ";"),
    ],
)
def test_delimiter_is_detected(csv_file, text, delimiter):
    assert form_of(csv_file(text)).delimiter == delimiter


def test_declared_columns_tell_the_delimiter_of_a_headerless_file(csv_file):
    form = form_of(csv_file("1,5;2,5\n3,5;4,5\n"), header=False, columns=["a", "b"])
    assert (form.delimiter, form.names) == (";", ("a", "b"))


def test_names_lose_their_blanks_and_unnamed_columns_get_a_name(csv_file):
    assert form_of(csv_file(",  id , b\n0,1,2\n")).names == ("unnamed_1", "id", "b")


def test_a_repeated_name_is_refused(csv_file):
    with pytest.raises(DataError, match="twice: a"):
        form_of(csv_file("a,b, a\n1,2,3\n"))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"a,b", b"a,b\n"])
def test_a_file_without_a_row_is_empty(csv_file, content):
    with pytest.raises(Empty):
        form_of(csv_file(content))


def test_skipped_lines_are_not_the_header(csv_file):
    assert form_of(csv_file("exported on some day\nid,b\n1,2\n"), skip_rows=1).names == ("id", "b")


def test_what_cannot_be_known_is_asked_for(csv_file):
    with pytest.raises(RecipeError, match="needs `columns`"):
        form_of(csv_file("1,2\n3,4\n"), header=False)
    with pytest.raises(DataError, match="names 3 columns, the file has 2"):
        form_of(csv_file("1,2\n3,4\n"), header=False, columns=["a", "b", "c"])
    with pytest.raises(RecipeError, match="not known"):
        form_of(csv_file("a,b\n1,2\n"), encoding="utf-88")
    with pytest.raises(DataError, match="zero bytes"):
        form_of(csv_file("a,b\n1,2\n".encode("utf-16-le")))


def test_a_broken_gzip_is_damaged(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n")[:-12])
    with pytest.raises(Damaged, match="damaged"):
        form_of(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(Damaged, match="damaged"):
        form_of(path)

"""The files that a path means, and what is not among them."""

from __future__ import annotations

import pytest

from meddx.errors import DataError
from meddx.ingest.find import find
from meddx.ingest.options import SourceOptions


def names(found):
    return [one.path.relative_to(found.root) for one in found.files]


@pytest.fixture
def folder(tmp_path):
    for name in ("a.csv", "b.csv.gz", "deep/c.csv", "deep/er/d.csv", "notes.pdf"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv"]),
        ("*/*.csv", ["deep/c.csv"]),
        ("**/*.csv", ["a.csv", "deep/c.csv", "deep/er/d.csv"]),
        ("?.csv*", ["a.csv", "b.csv.gz"]),
    ],
)
def test_patterns(folder, pattern, expected):
    assert names(find(SourceOptions(path=f"{folder}/{pattern}"))) == expected


def test_a_folder_is_all_its_files_of_one_format(folder):
    found = find(SourceOptions(path=str(folder)))
    assert (found.format, len(found.files), len(found.others)) == ("csv", 4, 1)
    (folder / "e.parquet").write_text("x")
    with pytest.raises(DataError, match="several formats: 4 csv, 1 parquet"):
        find(SourceOptions(path=str(folder)))
    assert names(find(SourceOptions(path=str(folder), format="parquet"))) == ["e.parquet"]


def test_images_beside_their_label_table(folder):
    (folder / "1.png").write_text("x")
    assert find(SourceOptions(path=str(folder))).format == "images"


def test_dicom_without_endings(tmp_path):
    (tmp_path / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    assert find(SourceOptions(path=str(tmp_path))).format == "dicom"


@pytest.mark.parametrize("name", ["a.data", "a.txt", "a.CSV"])
def test_endings_of_text(tmp_path, name):
    (tmp_path / name).write_text("x")
    assert find(SourceOptions(path=str(tmp_path / name))).format == "csv"


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "a.what").write_text("x")
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("no", "not there"),
        ("a.what", "says no format"),
        ("*.csv", "no file matches"),
        ("empty", "holds no file"),
        ("", "ending says"),
    ):
        with pytest.raises(DataError, match=message):
            find(SourceOptions(path=f"{tmp_path}/{path}"))
    with pytest.raises(DataError, match="no file of the format parquet"):
        find(SourceOptions(path=str(tmp_path), format="parquet"))


def test_versions_and_digests(folder, monkeypatch):
    source = SourceOptions(path=str(folder))
    before = find(source)
    digest, each = before.digests()
    assert set(each) == {"a.csv", "b.csv.gz", "deep/c.csv", "deep/er/d.csv", "notes.pdf"}
    (folder / "a.csv").write_text("y")
    assert find(source).versions() != before.versions()
    assert find(source).digests()[0] != digest
    monkeypatch.setattr("meddx.ingest.find.LISTED_ONE_BY_ONE", 2)
    assert find(source).digests() == (find(source).versions(), {})

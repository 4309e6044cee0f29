"""What `meddx draft` is told about a file that nobody has described yet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddx.errors import DataError
from meddx.ingest.options import SourceOptions
from meddx.ingest.run import sniff


def sniffed(path, rows=1000, **keys):
    return sniff(SourceOptions(path=str(path), **keys), rows)


def test_a_csv_as_written(csv_file):
    found = sniffed(csv_file("id;a;b;c;d;e\n0012;-1;NA;03/04/2020;1,5;999\n0013;3;x;05/06/2020;2,5;1\n14;4;y;07/08/2020;3,5;2\nshort\n"))
    assert found.format == "csv"
    assert found.table.schema.types == [pa.string()] * 6
    assert found.table.column("id").to_pylist() == ["0012", "0013", "14"]
    assert found.table.column("b").to_pylist()[0] == "NA"
    text = "\n".join(found.notes)
    for part in (
        "encoding utf-8",
        "';'",
        "1 of 4 rows",
        "'a': -1 may",
        "'b': 'NA' may",
        "'c': dates such",
        "'e': 999 may",
        "'id': leading zeros",
    ):
        assert part in text, part
    assert "'d'" not in text


def test_declared_codes_are_no_doubt(csv_file):
    notes = sniffed(csv_file("id,a\n1,?\n2,-1\n3,4\n"), missing=["?", "-1"]).notes
    assert not any("may mean missing" in note for note in notes)


def test_diabetes_and_physionet(shared_data):
    found = sniffed(shared_data / "diabetes130/diabetic_data.csv.gz", rows=200)
    assert found.table.num_rows == 200
    assert any("'weight': '?'" in note for note in found.notes)
    assert any("'SAPS-I': -1 may" in note for note in sniffed(shared_data / "physionet2012/Outcomes-a.txt").notes)


def test_other_formats(shared_data, tmp_path):
    pictures = sniffed(shared_data / "pneumoniamnist/pneumoniamnist.npz", rows=10)
    assert (pictures.format, pictures.table.num_rows) == ("medmnist", 10)
    assert pictures.table.schema.field("image").type == pa.binary()
    pq.write_table(pa.table({"id": ["a", "b"], "n": np.array([1.0, -1.0])}), tmp_path / "a.parquet")
    found = sniffed(tmp_path / "a.parquet")
    assert found.table.column("n").to_pylist() == ["1", "-1"]
    assert found.notes == ["column 'n': -1 may mean missing"]


def test_several_files_and_a_spreadsheet(csv_file, tmp_path):
    import openpyxl

    csv_file("id,x\n1,2\n", name="a.csv")
    csv_file("id,x\n3,4\n", name="b.csv")
    assert any("2 files" in note for note in sniffed(tmp_path / "*.csv").notes)
    book = openpyxl.Workbook()
    book.active.append(["id", "x"])
    book.active.append(["a", 5])
    book.save(tmp_path / "c.xlsx")
    assert sniffed(tmp_path / "c.xlsx").table.to_pydict() == {"id": ["a"], "x": ["5"]}


def test_an_empty_file_is_refused(csv_file):
    with pytest.raises(DataError, match="empty"):
        sniffed(csv_file(b""))

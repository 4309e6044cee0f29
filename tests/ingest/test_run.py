"""From an archive to a dataset: everything read is written or quarantined, and nothing is overwritten by mistake."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from meddx import record
from meddx.errors import BooksError, DataError, OutputError
from meddx.ingest import run as running
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.run import describe
from meddx.ingest.writer import PartsWriter
from meddx.storage import StoragePath


def test_diabetes(shared_data, make):
    made = make(
        {"path": shared_data / "diabetes130/diabetic_data.csv.gz", "missing": ["?"]},
        {"id": "encounter_id", "patient": "patient_nbr"}, text=("*_id", "readmitted"),
    )  # fmt: skip
    assert made.table.num_rows == 81_168
    assert made.table.column_names[:3] == ["case_id", "patient_id", "race"]
    assert set(made.column("readmitted")) == {"<30", ">30", "NO"}
    assert "None" in set(made.column("max_glu_serum"))  # a value, for nobody declared it missing
    assert set(made.column("admission_type_id")) == {str(i) for i in range(1, 9)}
    assert made.record["columns"]["time_in_hospital"] == "double"
    assert made.record["encoding"] == "utf-8"


def test_heart_without_header(shared_data, make):
    names = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"]
    source = {"path": shared_data / "heart_uci/processed.cleveland.data", "header": False, "columns": names, "missing": ["?", "NaN", "nan"]}
    made = make({**source, "missing_in": {"age": "63"}}, {"id": "@row", "patient": "@case"}, text=("num",))
    assert made.column("case_id")[0] == "row-000000001"
    assert made.column("patient_id") == made.column("case_id")
    assert made.record["columns"]["ca"] == made.record["columns"]["thal"] == "double"
    assert made.table.column("ca").null_count + made.table.column("thal").null_count == 6
    assert made.column("age")[0] is None  # 63.0 in the file, 63 in the recipe
    assert set(made.column("num")) == {"0", "1", "2", "3", "4"}


def test_support2(shared_data, make):
    made = make({"path": shared_data / "support2/support2.csv"}, {"id": "sno", "patient": "@case"})
    assert made.table.num_rows == 9105
    assert made.record["columns"]["totcst"] == "double"
    assert made.column("totcst")[0] is None
    assert made.column("slos")[0] == 5.0  # "  5" in the file


def test_bad_rows_are_quarantined_with_their_row_and_reason(csv_file, make):
    rows = ["0012,1", "12,2", ",3", "12,4", "5,6,7", "0012,8", "9"]
    made = make({"path": csv_file("id,x\n" + "\n".join(rows) + "\n" + "a,1\n" * 1)})
    assert made.column("case_id") == ["0012", "12", "a"]
    assert made.column("x") == [1.0, 2.0, 1.0]
    assert [(one["reason"], one["row"]) for one in sorted(made.quarantine, key=lambda one: one["row"])] == [
        ("id_missing", 3), ("id_duplicate", 4), ("row_width", 5), ("id_duplicate", 6), ("row_width", 7),
    ]  # fmt: skip
    assert {one["source"] for one in made.quarantine} == {"cases.csv"}
    assert made.record["reasons"] == {"id_duplicate": 2, "row_width": 2, "id_missing": 1}
    assert describe(made.record)[-1].startswith("read 8 = written 3 + quarantined 5 ")


def test_ids_repeat_across_files_and_row_ids_run_through(tmp_path, make):
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a.csv").write_text("id,x\n1,1\nbad\n2,2\n")
    (folder / "b.csv").write_text("x,id\n3,2\n4,3\n")  # columns in another order
    (folder / ".DS_Store").write_bytes(b"\x00\x01")
    (folder / "empty.csv").write_text("")
    made = make({"path": folder})
    assert made.column("case_id") == ["1", "2", "3"]
    assert made.column("x") == [1.0, 2.0, 4.0]
    assert sorted(made.reasons) == ["file_empty", "id_duplicate", "not_of_format", "row_width"]
    by_row = make({"path": folder / "*.csv"}, {"id": "@row", "patient": "@case"}, out="by_row")
    assert by_row.column("case_id") == ["row-000000001", "row-000000003", "row-000000004", "row-000000005"]


def test_files_of_different_columns_are_refused(tmp_path, make):
    (tmp_path / "a.csv").write_text("id,x\n1,1\n")
    (tmp_path / "b.csv").write_text("id,y\n2,2\n")
    with pytest.raises(DataError, match=r"lacks \['x'\]"):
        make({"path": tmp_path / "*.csv"})


def test_mixed_encodings_lose_only_their_rows(csv_file, make):
    body = b"id,ort\n" + "".join(f"{i},Köln\n" for i in range(30)).encode() + "30,Köln\n".encode("latin-1") + b"31,Ulm\n"
    made = make({"path": csv_file(body)})
    assert made.record["encoding"] == "utf-8"
    assert (made.reasons, made.quarantine[0]["row"]) == (["bytes_undecodable"], 31)
    assert made.column("ort") == ["Köln"] * 30 + ["Ulm"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16", "latin-1"])
def test_encodings_semicolons_and_decimal_commas(csv_file, make, encoding):
    word = "Köln" if encoding == "latin-1" else "肺炎"
    made = make({"path": csv_file(f"id;wert;text;tag\n007;1,5;{word};31.12.2020\n008;-2;None;01.02.2021\n", encoding)})
    assert made.column("case_id") == ["007", "008"]
    assert made.column("wert") == [1.5, -2.0]
    assert made.column("text") == [word, "None"]
    assert made.column("tag") == [datetime(2020, 12, 31), datetime(2021, 2, 1)]
    assert (made.record["delimiter"], made.record["decimal"], made.record["date_orders"]) == (";", ",", {"tag": "dmy"})
    assert "dates of 'tag' read as dmy" in describe(made.record)


def test_quoted_newlines_and_nothing_missing_but_what_is_declared(csv_file, make):
    made = make({"path": csv_file('id,note,x\n1,"two\nlines",NA\n2,null,3\n3,None,?\n'), "missing_in": {"x": "?"}})
    assert made.column("note") == ["two\nlines", "null", "None"]
    assert made.column("x") == ["NA", "3", None]


def test_known_types_reject_the_cell_instead_of_turning_the_column(csv_file, make):
    path = csv_file("id,x,d\n1,5,2020-01-01\n2,5o,2020-01-02\n3,6,soon\n")
    assert make({"path": path}).record["columns"]["x"] == "string"
    made = make({"path": path, "dates": {"d": "ymd"}}, known={"x": "number"}, out="known")
    assert made.column("x") == [5.0]
    assert [(one["reason"], one["row"], one["detail"]) for one in made.quarantine] == [
        ("number_unreadable", 2, "column x"), ("date_unreadable", 3, "column d"),
    ]  # fmt: skip


def test_predict_at_becomes_utc(csv_file, make):
    case = {"id": "id", "patient": "who", "predict_at": "at"}
    path = csv_file("id,who,at,x\n1,a,2024-07-01 12:00,1\n2,b,,2\n")
    with pytest.raises(DataError, match="no time zone"):
        make({"path": path}, case)
    made = make({"path": path}, {**case, "zone": "Europe/Berlin"})
    assert made.column("predict_at") == [datetime(2024, 7, 1, 10, tzinfo=UTC), None]
    assert made.table.column_names == ["case_id", "patient_id", "predict_at", "x"]


def test_sites_and_patients_are_text_and_an_unknown_patient_is_null(csv_file, make):
    path = csv_file("id,p,s\n1,01,007\n2,02,008\n")
    made = make({"path": path}, {"id": "id", "patient": "p", "site": "s"})
    assert (made.column("patient_id"), made.column("s")) == (["01", "02"], ["007", "008"])
    unknown = make({"path": path}, {"id": "id", "patient": {"unknown": "lost by the registry"}}, out="unknown")
    assert unknown.column("patient_id") == [None, None]


def test_reserved_names(csv_file, make):
    path = csv_file("case_id,patient_id,x\n1,2,3\n")
    made = make({"path": path}, {"id": "case_id", "patient": "patient_id"})
    assert (made.column("case_id"), made.column("patient_id")) == (["1"], ["2"])
    with pytest.raises(DataError, match="'case_id' that is not the case's id"):
        make({"path": path}, {"id": "@row", "patient": "patient_id"}, out="b")


def test_missing_columns_are_named_with_the_nearest(csv_file, make):
    with pytest.raises(DataError, match="no column 'patient_no'") as error:
        make({"path": csv_file("id,patient_nr,x\n1,2,3\n")}, {"id": "id", "patient": "patient_no"})
    assert "did you mean 'patient_nr'?" in error.value.next_step


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"id,x\n", "no row"), (b"id,x\n1\n2\n", "none of 2 rows has as many values")],
)
def test_a_source_without_a_row_is_refused(csv_file, make, content, message):
    with pytest.raises(DataError, match=message):
        make({"path": csv_file(content)})


def test_a_source_without_a_usable_row_is_refused_with_the_reasons(csv_file, make):
    with pytest.raises(DataError, match="none of 2 rows can be used: id_missing 2"):
        make({"path": csv_file("id,x\n,1\n,2\n")})


def test_the_record(csv_file, make):
    made = make({"path": csv_file("id,x\n1,2\n")}, fingerprint="f" * 16)
    on_disk = json.loads((made.folder / "record.json").read_text())
    assert on_disk == made.record
    assert made.record["fingerprint"] == "f" * 16
    assert made.record["inputs"]["source"]["digest"] == StoragePath.of(made.folder.parent / "cases.csv").digest()
    part = made.record["files"]["data/part-00000.parquet"]
    assert part["sha256"] == StoragePath.of(made.folder / "data/part-00000.parquet").digest()
    assert {"digest", "seconds", "peak_memory_mb", "versions", "notes"} <= set(made.record)


def test_the_same_again_is_not_done_again(csv_file, make):
    path = csv_file("id,x\n1,2\n")
    first = make({"path": path})
    before = (first.folder / "data/part-00000.parquet").stat().st_mtime_ns
    again = make({"path": path})
    assert again.record["reused"] is True
    assert any("nothing was done" in line for line in describe(again.record))
    os.utime(path)  # touched, but of the same content
    assert make({"path": path}).record["reused"] is True
    assert (first.folder / "data/part-00000.parquet").stat().st_mtime_ns == before


def test_a_dataset_is_never_overwritten_without_force(csv_file, make):
    path = csv_file("id,x\n1,2\n")
    first = make({"path": path})
    with pytest.raises(OutputError, match="made in another way"):
        make({"path": path, "missing": ["?"]})
    csv_file("id,x\n1,2\n3,4\n")
    with pytest.raises(OutputError, match="source has changed"):
        make({"path": path})
    assert first.record == record.read(StoragePath.of(first.folder))
    (first.folder / "split").mkdir()
    (first.folder / "split/test_opened.jsonl").write_text("{}\n")
    assert make({"path": path}, force=True).column("case_id") == ["1", "3"]
    assert (first.folder / "split/test_opened.jsonl").exists()
    (first.folder / "data/part-00000.parquet").write_bytes(b"short")
    with pytest.raises(OutputError, match="missing or changed"):
        running.ingest(SourceOptions(path=str(path)), CaseOptions(id="id", patient="@case"), (), StoragePath.of(first.folder))


def test_other_peoples_files_are_never_removed(csv_file, make, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="1 other files"):
        make({"path": csv_file("id,x\n1,2\n")}, force=True)
    assert (tmp_path / "out/thesis.txt").read_text() == "years of work"


def test_a_wrong_recipe_leaves_the_old_dataset_alone(csv_file, make):
    path = csv_file("id,x\n1,2\n")
    made = make({"path": path})
    with pytest.raises(DataError):
        make({"path": path}, {"id": "nope", "patient": "@case"}, force=True)
    assert record.read(StoragePath.of(made.folder)) is not None


def test_a_crash_leaves_no_record_and_the_next_run_starts_anew(csv_file, make, monkeypatch):
    path = csv_file("id,x\n" + "".join(f"{i},1\n" for i in range(30_000)))
    make({"path": path})
    monkeypatch.setattr(PartsWriter, "close", lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        make({"path": path}, force=True)
    folder = StoragePath.of(path.parent / "out")
    assert record.read(folder) is None
    assert list(folder.list("parquet"))  # a part is there, unfinished
    monkeypatch.undo()
    assert make({"path": path}).table.num_rows == 30_000


def test_a_source_that_changes_under_the_reading_is_not_recorded(csv_file, make, tmp_path):
    path = csv_file("id,x\n1,2\n")
    with pytest.raises(DataError, match="changed while it was read"):
        make({"path": path}, progress=lambda rows: path.write_text("id,x\n1,2\n3,4\n"))
    assert record.read(StoragePath.of(tmp_path / "out")) is None


def test_a_lost_row_is_found_by_the_books(csv_file, make, monkeypatch):
    """The twin of the balance: rows that vanish between reader and writer stop the run."""
    monkeypatch.setattr(PartsWriter, "write", lambda self, table: None)
    with pytest.raises(BooksError, match="read 2 is not written 0"):
        make({"path": csv_file("id,x\n1,2\n2,3\n")})


def test_progress_is_told_the_rows(csv_file, make):
    told: list[int] = []
    make({"path": csv_file("id,x\n1,2\n2,3\n")}, progress=told.append)
    assert told[-1] == 2


def test_gz_and_plain_give_the_same_dataset(csv_file, make):
    text = "id,x\n" + "".join(f"{i},{i / 7}\n" for i in range(1000))
    plain = make({"path": csv_file(text)}, out="a")
    packed = make({"path": csv_file(gzip.compress(text.encode()), name="cases.csv.gz")}, out="b")
    assert plain.record["digest"] == packed.record["digest"]


def test_rows_are_grouped_and_pages_carry_checksums(csv_file, make):
    made = make({"path": csv_file("id,x\n" + "".join(f"{i},{i}\n" for i in range(25_000)))})
    file = pq.ParquetFile(made.folder / "data/part-00000.parquet", page_checksum_verification=True)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10_000, 10_000, 5_000]
    data = bytearray((made.folder / "data/part-00000.parquet").read_bytes())
    data[len(data) // 4] ^= 1
    (made.folder / "flipped.parquet").write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(made.folder / "flipped.parquet", page_checksum_verification=True).read()

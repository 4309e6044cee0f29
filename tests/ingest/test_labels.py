"""Images joined to a table: both sides are counted, and a repeated or missing key is nobody's label."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from meddx.errors import DataError

CASE = {"id": "file_stem", "patient": "who"}


@pytest.fixture
def films(tmp_path):
    (tmp_path / "films").mkdir()
    for i in range(5):
        data = cv2.imencode(".png", np.full((8, 8), i, np.uint8))[1].tobytes()
        (tmp_path / "films" / f"{i:03d}.png").write_bytes(data)
    return tmp_path / "films"


def labelled(films, match="file_stem", table="labels.csv", **keys):
    return {"path": films, "labels": {"path": str(films / table), "key": "image_no", "match": match}, **keys}


def test_both_sides_are_accounted_for(films, make):
    (films / "labels.csv").write_text(
        "image_no,who,finding,age\n000,01,yes,50\n001,01,no,\n1,02,no,9\n002,02,?,7\n001,03,yes,1\n,04,yes,2\n9,1,2,3,4\n"
    )
    made = make(labelled(films, missing=["?"]), CASE)
    assert made.column("case_id") == ["000", "001", "002", "003", "004"]  # the label table itself is no image
    assert made.column("patient_id") == ["01", "01", "02", None, None]
    assert made.column("finding") == ["yes", "no", None, None, None]
    assert made.column("age") == [50.0, None, 7.0, None, None]
    assert made.record["reasons"] == {"row_width": 1, "label_key_missing": 1, "label_key_repeated": 1, "no_image": 1}
    assert made.record["counts"]["read"] == 5 + 4
    assert {(one["reason"], one["row"]) for one in made.quarantine} == {
        ("no_image", 3), ("label_key_repeated", 5), ("label_key_missing", 6), ("row_width", 7),
    }  # fmt: skip
    assert any("2 images have no row" in note for note in made.record["notes"])
    assert set(made.record["inputs"]) == {"source", "labels"}


def test_a_quarantined_image_and_its_label_are_one_row(films, make):
    (films / "004.png").write_bytes(b"cut")
    (films / "labels.csv").write_text("image_no,who\n" + "".join(f"{i:03d},a\n" for i in range(5)))
    made = make(labelled(films), CASE)
    assert made.table.num_rows == 4
    assert sorted(made.reasons) == ["no_image", "not_image"]


def test_matching_by_name_and_path_with_a_spreadsheet(films, make, tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["image_no", "who"], ["000.png", "7"], ["001.png", "8"]):
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    source = {"path": films, "labels": {"path": str(tmp_path / "labels.xlsx"), "key": "image_no", "match": "file_path"}}
    made = make(source, {"id": "file_name", "patient": "who"})
    assert made.column("patient_id")[:3] == ["7", "8", None]


def test_the_key_may_bear_the_name_of_the_image_column(films, make):
    (films / "labels.csv").write_text("file_name,who\n000.png,a\n")
    source = {"path": films, "labels": {"path": str(films / "labels.csv"), "key": "file_name"}}
    assert make(source, CASE).column("file_name")[0] == "000.png"


def test_what_does_not_fit_is_refused_by_name(films, make):
    (films / "labels.csv").write_text("image_number,who\n000,a\n")
    with pytest.raises(DataError, match="no column 'image_no'") as error:
        make(labelled(films), CASE)
    assert "image_number" in error.value.next_step
    (films / "labels.csv").write_text("image_no,file_name\n000,a\n")
    with pytest.raises(DataError, match="the images have too: file_name"):
        make(labelled(films), {"id": "file_stem", "patient": "@case"})


def test_new_labels_are_a_new_source(films, make):
    from meddx.errors import OutputError

    (films / "labels.csv").write_text("image_no,who\n000,a\n")
    make(labelled(films), CASE)
    assert make(labelled(films), CASE).record["reused"]
    (films / "labels.csv").write_text("image_no,who\n000,b\n")
    with pytest.raises(OutputError, match="labels has changed|source has changed"):
        make(labelled(films), CASE)

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from meddx.errors import OutputError, RecipeError
from meddx.synth.phantom import picture
from meddx.synth.population import exams
from meddx.synth.truth import bayes_auroc
from meddx.synth.xray import BREAKAGES, make


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "record.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xray") / "archive"
    make(80, folder, seed=0)
    return folder


def test_the_record_counts_what_is_there(archive: Path) -> None:
    made = make(80, archive, seed=0)  # finished: the record is read back
    files = [path for path in (archive / "images").rglob("*") if path.is_file()]
    states = [row["file_state"] for row in rows_of(archive / "truth.csv")]
    assert made["counts"]["files"] == len(files) == len(states) + 1  # one .DS_Store
    assert made["counts"]["exams"] == len(rows_of(archive / "cases.csv")) == len(states)
    assert made["counts"]["broken"] == len(BREAKAGES) == sum(state != "ok" for state in states) + 1
    assert made["counts"]["readable"] == states.count("ok")
    assert 0.85 <= made["bayes_auroc"] <= 0.93 and 0.2 < made["prevalence"] < 0.5 and made["largest_lesion"] <= 0.03


def test_the_truth_is_no_column_of_the_cases(archive: Path) -> None:
    cases, truth = rows_of(archive / "cases.csv"), rows_of(archive / "truth.csv")
    assert set(cases[0]) & set(truth[0]) == {"accession_no"}
    assert {row["finding"] for row in cases} == {"finding", "no finding"}
    assert all(row["accession_no"].startswith("0") and row["patient_no"].startswith("0") for row in cases)
    chances = np.array([float(row["probability"]) for row in truth])
    assert bayes_auroc(chances) == pytest.approx(make(80, archive, seed=0)["bayes_auroc"], abs=1e-4)
    for row in truth:
        assert (float(row["strength"]) > 0) == (float(row["area"]) > 0) == (row["left"] != "")


def test_every_film_that_is_whole_can_be_read(archive: Path) -> None:
    truth = {row["accession_no"]: row for row in rows_of(archive / "truth.csv")}
    for row in rows_of(archive / "cases.csv"):
        about = truth[row["accession_no"]]
        if about["file_state"] == "ok":
            film = pydicom.dcmread(archive / about["file"])
            assert film.AccessionNumber == row["accession_no"] and film.PatientID == row["patient_no"]
            assert film.PatientAge == f"{int(row['age']):03d}Y" and film.PatientSex == row["sex"]
            assert film.InstitutionName == row["site"] and about["file"].startswith(f"images/{row['site']}/")
            assert film.pixel_array.shape == (64, 64)


def test_broken_files_are_broken(archive: Path) -> None:
    state = {row["file_state"]: archive / row["file"] for row in rows_of(archive / "truth.csv")}
    assert state["empty"].stat().st_size == 0
    assert state["text"].read_text().startswith("The film") and state["text"].suffix == ".dcm"
    with pytest.raises(AttributeError):
        _ = pydicom.dcmread(state["no_pixels"]).pixel_array
    with pytest.raises((ValueError, AttributeError, EOFError)):
        _ = pydicom.dcmread(state["truncated"]).pixel_array
    assert len(list((archive / "images").rglob(".DS_Store"))) == 1


def test_same_seed_same_bytes_another_seed_differs(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make(12, tmp_path / name, seed=seed, broken=2, size=32)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in ("truth.csv", "cases.csv"))
    films = [name for name in a.keys() & c.keys() if name.endswith(".dcm")]
    assert films and sum(a[name] == c[name] for name in films) <= 2  # both broken by chance


def test_an_interrupted_archive_is_completed(tmp_path: Path) -> None:
    make(10, tmp_path / "whole", seed=1)
    make(10, tmp_path / "torn", seed=1)
    whole = digests(tmp_path / "whole")
    (tmp_path / "torn" / "record.json").unlink()
    next((tmp_path / "torn").rglob("*.dcm")).write_bytes(b"half")
    make(10, tmp_path / "torn", seed=1)
    assert digests(tmp_path / "torn") == whole


def test_another_population_is_not_mixed_in(archive: Path) -> None:
    before = digests(archive)
    with pytest.raises(OutputError):
        make(81, archive, seed=0)
    assert digests(archive) == before


@pytest.mark.parametrize("bad", [{"patients": 0}, {"size": 16}, {"broken": 11}, {"broken": -1}])
def test_impossible_numbers_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        make(**{"patients": 10, "out": tmp_path / "x"} | bad)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_a_handful_of_patients_is_enough(tmp_path: Path) -> None:
    assert make(2, tmp_path / "two")["counts"]["broken"] == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_logistic_on_pixels_stays_far_below_the_best(seed: int) -> None:
    population = exams(500, seed)
    pixels = np.stack([cv2.resize(picture(one, seed, 64)[0], (24, 24), interpolation=cv2.INTER_AREA).ravel() for one in population])
    labels = np.array([one.finding for one in population])
    train = np.array([one.patient % 3 > 0 for one in population])
    scale = (pixels - pixels[train].mean(axis=0)) / (pixels[train].std(axis=0) + 1e-3)
    found = LogisticRegression(C=1e-3, max_iter=500).fit(scale[train], labels[train]).decision_function(scale[~train])
    best = bayes_auroc(np.array([one.probability for one in population]))
    assert roc_auc_score(labels[~train], found) < best - 0.1

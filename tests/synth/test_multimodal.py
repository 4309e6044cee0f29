"""The world of four sources: what is written gives the scores back, and the best numbers are what a long simulation finds."""

import csv
import io
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from meddx.errors import OutputError, RecipeError
from meddx.synth import multimodal_labs, multimodal_note
from meddx.synth.multimodal import CASES, TRUTH, make
from meddx.synth.multimodal_film import CENTRES, CHEST, CONTRAST, SHIFT, film, shadow
from meddx.synth.multimodal_truth import OPTIONAL, SOURCES, chances, chances_seen
from meddx.synth.truth import bayes_auroc

pytestmark = pytest.mark.slow
PATIENTS = 500


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multimodal") / "stays"
    make(PATIENTS, folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def truth(world: Path) -> dict[str, dict[str, float]]:
    return {row["stay_no"]: {name: float(row[name]) for name in TRUTH[1:]} for row in rows_of(world / "truth.csv")}


def draws(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 4))
    scores[:, 2] = multimodal_note.score(multimodal_note.draw_grades(rng, n))
    return scores


def test_ids_shares_and_labels(world: Path, truth: dict[str, dict[str, float]]) -> None:
    cases = rows_of(world / "cases.csv")
    assert tuple(cases[0]) == CASES and len(cases) == len(truth) == PATIENTS * 6 // 5
    assert {len(one["stay_no"]) for one in cases} == {8} and cases[0]["stay_no"][0] == "0"
    assert len({one["patient_no"] for one in cases}) == PATIENTS
    assert {one["died"] for one in cases} == {"yes", "no"}
    without = np.mean([one["accession_no"] == "" for one in cases])
    have = {name: {row["stay_no"] for row in rows_of(world / f"{name}.csv")} for name in ("labs", "notes")}
    assert all(0.10 < share < 0.20 for share in (without, *(1 - len(one) / len(cases) for one in have.values())))
    assert {one["stay_no"] for one in cases} == set(truth) >= have["labs"] | have["notes"]


def test_the_best_numbers_are_in_order_and_orders_the_labels(world: Path, truth: dict[str, dict[str, float]]) -> None:
    made = make(PATIENTS, world)
    everything = made["bayes_auroc"]
    assert made["bayes_auroc_complete"] > everything > 0.85
    for name in OPTIONAL:
        assert everything - 0.02 > made[f"bayes_auroc_without_{name}"] > made["bayes_auroc_table_alone"] + 0.05
    cases = rows_of(world / "cases.csv")
    died = np.array([one["died"] == "yes" for one in cases])
    for name, best in (("probability", "bayes_auroc"), ("without_labs", "bayes_auroc_without_labs")):
        said = np.array([truth[one["stay_no"]][name] for one in cases])
        assert roc_auc_score(died, said) == pytest.approx(made[best], abs=0.04)
        assert said.mean() == pytest.approx(died.mean(), abs=0.04)


@pytest.mark.parametrize("hidden", [("labs",), ("note",), ("film",), ("labs", "film"), ("labs", "note", "film")])
def test_a_hidden_source_is_averaged_out(hidden: tuple[str, ...]) -> None:
    """Against the plain mean over 40,000 draws of the hidden scores."""
    some, many = draws(5, seed=1), draws(40_000, seed=2)
    places = [SOURCES.index(name) for name in hidden]
    seen = ~np.isin(np.arange(4), places)
    found = chances_seen(some, np.tile(seen, (5, 1)))
    for row, expected in zip(some, found, strict=True):
        simulated = np.tile(row, (len(many), 1))
        simulated[:, places] = many[:, places]
        assert chances(simulated).mean() == pytest.approx(expected, abs=0.006)


def test_the_best_auroc_is_that_of_a_simulation() -> None:
    scores = draws(60_000, seed=3)
    rng = np.random.default_rng(4)
    died = rng.random(len(scores)) < chances(scores)
    for name in ("labs", "film"):
        seen = np.tile(np.array(SOURCES) != name, (len(scores), 1))
        known = chances_seen(scores, seen)
        assert roc_auc_score(died, known) == pytest.approx(bayes_auroc(known), abs=0.006)
        plugged = scores.copy()
        plugged[:, SOURCES.index(name)] = 0  # the twin: the mean put in place of the unknown is another order
        assert roc_auc_score(died, chances(plugged)) <= roc_auc_score(died, known) + 0.002


def test_table_and_labs_give_their_scores_back(world: Path, truth: dict[str, dict[str, float]]) -> None:
    for one in rows_of(world / "cases.csv"):
        score = 0.6 * (float(one["age"]) - 62) / 12 + 0.8 * (float(one["severity"]) - 30) / 10
        assert score == pytest.approx(truth[one["stay_no"]]["table"], abs=1e-3)
    decided = {one["stay_no"]: datetime.fromisoformat(one["decided_at"]) for one in rows_of(world / "cases.csv")}
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows_of(world / "labs.csv"):
        if datetime.fromisoformat(row["charted_at"]) <= decided[row["stay_no"]]:
            value = float(row["value"]) / (multimodal_labs.MOLAR if row["unit"] == "umol/L" else 1)
            found.setdefault(row["stay_no"], {}).setdefault(row["test"], []).append(value)
    assert len({one["unit"] for one in rows_of(world / "labs.csv") if one["test"] == "creatinine"}) == 2
    for stay, tests in found.items():
        level = (np.mean(tests["lactate"]) - 2.4) / 0.5
        change = (tests["creatinine"][-1] - tests["creatinine"][0]) / 0.3
        assert 0.8 * level + 0.6 * change == pytest.approx(truth[stay]["labs"], abs=0.05)


def test_words_give_the_score_of_the_note_back(world: Path, truth: dict[str, dict[str, float]]) -> None:
    sentences = sorted({one for finding in multimodal_note.FINDINGS for grade in finding for one in grade})
    notes = [row for row in rows_of(world / "notes.csv") if row["body"] not in multimodal_note.LATE.values()]
    counts = np.array([[float(one in row["body"]) for one in sentences] for row in notes])
    scores = np.array([truth[row["stay_no"]]["note"] for row in notes])
    half = len(notes) // 2
    fitted = LinearRegression().fit(counts[:half], scores[:half])
    assert np.abs(fitted.predict(counts[half:]) - scores[half:]).max() < 1e-3
    assert sum(len(words) for words in multimodal_note.FINDINGS) * 2 == len(sentences)  # no sentence has two meanings


def test_pixels_give_the_score_of_the_film_back(world: Path, truth: dict[str, dict[str, float]]) -> None:
    import pydicom

    stays = {one["accession_no"]: one["stay_no"] for one in rows_of(world / "cases.csv")}
    with zipfile.ZipFile(world / "films.zip") as archive:
        names = archive.namelist()
        assert len(names) == len([one for one in stays if one])
        for name in names[:20]:
            read = pydicom.dcmread(io.BytesIO(archive.read(name)))
            assert f"{read.AccessionNumber}.dcm" == name.split("/")[1] and len(read.PatientID) == 8
            over = read.pixel_array / 4095 - CHEST
            assert _best_fit(over) == pytest.approx(truth[stays[read.AccessionNumber]]["film"], abs=0.3)
    rng = np.random.default_rng(0)
    for score in (-3.0, 0.0, 3.0):  # the place known, the score is exact
        state = rng.bit_generator.state
        picture = film(score, rng)
        rng.bit_generator.state = state
        where = shadow(*(CENTRES[int(rng.integers(2))] + rng.uniform(-SHIFT, SHIFT, 2)))
        contrast = ((picture - CHEST) * where).sum() / (where * where).sum()
        assert (contrast - CONTRAST[0]) / CONTRAST[1] == pytest.approx(score, abs=1e-9)


def _best_fit(over: np.ndarray) -> float:
    """The contrast at the place, on a grid of half pixels, where the shadow explains most."""
    best = (0.0, 0.0)
    for row, column in CENTRES:
        for down in np.arange(-SHIFT, SHIFT + 0.1, 0.5):
            for right in np.arange(-SHIFT, SHIFT + 0.1, 0.5):
                where = shadow(row + down, column + right)
                product, power = float((over * where).sum()), float((where * where).sum())
                best = max(best, (product * product / power, product / power))
    return (best[1] - CONTRAST[0]) / CONTRAST[1]


def test_what_is_from_after_the_decision_knows_the_outcome(world: Path) -> None:
    cases = {one["stay_no"]: one for one in rows_of(world / "cases.csv")}

    def late(row: dict[str, str], column: str) -> bool:
        return datetime.fromisoformat(row[column]) > datetime.fromisoformat(cases[row["stay_no"]]["decided_at"])

    labs = [(float(row["value"]), cases[row["stay_no"]]["died"] == "yes") for row in rows_of(world / "labs.csv") if late(row, "charted_at")]
    assert roc_auc_score([died for _, died in labs], [value for value, _ in labs]) > 0.99
    notes = [row for row in rows_of(world / "notes.csv") if late(row, "signed_at")]
    assert notes and all(("died" in row["body"]) == (cases[row["stay_no"]]["died"] == "yes") for row in notes)
    early = [row for row in rows_of(world / "labs.csv") if not late(row, "charted_at")]
    least = min(datetime.fromisoformat(row["charted_at"]) - datetime.fromisoformat(cases[row["stay_no"]]["admitted_at"]) for row in early)
    assert least >= timedelta(0)


def test_same_seed_same_bytes_and_a_finished_archive_stays(tmp_path: Path) -> None:
    first, again = make(20, tmp_path / "a", seed=3), make(20, tmp_path / "b", seed=3)
    for name in ("cases.csv", "labs.csv", "notes.csv", "films.zip", "truth.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert first["counts"] == again["counts"]
    assert make(20, tmp_path / "a", seed=3) == first
    with pytest.raises(OutputError):
        make(20, tmp_path / "a", seed=4)
    assert make(20, tmp_path / "c", seed=4, absent=0.0)["counts"]["films"] == 24
    with pytest.raises(RecipeError):
        make(0, tmp_path / "d")


def test_the_page_of_this_world_reads_it(world: Path, tmp_path: Path) -> None:
    """The four sources join, late rows are dropped, and hidden values of the truth are nowhere in the dataset."""
    from meddx import recipe
    from meddx.stages.ingest import ingest

    page = tmp_path / "page.yaml"
    page.write_text(PAGE.replace("WORLD", str(world)).replace("RUN", str(tmp_path / "run")))
    lines: list[str] = []
    dataset = ingest(recipe.load(page), log=lines.append)
    made = make(PATIENTS, world)
    table = dataset.table(["labs", "notes", "films"])
    assert table.num_rows == made["counts"]["stays"]
    assert sum(bool(one) for one in table["films"].to_pylist()) == made["counts"]["films"]
    assert all(row["@time"] <= 0 for name in table.column_names for rows in table[name].to_pylist() for row in rows or ())
    assert any("labs: dropped rows later than predict_at" in line for line in lines)


PAGE = """
name: multimodal
sources:
  stays: {path: WORLD/cases.csv, text: [stay_no, patient_no, accession_no]}
  labs: {path: WORLD/labs.csv, join: stay_no, time: charted_at, text: [stay_no]}
  notes: {path: WORLD/notes.csv, join: stay_no, time: signed_at, text: [stay_no]}
  films: {path: WORLD/films.zip, format: dicom, join: {accession_number: accession_no}, time: acquired_at, keep: [image]}
case: {from: stays, id: stay_no, patient: patient_no, predict_at: decided_at, zone: UTC}
target: {kind: binary, column: died, positive: ["yes"], negative: ["no"]}
inputs:
  table: {columns: [age, severity]}
  film: {kind: image, from: films, size: 32, many: latest, optional: true}
out: RUN
"""

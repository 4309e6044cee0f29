"""Four sources from files to answers, with each of them hidden: what is unsure says so, and what came after is not looked at."""

from __future__ import annotations

import csv
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meddx.cli import main
from meddx.evaluate.calibration import slope
from meddx.predict.bundle import Bundle
from meddx.predict.patterns import ABSENT, apply_by_pattern, hidden, key_of, patterns_of, present_of
from meddx.recipe import load
from meddx.stages.ingest import ingest

pytestmark = pytest.mark.slow

PAGE = """
name: stays
sources:
  stays: {{path: "{0}/cases.csv", text: [stay_no, patient_no, accession_no]}}
  labs: {{path: "{0}/labs.csv", join: stay_no, time: charted_at, text: [stay_no]}}
  notes: {{path: "{0}/notes.csv", join: stay_no, time: signed_at, text: [stay_no]}}
  films: {{path: "{0}/films.zip", format: dicom, join: {{accession_number: accession_no}}, time: acquired_at, keep: [image]}}
case: {{from: stays, id: stay_no, patient: patient_no, predict_at: decided_at, zone: UTC}}
target: {{kind: binary, column: died, positive: ["yes"], negative: ["no"], outcome: death}}
timing: {{known_at: {{"*": at the decision}}}}
inputs:
  table: {{columns: [age, severity]}}
  labs:
    {{kind: events, from: labs, variable: test, value: value, unit: unit, window: [-48h, 0h], bin: 12h, optional: true,
     variables: [lactate, creatinine], convert: {{creatinine: {{umol/L: 0.0113122}}}}}}
  note: {{kind: text, from: notes, column: body, max_tokens: 64, optional: true}}
  film: {{kind: image, from: films, size: 16, optional: true}}
split: {{parts: {{train: 0.5, validate: 0.1, calibrate: 0.3, test: 0.1}}}}
model:
  encoders:
    table: {{kind: mlp, settings: {{hidden: 16, layers: 1}}}}
    labs: {{kind: gru, settings: {{units: 16, embedding: 16}}}}
    note: {{kind: conv, settings: {{width: 16, blocks: 1, kernel: 1}}}}
    film: {{kind: cnn, settings: {{channels: [8, 16]}}}}
  fusion: {{kind: gated, width: 16}}
  hidden: 16
training: {{epochs: 10, batch: 32, lr: 0.01, stop_on: last, precision: fp32}}
baselines: [prevalence]
comparison: {{primary: {{metric: auroc, against: prevalence}}, bootstrap: 200}}
out: {1}
"""
SOURCES = {"labs": "labs", "note": "notes", "film": "films"}  # optional input to the source behind it


def page_of(world: Path, out: Path) -> Path:
    page = out.with_suffix(".yaml")
    page.write_text(PAGE.format(world, out))
    return page


def cases_of(world: Path, out: Path) -> pa.Table:
    return ingest(load(page_of(world, out)), log=lambda line: None).table()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that is learned from, and one of other patients."""
    folder = tmp_path_factory.mktemp("multimodal")
    for name, patients, seed in (("world", 800, 0), ("others", 700, 1)):
        assert main(["synth", "multimodal", "--patients", str(patients), "--seed", str(seed), "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    assert main(["train", str(page_of(folder / "world", folder / "run"))]) == 0
    return Bundle.load(folder / "run/bundles/network")


@pytest.fixture(scope="module")
def others(folder: Path) -> pa.Table:
    return cases_of(folder / "others", folder / "others_run")


def said(bundle: Bundle, table: pa.Table, *without: str) -> np.ndarray:
    predictions = bundle.predict(table, without=without)
    assert set(predictions.column("status").to_pylist()) == {"scored"}
    return predictions.column("probability").to_numpy()


def test_each_set_of_absent_inputs_has_its_calibration(bundle: Bundle) -> None:
    pages = bundle.calibration[ABSENT]
    assert set(pages) == {key_of(one) for one in patterns_of(bundle.inputs)} and len(pages) == 8
    assert all("cases" in page and not any("too few" in note for note in page["notes"]) for page in pages.values())
    cases = {name: page["cases"] for name, page in pages.items()}
    assert cases[""] < cases["labs"] < cases["film+labs+note"], "who lacks it anyway counts among those from whom it is hidden"


def test_a_model_that_looks_at_nothing_has_one_calibration(folder: Path, bundle: Bundle, others: pa.Table) -> None:
    constant = Bundle.load(folder / "run/bundles/prevalence")
    assert ABSENT not in constant.calibration and len(set(said(constant, others))) == 1


@pytest.mark.parametrize("name", SOURCES)
def test_a_hidden_input_is_one_that_nobody_brought(bundle: Bundle, others: pa.Table, name: str) -> None:
    place = others.schema.get_field_index(SOURCES[name])
    brought = others.set_column(place, others.schema.field(place), pa.nulls(others.num_rows, others.schema.field(place).type))
    everything, without = said(bundle, others), said(bundle, others, name)
    np.testing.assert_array_equal(without, said(bundle, brought))
    there = bundle.preparations.transform(others)[name].present
    assert 0.8 < there.mean() < 0.9
    np.testing.assert_array_equal(everything[~there], without[~there])
    assert (everything[there] != without[there]).mean() > 0.99
    assert np.abs(everything - without)[there].mean() > 0.02


@pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
def test_what_came_after_the_decision_changes_nothing(folder: Path, bundle: Bundle, others: pa.Table, late: bool) -> None:
    """The archive without the late labs and notes gives the same answers; the twin, without the early ones, does not."""
    name = "no_late" if late else "no_early"
    left = said(bundle, cases_of(_without_rows(folder, name, late), folder / f"{name}_run"))
    if late:
        np.testing.assert_array_equal(left, said(bundle, others))
    else:
        assert (left != said(bundle, others)).mean() > 0.9


@pytest.mark.parametrize(("hide", "least"), [(("labs",), 0.0), (tuple(SOURCES), 0.5)], ids=["labs", "all"])
def test_with_inputs_hidden_one_calibration_for_all_is_further_off(
    bundle: Bundle, others: pa.Table, hide: tuple[str, ...], least: float
) -> None:
    """Of patients it has not seen; the twin is the page of all calibrate cases as they are, without those of the patterns."""
    prepared = hidden(bundle.preparations, bundle.preparations.transform(others), hide)
    logits, present = bundle.logits(prepared), present_of(bundle.preparations, prepared)
    one_for_all = {key: value for key, value in bundle.calibration.items() if key != ABSENT}
    own, common = (apply_by_pattern(page, bundle.head, logits, present)[:, 0] for page in (bundle.calibration, one_for_all))
    assert own == pytest.approx(said(bundle, others, *hide), abs=1e-12)
    truth = pc.equal(others.column("died"), "yes").to_numpy().astype(float)
    patients = np.unique(others.column("patient_id").to_pylist(), return_inverse=True)[1]
    off, off_in_common = (abs(slope(truth, probabilities, patients)[0] - 1) for probabilities in (own, common))
    assert off < 0.4 and off + least < off_in_common


def _without_rows(folder: Path, name: str, late: bool) -> Path:
    """The archive of other patients without the labs and notes from after the decision, or without those from before it."""
    shutil.copytree(folder / "others", folder / name)
    decided = {row["stay_no"]: datetime.fromisoformat(row["decided_at"]) for row in _read(folder / "others/cases.csv")}
    for table, stamp in (("labs", "charted_at"), ("notes", "signed_at")):
        rows = _read(folder / f"others/{table}.csv")
        kept = [row for row in rows if (datetime.fromisoformat(row[stamp]) > decided[row["stay_no"]]) != late]
        assert len(kept) < len(rows)
        with (folder / name / f"{table}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
    return folder / name


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))

"""Entities from tagged words in files to places in the text of a new note: through the command line, with the dictionary beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meddx.cli import main
from meddx.errors import RecipeError
from meddx.predict.bundle import Bundle
from meddx.recipe import load

PAGE = """
name: drugs
data: {{path: "{0}/*.tsv", format: iob, file_as: file}}
id: "@row"
patient: {{unknown: "sentences do not say whose they are"}}
target: {{kind: tags, column: spans, classes: {{drug: [Drug]}}}}
inputs: {{sentence: {{kind: tokens, column: text, max_tokens: 24, characters: 8}}}}
split:
  by: column
  column: file
  parts: {{train: [train.tsv], test: [test.tsv]}}
  carve: {{validate: {{from: train, share: 0.1}}, calibrate: {{from: train, share: 0.05}}}}
model: {{encoders: {{sentence: {{kind: lstm, settings: {{units: 24}}}}}}, hidden: 24}}
training: {{epochs: 8, batch: 16, lr: 0.01, stop_on: f1}}
baselines: [dictionary]
comparison: {{primary: {{metric: span_f1, against: dictionary}}, bootstrap: 200}}
out: {0}/run
"""
STEMS = [a + b for a in ("ald", "ber", "cor", "dov", "esm", "fal", "gin", "hev") for b in ("o", "a", "i", "u", "ex", "an")]


def sentences(rng: np.random.Generator, stems: list[str], count: int) -> str:
    """Drugs end in -olol; two of a name are one entity; half of those of the test file were never seen in training."""
    out = []
    for _ in range(count):
        name = [str(rng.choice(stems)) + "olol"] + (["forte"] if rng.random() < 0.3 else [])
        before, after = rng.choice(["took", "stopped", "refused"]), rng.choice(["today", "again", "."])
        lines = ["the\tO", "patient\tO", f"{before}\tO"]
        lines += [f"{word}\t{'I' if place else 'B'}-Drug" for place, word in enumerate(name)]
        if rng.random() < 0.5:
            lines = [f"{one}\tO" for one in ("no", "pain", str(rng.choice(stems)), "seen")]  # the same stem without its ending
        out.append("\n".join([*lines, f"{after}\tO"]))
    return "\n\n".join(out) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, rng = tmp_path_factory.mktemp("drugs"), np.random.default_rng(0)
    (made / "train.tsv").write_text(sentences(rng, STEMS[:24], 320) + "\nbroken line without a tag\n\n")
    (made / "test.tsv").write_text(sentences(rng, STEMS, 160))
    (made / "page.yaml").write_text(PAGE.format(made))
    return made


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    assert main(["check", str(folder / "page.yaml")]) == 0
    assert main(["train", str(folder / "page.yaml"), "--compare"]) == 0
    return folder


@pytest.mark.slow
def test_the_network_finds_names_that_the_dictionary_cannot_know(finished: Path) -> None:
    found = json.loads((finished / "run/comparison/comparison.json").read_text())
    numbers = {one["name"]: one["numbers"]["span_f1"]["value"] for one in found["models"]}
    assert numbers["network"] > 0.95 and numbers["dictionary"] < 0.9
    assert found["primary"]["verdict"] in ("better", "useful")
    assert "both ends" in (finished / "run/comparison/report.html").read_text()
    for model in ("network", "dictionary"):  # half of the sentences name a drug
        counted = json.loads((finished / f"run/bundles/{model}/bundle.json").read_text())["about"]["answers"]["calibrate"]
        assert sum(counted["bands"]["spans"]) == counted["cases"] and counted["bands"]["spans"][0] > 0.3 * counted["cases"]


@pytest.mark.slow
def test_places_are_those_of_the_note_as_it_was_written(finished: Path) -> None:
    bundle = Bundle.load(finished / "run/bundles/network")
    texts = ["The patient  took\nhevanolol forte today", "no pain seen .", "", None, "the \U0001f48a patient refused aldoolol ."]
    told = bundle.predict([{"case_id": str(place), "text": text} for place, text in enumerate(texts)])
    spans = told.column("spans").to_pylist()
    assert told.column("status").to_pylist() == ["scored", "scored", "quarantined", "quarantined", "scored"]
    assert [texts[0][one["start"] : one["end"]] for one in spans[0]] == ["hevanolol forte"]
    assert spans[1] == [] and spans[2] is None and spans[3] is None
    assert [texts[4][one["start"] : one["end"]] for one in spans[4]] == ["aldoolol"]
    assert all(0 < one["score"] <= 1 for row in spans if row for one in row)


@pytest.mark.slow
def test_a_sentence_that_cannot_be_read_is_kept_in_quarantine(finished: Path) -> None:
    record = json.loads((finished / "run/dataset/record.json").read_text())
    assert record["counts"]["read"] == 481 and record["counts"]["quarantined"] == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("split={folds: 3}", "tags need `parts`"),
        ("baselines=[dictionary, forest]", "forest does not answer a target of kind tags"),
        ("inputs={sentence: {kind: text, column: text}}", "goes with one input of kind tokens"),
        ("comparison.primary.metric=auroc", "span_f1"),
    ],
)
def test_what_a_page_of_entities_cannot_have(folder: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        load(folder / "page.yaml", [override])
    except RecipeError as error:
        assert said in str(error)
        return
    assert main(["train", str(folder / "page.yaml"), override, f"out={folder}/other", "training.epochs=1", "--compare"]) == 2
    assert said in capsys.readouterr().err

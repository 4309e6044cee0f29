"""The closed loop on several sources, and on folds: from raw files to the verdict through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from meddx.cli import main
from meddx.predict.bundle import Bundle

pytestmark = pytest.mark.slow

SOURCES = """
name: several
sources:
  stays: {{path: {0}/stays.csv}}
  labs: {{path: {0}/labs.csv, join: stay, time: minute, time_unit: min}}
  notes: {{path: {0}/notes.csv, join: {{stay_no: stay}}, time: minute, time_unit: min}}
case: {{from: stays, id: stay, patient: who, predict_at: 24h}}
target: {{kind: binary, column: died, positive: ["1"], negative: ["0"]}}
inputs:
  table: {{columns: [age]}}
  labs: {{from: labs, kind: events, variable: test, value: value, unit: unit, window: [-24h, 0h], bin: 6h, optional: true}}
  note: {{from: notes, kind: text, column: body, many: latest, max_tokens: 16, optional: true}}
model:
  encoders: {{labs: {{kind: gru, settings: {{units: 8}}}}, note: {{kind: lstm, settings: {{units: 8, embedding: 8}}}}}}
  fusion: {{kind: gated, drop_inputs: 0.2, width: 8}}
  hidden: 16
training: {{epochs: 6, batch: 32, lr: 0.01}}
baselines: [logistic, {{kind: logistic, name: labs_only, inputs: [labs]}}]
comparison: {{primary: {{metric: auroc, against: labs_only}}, bootstrap: 200}}
out: {0}/run
"""

STAGES = """
name: stages
data: {0}/stages.csv
id: row
patient: who
target: {{kind: ordinal, column: stage, classes: [I, II, III]}}
inputs: {{table: {{columns: [a, b]}}}}
split: {{folds: 3, repeats: 2}}
training: {{epochs: 3, batch: 16, lr: 0.01}}
baselines: [linear]
comparison: {{primary: {{metric: kappa, against: linear}}, bootstrap: 200}}
out: {0}/run
"""


def archive(folder: Path, late: float = 0.0) -> Path:
    """120 stays whose outcome shows in potassium and in a word; `late` is what a result after the decision says."""
    rng = np.random.default_rng(0)
    stays = [f"{i:04d}" for i in range(120)]
    ill = rng.random(120) < 0.4
    pd.DataFrame(
        {"stay": stays, "who": [f"p{i // 2}" for i in range(120)], "age": rng.integers(30, 80, 120), "died": ill.astype(int)}
    ).to_csv(folder / "stays.csv", index=False)
    labs = [
        (stay, minute, "K", 4 + 2 * bad + rng.normal(0, 0.7), "mmol/L")
        for stay, bad in zip(stays, ill, strict=True)
        for minute in (10, 700)
    ]
    labs += [(stay, 2000, "K", late, "mmol/L") for stay in stays]  # 24 h are 1440 minutes
    pd.DataFrame(labs, columns=["stay", "minute", "test", "value", "unit"]).to_csv(folder / "labs.csv", index=False)
    words = [(stay, 5, f"patient {'weak' if bad ^ (rng.random() < 0.2) else 'well'} today") for stay, bad in zip(stays, ill, strict=True)]
    pd.DataFrame(words[:110], columns=["stay_no", "minute", "body"]).to_csv(folder / "notes.csv", index=False)
    (folder / "page.yaml").write_text(SOURCES.format(folder))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = archive(tmp_path_factory.mktemp("several"))
    assert main(["train", str(folder / "page.yaml")]) == 0
    assert main(["compare", str(folder / "page.yaml"), "--without", "labs", "--without", "note"]) == 0
    return folder


def test_three_sources_become_one_verdict_with_and_without_each_input(finished: Path) -> None:
    found = json.loads((finished / "run/comparison/comparison.json").read_text())
    by_name = {row["name"]: row["numbers"]["auroc"]["value"] for row in found["models"]}
    assert set(by_name) == {"network", "prevalence", "logistic", "labs_only", "network without labs", "network without note"}
    assert by_name["network"] > 0.8 and by_name["network"] > by_name["network without labs"]
    assert "with labs hidden from every case" in (finished / "run/comparison/report.html").read_text()
    assert found["primary"]["against"] == "labs_only"


def test_the_dataset_holds_each_source_as_one_column_and_nothing_after_the_decision(finished: Path) -> None:
    table = pq.read_table(finished / "run/dataset/data")
    labs = table.column("labs").to_pylist()
    assert all(len(one) == 2 and max(row["@time"] for row in one) <= 0 for one in labs)
    record = json.loads((finished / "run/dataset/record.json").read_text())
    assert record["joined"]["labs"]["too_late"] == 120 and record["joined"]["notes"]["unmatched"] == 10


def test_a_result_after_the_decision_changes_nothing(finished: Path, tmp_path: Path) -> None:
    folder = archive(tmp_path, late=999.0)
    assert main(["train", str(folder / "page.yaml"), "baselines=[{kind: logistic, name: labs_only, inputs: [labs]}]"]) == 0
    rows = pq.read_table(finished / "run/dataset/data")
    first = Bundle.load(finished / "run/bundles/network").predict(rows).column("probability").to_pylist()
    again = (
        Bundle.load(folder / "run/bundles/network").predict(pq.read_table(folder / "run/dataset/data")).column("probability").to_pylist()
    )
    assert first == again


def test_a_case_without_a_note_is_scored_and_hiding_the_note_is_the_same(finished: Path) -> None:
    rows = pq.read_table(finished / "run/dataset/data").to_pylist()
    network = Bundle.load(finished / "run/bundles/network")
    whole, absent = network.predict([rows[0], {**rows[0], "notes": []}]).column("probability").to_pylist()
    assert absent != whole
    assert network.predict([rows[0]], without=("note",)).column("probability").to_pylist() == [absent]


def stages(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=150)
    columns: dict[str, Any] = {"row": [f"r{i}" for i in range(150)], "who": [f"p{i // 2}" for i in range(150)]}
    columns |= {
        "a": hidden + rng.normal(0, 0.7, 150),
        "b": rng.normal(size=150),
        "stage": np.array(["I", "II", "III"])[np.digitize(hidden, [-0.5, 0.5])],
    }
    pd.DataFrame(columns).to_csv(folder / "stages.csv", index=False)
    (folder / "page.yaml").write_text(STAGES.format(folder))
    return folder


def test_folds_of_an_ordinal_target_resume_and_end_in_bundles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = str(stages(tmp_path) / "page.yaml")
    assert main(["train", page, "--compare"]) == 0
    said = capsys.readouterr().out
    assert said.count("(6 turns)") == 6 and "the bundle is refitted on all rows" in said
    found = json.loads((tmp_path / "run/comparison/comparison.json").read_text())
    assert found["folds"]["count"] == 6 and {row["name"] for row in found["models"]} == {"network", "linear", "prevalence"}
    before = {path.name: path.read_bytes() for path in (tmp_path / "run/folds").rglob("*.parquet")}
    held = [pq.read_table(path) for path in (tmp_path / "run/folds").rglob("turn-0-*.parquet")]
    assert sorted(row for table in held for row in table.column("row").to_pylist()) == sorted([*range(150)] * 3), "each case once a model"
    manifest = json.loads((tmp_path / "run/bundles/network/bundle.json").read_text())
    assert manifest["about"]["cases"] == {"train": 150} and "procedure" in manifest["about"]["estimate"]
    for part in ("out_of_fold", "train"):  # each case once, whatever the repeats
        counted = manifest["about"]["answers"][part]
        assert counted["cases"] == 150 and {name: sum(one) for name, one in counted["bands"].items()} == dict.fromkeys(
            ("p_I", "p_II", "p_III"), 150
        )

    next((tmp_path / "run/folds").rglob("turn-1-2.parquet")).unlink()
    shutil.rmtree(tmp_path / "run/bundles")
    assert main(["train", page]) == 0
    assert capsys.readouterr().out.count("(6 turns)") == 1, "only the lost turn is run again"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run/folds").rglob("*.parquet")} == before

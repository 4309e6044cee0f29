"""What is broken on purpose is quarantined with its reason, the rest goes on, and pure noise is called noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from meddx.cli import main
from meddx.predict.bundle import Bundle

pytestmark = pytest.mark.slow

RECORDS = """
name: records
data: {{path: {0}/records, format: wfdb, signal: {{rows: {1}, before: 0.2s, after: 0.2s}}}}
id: {2}
patient: "@case"
target: {{kind: multiclass, column: symbol, classes: [N, V]}}
inputs: {{wave: {{kind: signal, leads: [II], rate: 50, seconds: 2}}}}
out: {0}/{1}
"""

MIXED = """
name: mixed
sources:
  stays: {{path: {0}/stays.csv, text: [note]}}
  labs: {{path: {0}/labs.csv, join: stay, time: minute, time_unit: min}}
case: {{from: stays, id: stay, patient: "@case", predict_at: 24h}}
target: {{kind: binary, column: died, positive: ["1"], negative: ["0"]}}
inputs:
  labs: {{from: labs, kind: events, variable: test, value: value, unit: unit, window: [-24h, 0h], bin: 12h}}
  note: {{kind: text, column: note, max_tokens: 8}}
baselines: [logistic]
model: {{encoders: {{labs: {{kind: gru, settings: {{units: 4}}}}, note: {{kind: gru, settings: {{units: 4, embedding: 4}}}}}}, hidden: 4}}
training: {{epochs: 1, batch: 32}}
out: {0}/run
"""

NOISE = """
name: noise
data: {0}/noise.csv
id: row
patient: "@case"
target: {{kind: binary, column: y, positive: ["1"], negative: ["0"]}}
inputs: {{table: {{columns: ["g*"]}}}}
split: {{folds: 4}}
model: {{encoders: {{table: {{kind: mlp, settings: {{hidden: 4, layers: 1}}}}}}, hidden: 4}}
training: {{epochs: 1, batch: 32}}
baselines: [{{kind: logistic, name: selected, select: 10, trials: 1}}]
comparison: {{primary: {{metric: auroc, against: selected}}, bootstrap: 200}}
out: {0}/run
"""


def record(folder: Path, name: str, samples: int, header_samples: int | None = None) -> None:
    """One lead II of 100 Hz in format 16."""
    count = samples if header_samples is None else header_samples
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.hea").write_text(f"{name} 1 100 {count}\n{name}.dat 16 200 16 0 0 0 0 II\n")
    wave = np.round(200 * np.sin(np.arange(samples) / 7)).astype("<i2")
    (folder / f"{name}.dat").write_bytes(wave.tobytes())


def reasons(dataset: Path) -> list[str]:
    return sorted(str(one["reason"]) for one in pq.read_table(dataset / "quarantine").to_pylist())


def test_signals_that_cannot_be_read(tmp_path: Path) -> None:
    for name, samples, told in (("good", 300, 300), ("bare", 300, 300), ("empty", 0, 0), ("short", 100, 300)):
        record(tmp_path / "records", name, samples, told)
        if name != "bare":  # a normal beat each 100 samples: code 1 and the distance in one word, then 0
            beats = [(1 << 10) | 100] * (samples // 100 - 1)
            (tmp_path / "records" / f"{name}.atr").write_bytes(np.array([*beats, 0], "<u2").tobytes())
    for rows, key in (("record", "record"), ("beats", "case_key")):
        (tmp_path / f"{rows}.yaml").write_text(RECORDS.format(tmp_path, rows, key))
        assert main(["ingest", str(tmp_path / f"{rows}.yaml")]) == 0
    assert reasons(tmp_path / "record/dataset") == ["signal_empty", "signal_truncated"]
    assert reasons(tmp_path / "beats/dataset") == ["no_annotations", "signal_empty", "signal_truncated"]
    for rows, read in (("record", 4), ("beats", 5)):
        counts = json.loads((tmp_path / rows / "dataset/record.json").read_text())["counts"]
        assert counts["read"] == read == counts["written"] + counts["quarantined"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    stays = [f"{i:03d}" for i in range(160)]
    notes = rng.choice(["patient is well", "patient is weak"], 160)
    pd.DataFrame({"stay": stays, "note": notes, "died": rng.integers(0, 2, 160)}).to_csv(folder / "stays.csv", index=False)
    labs = [(stay, 60, "K", round(float(rng.normal(4, 1)), 2), "mmol/L") for stay in stays]
    pd.DataFrame(labs, columns=["stay", "minute", "test", "value", "unit"]).to_csv(folder / "labs.csv", index=False)
    (folder / "page.yaml").write_text(MIXED.format(folder))
    assert main(["train", str(folder / "page.yaml")]) == 0
    return Bundle.load(folder / "run/bundles/network")


@pytest.mark.parametrize(
    ("lab", "note", "reason"),
    [
        ({"test": "K", "value": "4.1", "unit": "mmol/L"}, "patient is well", None),
        ({"test": "K", "value": "160", "unit": "mg/L"}, "patient is well", "unit_unexpected"),
        ({"test": "K", "value": "high", "unit": "mmol/L"}, "patient is well", "value_unreadable"),
        ({"test": "K", "value": "inf", "unit": "mmol/L"}, "patient is well", "value_unreadable"),
        ({"test": "K", "value": "nan", "unit": "mmol/L"}, "patient is well", None),  # no reading, as an empty one
        ({"test": "never seen", "value": "1", "unit": "?"}, "patient is well", None),
        ({"test": "K", "value": "4.1", "unit": "mmol/L"}, " \u00a0 ", "text_empty"),
        ({"test": "K", "value": "4.1", "unit": "mmol/L"}, None, "input_absent"),
    ],
)
def test_a_row_that_cannot_be_used_says_why_and_its_neighbour_is_scored(
    bundle: Bundle, lab: dict[str, Any], note: str | None, reason: str | None
) -> None:
    good = {"case_id": "a", "note": "patient is weak", "labs": [{"@time": -2.0, "test": "K", "value": "4.0", "unit": "mmol/L"}]}
    told = bundle.predict([good, {"case_id": "b", "note": note, "labs": [{"@time": -1.0, **lab}]}])
    assert told.column("error").to_pylist() == [None, reason]
    assert told.column("status").to_pylist() == ["scored", "quarantined" if reason else "scored"]
    assert told.column("probability")[0] == bundle.predict([good]).column("probability")[0]


def test_columns_are_selected_inside_the_folds_so_noise_stays_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    genes, labels = rng.normal(size=(80, 1500)), np.tile([0, 1], 40)
    frame = pd.DataFrame(genes, columns=[f"g{i:04d}" for i in range(1500)]).round(4)
    frame.insert(0, "y", labels)
    frame.insert(0, "row", np.arange(80))
    frame.to_csv(tmp_path / "noise.csv", index=False)
    (tmp_path / "page.yaml").write_text(NOISE.format(tmp_path))
    assert main(["train", str(tmp_path / "page.yaml"), "--compare"]) == 0
    found = json.loads((tmp_path / "run/comparison/comparison.json").read_text())
    inside = next(one for one in found["models"] if one["name"] == "selected")["numbers"]["auroc"]["value"]
    assert 0.25 < inside < 0.7

    # The twin: the same selection made once on all rows "finds" an answer in noise.
    best = SelectKBest(f_classif, k=10).fit_transform(genes, labels)
    said = cross_val_predict(LogisticRegression(), best, labels, cv=4, method="predict_proba")[:, 1]
    assert roc_auc_score(labels, said) > 0.85

"""`model.beside`: a page whose network answers together with a baseline, by parts and by folds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddx import recipe
from meddx.cli import main
from meddx.errors import RecipeError
from meddx.predict.bundle import Bundle

PAGE = """
name: both
data: {0}/rows.csv
id: row
patient: who
target: {{kind: binary, column: ill, positive: ["1"], negative: ["0"]}}
inputs: {{table: {{columns: [a, b]}}}}
split: {1}
model: {{encoders: {{table: {{kind: mlp, settings: {{hidden: 8}}}}}}, hidden: 8}}
training: {{epochs: 3, batch: 16, lr: 0.01}}
baselines: [{{kind: boosting, trials: 1}}]
comparison: {{primary: {{metric: auroc, against: boosting}}, bootstrap: 200}}
out: {0}/{2}
"""
PARTS = "{seed: 0}"
FOLDS = "{folds: 3, validate_share: 0.4}"


def page(folder: Path, name: str, split: str) -> str:
    if not (folder / "rows.csv").exists():
        draw = np.random.default_rng(0)
        a, b = draw.normal(size=(2, 300))
        table = {"row": [f"r{i}" for i in range(300)], "who": [f"p{i}" for i in range(300)], "a": a, "b": b}
        pd.DataFrame({**table, "ill": (a * b + draw.normal(size=300) > 0).astype(int)}).to_csv(folder / "rows.csv", index=False)
    place = folder / f"{name}.yaml"
    place.write_text(PAGE.format(folder, split, name))
    return str(place)


BESIDE = "model.beside={kind: boosting, trials: 1}"


@pytest.mark.slow
def test_the_baseline_beside_the_network_is_the_one_of_the_page(tmp_path: Path) -> None:
    assert main(["train", page(tmp_path, "alone", PARTS), "--compare"]) == 0
    assert main(["train", page(tmp_path, "both", PARTS), BESIDE, "--compare"]) == 0
    alone, both, boosting = (
        Bundle.load(tmp_path / name) for name in ("alone/bundles/network", "both/bundles/network", "both/bundles/boosting")
    )
    rows = pd.read_csv(tmp_path / "rows.csv")
    prepared = both.preparations.transform(pa.Table.from_pandas(rows[["a", "b"]]))
    np.testing.assert_array_equal(both.logits(prepared), (alone.logits(prepared) + boosting.logits(prepared)) / 2)
    found = json.loads((tmp_path / "both/comparison/comparison.json").read_text())
    scored = pq.read_table(next((tmp_path / "both/predictions").glob("network-*"))).to_pandas()
    assert len(scored) == 300 and scored["status"].eq("scored").all() and found["primary"]["against"] == "boosting"
    told = "a network and a boosting model that answer together"
    pages = {name: (tmp_path / name / "comparison/report.html").read_text() for name in ("alone", "both")}
    assert told in pages["both"] and told not in pages["alone"]


@pytest.mark.slow
def test_in_each_turn_both_are_fitted_without_the_held_out_cases(tmp_path: Path) -> None:
    again = "training.refit=true"  # then the network learns from the same cases as a baseline does
    assert main(["train", page(tmp_path, "alone", FOLDS), again]) == 0
    assert main(["train", page(tmp_path, "both", FOLDS), again, BESIDE]) == 0
    network, both, boosting = (
        _said(tmp_path / "alone", "network"),
        _said(tmp_path / "both", "network"),
        _said(tmp_path / "both", "boosting"),
    )
    assert len(both) == 3 and both.keys() == network.keys() == boosting.keys()
    for rows, logits in both.items():
        np.testing.assert_array_equal(logits, (network[rows] + boosting[rows]) / 2)
    assert Bundle.load(tmp_path / "both/bundles/network").beside is not None


def _said(folder: Path, model: str) -> dict[tuple[int, ...], np.ndarray]:
    mark = json.loads((folder / f"bundles/{model}/bundle.json").read_text())["about"]["fingerprint"]
    tables = [pq.read_table(path) for path in sorted((folder / "folds" / mark).glob("turn-*.parquet"))]
    return {tuple(one.column("row").to_pylist()): np.array(one.column("logits").to_pylist())[:, 0] for one in tables}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.beside=prevalence", "model.beside: prevalence"),
        ("model.beside=dictionary", "model.beside: dictionary"),
        ("model.beside=linear", "model.beside: linear does not answer a target of kind binary"),
        ("model.beside={kind: forest, inputs: [film]}", "asks for the input 'film'"),
    ],
)
def test_a_baseline_that_cannot_stand_there_is_refused_by_the_page(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(RecipeError, match="beside|film") as caught:
        recipe.load(page(tmp_path, "both", PARTS), [change])
    assert said in str(caught.value)

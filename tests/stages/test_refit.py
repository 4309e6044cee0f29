"""Folds whose network learns again from train and validate, its epoch once chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from meddx import recipe
from meddx.cli import main

PAGE = """
name: again
data: {0}/rows.csv
id: row
patient: who
target: {{kind: binary, column: ill, positive: ["1"], negative: ["0"]}}
inputs: {{table: {{columns: [a, b]}}}}
split: {{folds: 3, validate_share: 0.4}}
training: {{epochs: 4, batch: 16, lr: 0.01}}
baselines: [prevalence]
comparison: {{primary: {{metric: auroc, against: prevalence}}, bootstrap: 200}}
out: {0}/{1}
"""


def page(folder: Path, name: str) -> str:
    place = folder / f"{name}.yaml"
    place.write_text(PAGE.format(folder, name))
    return str(place)


def said(folder: Path, model: str) -> list[tuple[list[int], list[list[float]], dict[str, object]]]:
    """Of each turn of one model the held-out rows, their logits, and the facts."""
    mark = json.loads((folder / f"bundles/{model}/bundle.json").read_text())["about"]["fingerprint"]
    tables = [pq.read_table(path) for path in sorted((folder / "folds" / mark).glob("turn-*.parquet"))]
    return [(one.column("row").to_pylist(), one.column("logits").to_pylist(), json.loads(one.schema.metadata[b"turn"])) for one in tables]


@pytest.mark.slow
def test_the_network_learns_again_from_train_and_validate_and_nothing_else_changes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    a = draw.normal(size=90)
    table = {"row": [f"r{i}" for i in range(90)], "who": [f"p{i}" for i in range(90)], "a": a, "b": draw.normal(size=90)}
    pd.DataFrame({**table, "ill": (a + draw.normal(size=90) > 0).astype(int)}).to_csv(tmp_path / "rows.csv", index=False)
    assert main(["train", page(tmp_path, "once")]) == 0
    assert main(["train", page(tmp_path, "again"), "training.refit=true"]) == 0
    once, again = (said(tmp_path / name, "network") for name in ("once", "again"))
    assert len(once) == len(again) == 3
    for (rows, logits, facts), (same_rows, other, same_facts) in zip(once, again, strict=True):
        assert rows == same_rows and facts == same_facts  # the epoch and what validate said are those of the first training
        assert logits != other
    assert said(tmp_path / "once", "prevalence") == said(tmp_path / "again", "prevalence")
    assert not list((tmp_path / "once/training").rglob("*-both")) and len(list((tmp_path / "again/training").rglob("*-both"))) == 3


def test_a_page_that_does_not_ask_for_it_keeps_its_fingerprint(tmp_path: Path) -> None:
    place = page(tmp_path, "once")
    plain, off, on = recipe.load(place), recipe.load(place, ["training.refit=false"]), recipe.load(place, ["training.refit=true"])
    assert plain.fingerprint("training") == off.fingerprint("training") != on.fingerprint("training")
    assert plain.fingerprint("split") == on.fingerprint("split")

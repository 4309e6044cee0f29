"""Several targets on one page: one network is trained, and each target gets a bundle and a page of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from meddx.cli import main
from meddx.dataset.options import TargetOptions
from meddx.dataset.several import coder_of, questions
from meddx.errors import RecipeError
from meddx.models.heads import make_head
from meddx.predict.bundle import Bundle
from meddx.recipe import load

PAGE = """
name: both
data: {0}/cases.csv
id: row
patient: who
targets:
  died: {{kind: binary, column: dead, positive: ["1"], negative: ["0"], unlabelled: [lost]}}
  stage: {{kind: ordinal, column: stage, classes: [I, II, III]}}
  days: {{kind: regression, column: days}}
inputs: {{table: {{columns: [a, b]}}}}
model: {{hidden: 16}}
training: {{epochs: 8, batch: 32, lr: 0.02}}
baselines: [logistic, linear, forest]
comparison:
  primary: {{metric: auroc, against: logistic}}
  primaries: {{stage: {{metric: kappa, against: logistic}}, days: {{metric: mae, against: forest}}}}
  bootstrap: 200
out: {0}/run
"""
TARGETS = ("died", "stage", "days")


def archive(folder: Path) -> Path:
    """400 cases; `a` moves the death and the stage, `b` the days; a fifth of the deaths is not known, a tenth of the stages."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=400), rng.normal(size=400)
    dead = np.where(rng.random(400) < 0.2, "lost", np.where(a + rng.normal(0, 0.7, 400) > 0, "1", "0"))
    stage = np.array(["I", "II", "III"])[np.digitize(a + rng.normal(0, 0.5, 400), [-0.6, 0.6])]
    stage = np.where(rng.random(400) < 0.1, "", stage)
    frame = {
        "row": np.arange(400),
        "who": np.arange(400) // 2,
        "a": a,
        "b": b,
        "dead": dead,
        "stage": stage,
        "days": 20 + 5 * b + rng.normal(0, 2, 400),
    }
    pd.DataFrame(frame).to_csv(folder / "cases.csv", index=False)
    (folder / "page.yaml").write_text(PAGE.format(folder))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = archive(tmp_path_factory.mktemp("both"))
    assert main(["train", str(folder / "page.yaml"), "--compare"]) == 0
    return folder


@pytest.mark.slow
def test_each_target_has_its_own_verdict_from_one_shared_network(finished: Path) -> None:
    weights = {name: load_file(finished / "run/bundles" / name / "network/weights.safetensors") for name in TARGETS}
    for name in TARGETS:
        found = json.loads((finished / "run/comparison" / name / "comparison.json").read_text())
        fitting = {"died": {"logistic"}, "stage": {"logistic", "linear"}, "days": {"linear"}}[name]
        assert {one["name"] for one in found["models"]} == {"network", "prevalence", "forest"} | fitting
        assert (finished / "run/comparison" / name / "report.html").stat().st_size > 10_000
        shared = [key for key in weights[name] if not key.startswith("answer.")]
        assert shared and all(torch.equal(weights[name][key], weights["died"][key]) for key in shared)
    assert len(list((finished / "run/training").iterdir())) == 1
    for name, columns in {"died": ["probability"], "days": ["value"]}.items():
        about = json.loads((finished / "run/bundles" / name / "network/bundle.json").read_text())["about"]["answers"]
        assert list(about["calibrate"]["bands"]) == columns and sum(about["train"]["bands"][columns[0]]) == about["train"]["cases"]
        assert max(about["calibrate"]["bands"][columns[0]]) < 0.8 * about["calibrate"]["cases"]  # in the units of the bands


@pytest.mark.slow
def test_the_shared_network_learned_every_target(finished: Path) -> None:
    numbers = {name: json.loads((finished / "run/comparison" / name / "comparison.json").read_text()) for name in TARGETS}

    def reached(name: str, metric: str, model: str = "network") -> float:
        found = {one["name"]: one["numbers"] for one in numbers[name]["models"]}
        return float(found[model][metric]["value"])

    assert reached("died", "auroc") > 0.8
    assert reached("stage", "kappa") > 0.5
    assert reached("days", "mae") < 0.5 * reached("days", "mae", "prevalence")


@pytest.mark.slow
def test_a_target_is_never_an_input_of_another(finished: Path) -> None:
    for name in TARGETS:
        assert set(Bundle.load(finished / "run/bundles" / name / "network").columns) == {"a", "b"}
    page = load(finished / "page.yaml", ["inputs.table.columns=['*']"])
    for question in page.questions:
        assert {"dead", "stage", "days"} <= set(question.never_inputs)


@pytest.mark.slow
def test_nothing_is_done_twice(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(finished / "page.yaml")]) == 0
    assert "trained 0 of 13 models" in capsys.readouterr().out


@pytest.mark.slow
def test_the_records_seconds_hold_the_training(finished: Path) -> None:
    for name in TARGETS:
        record = json.loads((finished / "run/bundles" / name / "network/record.json").read_text())
        assert record["history"] and record["seconds"] >= record["history"][-1]["seconds"] > 0


@pytest.mark.slow
def test_scoring_a_page_names_the_bundles(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(finished / "page.yaml")]) == 2
    assert "bundles/died/network" in capsys.readouterr().err


def test_labels_side_by_side_are_the_labels_of_each() -> None:
    page = {
        "a": {"kind": "binary", "column": "a", "positive": ["1"], "negative": ["0"]},
        "b": {"kind": "multilabel", "columns": ["x", "y"], "positive": ["1"], "negative": ["0"]},
        "c": {"kind": "multiclass", "column": "c", "classes": ["u", "v", "w"]},
    }
    options = TargetOptions.model_validate({"kind": "several", "of": page})
    import pyarrow as pa

    table = pa.table({"a": ["1", "0", None], "x": ["1", None, "0"], "y": ["0", "1", "1"], "c": ["w", None, "u"]})
    coder = coder_of(options)
    labels = coder.encode(table)
    assert labels.values.shape == (3, 4) and labels.labelled.tolist() == [True, True, True]
    for name, one, own in questions(coder, labels):
        alone = coder_of(TargetOptions.model_validate(page[name])).encode(table)
        assert one.kind == page[name]["kind"] and own.values.dtype == alone.values.dtype
        np.testing.assert_array_equal(own.values, alone.values)
        np.testing.assert_array_equal(own.known, alone.known)


def test_the_loss_is_the_sum_of_the_targets_losses_and_an_unknown_label_counts_for_nothing() -> None:
    pages: dict[str, Any] = {
        "a": {"kind": "binary", "classes": ["no", "yes"]},
        "c": {"kind": "multiclass", "classes": ["u", "v", "w"]},
        "d": {"kind": "regression", "classes": [], "mean": 3.0, "std": 2.0},
    }
    head = make_head({"kind": "several", "classes": [], "of": pages})
    torch.manual_seed(0)
    logits = torch.randn(5, 5, dtype=torch.float64)
    values = torch.tensor([[1, 2, 4], [0, 0, 1], [1, 1, 2], [0, 2, 3], [1, 0, 9]], dtype=torch.float64)
    known = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    total, count = head.loss(logits, values, known)
    alone = [
        make_head(page).loss(logits[:, columns], values[:, place], known[:, place])
        for place, (page, columns) in enumerate(zip(pages.values(), (slice(0, 1), slice(1, 4), slice(4, 5)), strict=True))
    ]
    assert torch.isclose(total, sum((one[0] for one in alone), torch.zeros((), dtype=torch.float64)))
    assert float(count) == float(head.denominator(values, known)) == 12.0
    moved = torch.where(known, values, torch.full_like(values, 77.0))
    assert torch.equal(head.loss(logits, moved, known)[0], total)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("split={folds: 3}", "split.folds is for one target"),
        ("training.imbalance=class_weights", "no weights in common"),
        ("comparison.primaries={nobody: {metric: mae}}", "there is no target 'nobody'"),
    ],
)
def test_what_several_targets_cannot_have(tmp_path: Path, override: str, said: str) -> None:
    archive(tmp_path)
    with pytest.raises(RecipeError, match=said):
        load(tmp_path / "page.yaml", [override])

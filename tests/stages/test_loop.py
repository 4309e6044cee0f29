"""The closed loop on real biopsies, in process: from the file to the verdict, again, and with things broken on purpose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from meddx.cli import main

pytestmark = pytest.mark.slow

PAGE = "jobs/recipes/wdbc.yaml"
QUICK = ("training.epochs=4", "baselines=[logistic, forest]")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the biopsies page, through the verdict.  Do not change it: copy it."""
    out = tmp_path_factory.mktemp("wdbc") / "run"
    assert main(["train", PAGE, *QUICK, f"out={out}", "--compare"]) == 0
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy without predictions: those know the very files (inode and all) that they were made from."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("predictions")))


def comparison(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "comparison/comparison.json").read_text())
    return found


def test_every_stage_leaves_its_directory_with_a_record(finished: Path) -> None:
    for place in ("dataset", "bundles/network", "bundles/logistic", "comparison"):
        record = json.loads((finished / place / "record.json").read_text())
        assert record["seconds"] >= 0 and record["versions"]["python"] and record["counts"]
    counts = json.loads((finished / "dataset/record.json").read_text())["counts"]
    assert counts == {"read": 569, "written": 569, "quarantined": 0}
    folders = sorted(path.name.rsplit("-", 1)[0] for path in (finished / "predictions").iterdir())
    assert folders == ["forest", "logistic", "network", "prevalence"]


def test_the_page_says_what_was_found_and_how_often_test_was_opened(finished: Path) -> None:
    html = (finished / "comparison/report.html").read_text()
    found = comparison(finished)
    assert found["primary"]["sentence"].split(":")[0].lower() in html.lower()
    assert "opened once" in html and "malignant" in html
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html
    by_name = {row["name"]: row for row in found["models"]}
    assert set(by_name) == {"prevalence", "logistic", "forest", "network"}


def test_a_second_run_does_nothing_twice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and "comparison" not in path.parts}
    assert main(["train", PAGE, *QUICK, f"out={run}"]) == 0
    said = capsys.readouterr().out
    assert said.count("trained already, nothing to do") == 4 and "trained 0 of 4 models" in said
    changed = [path for path, stamp in before.items() if path.stat().st_mtime_ns != stamp]
    assert not changed
    assert main(["compare", PAGE, *QUICK, f"out={run}"]) == 0
    assert "opened 2 times" in capsys.readouterr().out
    assert "opened 2 times" in (run / "comparison/report.html").read_text()


def test_same_numbers_again_from_scratch(finished: Path, tmp_path: Path) -> None:
    assert main(["train", PAGE, *QUICK, f"out={tmp_path / 'again'}", "--compare"]) == 0
    assert comparison(tmp_path / "again")["models"] == comparison(finished)["models"]


def test_predictions_are_one_row_a_case(finished: Path) -> None:
    for folder in (finished / "predictions").iterdir():
        table = pq.read_table(folder).to_pandas()
        assert len(table) == 569 and table["case_id"].is_unique
        assert set(table["status"]) == {"scored"} and table["probability"].between(0, 1).all()


def test_a_changed_model_is_trained_anew_and_the_others_are_left(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", PAGE, *QUICK, f"out={run}"]) == 0
    capsys.readouterr()
    assert main(["train", PAGE, "training.epochs=5", "baselines=[logistic, forest]", f"out={run}"]) == 0
    assert "trained 1 of 4 models" in capsys.readouterr().out
    assert main(["compare", PAGE, "training.epochs=5", "baselines=[logistic, forest]", f"out={run}"]) == 0
    assert len(list((run / "predictions").glob("network-*"))) == 2, "the old model's predictions stay apart"


def test_a_changed_split_is_refused_once_test_was_seen(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", PAGE, *QUICK, f"out={run}", "split.seed=1"]) == 3
    assert "split" in capsys.readouterr().err


def test_a_bundle_of_another_split_is_not_compared(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    assert main(["train", PAGE, *QUICK, f"out={other}", "split.seed=1"]) == 0
    assert main(["compare", PAGE, *QUICK, f"out={other}", "split.seed=1", str(finished / "bundles/network")]) == 3
    assert "another split" in capsys.readouterr().err


def test_compare_takes_predictions_or_bundles(run: Path) -> None:
    assert main(["compare", PAGE, *QUICK, f"out={run}"]) == 0
    folders = [str(path) for path in (run / "predictions").iterdir() if not path.name.startswith("forest")]
    assert main(["compare", PAGE, *QUICK, f"out={run}", *folders, str(run / "bundles/forest")]) == 0
    assert len(comparison(run)["models"]) == 4


def test_a_bundle_predicts_elsewhere_without_labels(finished: Path, tmp_path: Path) -> None:
    import meddx

    moved = shutil.copytree(finished / "bundles/network", tmp_path / "moved")
    table = pq.read_table(finished / "dataset/data").drop_columns(["diagnosis"])
    scores = meddx.Bundle.load(moved).predict(table)
    folder = next((finished / "predictions").glob("network-*"))
    known = pq.read_table(folder).to_pandas().set_index("case_id")["probability"]
    assert (scores.to_pandas().set_index("case_id")["probability"] == known.loc[scores.column("case_id").to_pylist()]).all()


def test_one_flipped_byte_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = run / "bundles/network/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert main(["score", str(run / "bundles/network"), str(run / "dataset"), "--out", str(run / "again")]) == 3
    assert "damaged" in capsys.readouterr().err and not (run / "again").exists()


def test_check_prints_cases_and_keeps_test_sealed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", PAGE, f"out={tmp_path / 'run'}"]) == 0
    said = capsys.readouterr().out
    assert "10 cases of train, as the model will see them" in said and "worst_concave_points" in said
    test_line = next(line for line in said.splitlines() if line.startswith("test "))
    assert "sealed" in test_line
    assert not (tmp_path / "run/bundles").exists()


def test_score_checks_resumes_and_verifies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", str(run / "bundles/logistic"), str(run / "dataset"), "--out", str(run / "night")]
    assert main([*command, "--check"]) == 0
    assert "569" in capsys.readouterr().out and not list((run / "night").glob("*.parquet"))
    assert main(command) == 0
    assert main(command) == 0
    assert main([*command, "--verify"]) == 0
    assert "569" in capsys.readouterr().out
    assert main(["score", str(run / "bundles/forest"), str(run / "dataset"), "--out", str(run / "night")]) == 3
    assert main(["score", str(run / "bundles/forest")]) == 2


def test_a_baseline_that_cannot_reach_the_goal_stays_in_the_table(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["train", PAGE, "training.epochs=6", "baselines=[logistic]", "threshold.goal=ppv >= 0.80", f"out={out}", "--compare"]) == 0
    kept = {name: json.loads((out / f"bundles/{name}/bundle.json").read_text())["threshold"] for name in ("prevalence", "logistic")}
    assert kept["prevalence"]["goal"] == "youden" and "ppv" in kept["prevalence"]["unreachable"].lower()
    assert kept["logistic"]["goal"] == "ppv >= 0.80" and "unreachable" not in kept["logistic"]
    assert "prevalence" in {row["name"] for row in comparison(out)["models"]}

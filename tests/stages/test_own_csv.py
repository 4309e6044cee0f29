"""A user's own CSV, from `draft` to the verdict, and the ways in which such files are broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from meddx.cli import main

pytestmark = pytest.mark.slow

Make = Callable[..., Path]


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes cases.csv: 600 stays of 400 patients, ids with leading zeros, labels YES and NO."""
    monkeypatch.chdir(tmp_path)

    def make(change: Callable[[list[list[str]]], None] | None = None) -> Path:
        random = np.random.default_rng(3)
        rows = [["stay_no", "patient_no", "age", "ward", "crp", "back"]]
        for number in range(600):
            age, crp = random.normal(60, 15), random.lognormal(2, 1)
            ill = random.random() < 1 / (1 + np.exp(-(age - 60) / 12 - (np.log(crp) - 2)))
            ward = random.choice(["A1", "B2", "0012"])
            rows.append(
                [
                    f"{number:05d}",
                    f"p{random.integers(400):03d}",
                    f"{age:.0f}",
                    ward,
                    f"{crp:.1f}" if random.random() > 0.1 else "",
                    "YES" if ill else "NO",
                ]
            )
        if change:
            change(rows)
        path = tmp_path / "cases.csv"
        path.write_text("\n".join(",".join(row) for row in rows) + "\n")
        return path

    return make


QUICK = ("training.epochs=3", "baselines=[logistic]")


def drafted(tmp_path: Path) -> list[str]:
    page = tmp_path / "page.yaml"
    assert main(["draft", "cases.csv", "--target", "back", "--patient", "patient_no", "--positive", "YES", "--out", str(page)]) == 0
    return [str(page), *QUICK]


def test_from_draft_to_verdict(cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases()
    page = drafted(tmp_path)
    assert main(["check", *page]) == 0
    assert main(["train", *page]) == 0
    assert main(["compare", *page]) == 0
    said = capsys.readouterr().out
    assert "against" in said and "page:" in said
    assert list(tmp_path.glob("runs/*/comparison/report.html"))


def test_a_label_no_is_a_label(cases: Make, tmp_path: Path) -> None:
    cases()
    page = Path(drafted(tmp_path)[0]).read_text()
    assert "NO" in page
    assert main(["ingest", str(tmp_path / "page.yaml")]) == 0


def test_a_third_label_is_refused_by_name(cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases()
    page = drafted(tmp_path)
    cases(lambda rows: rows[5].__setitem__(5, "MAYBE"))
    assert main(["train", *page]) == 3
    assert "MAYBE" in capsys.readouterr().err


def test_an_empty_label_is_unlabelled_not_bad(cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases(lambda rows: [row.__setitem__(5, "") for row in rows[1:31]] and None)
    page = drafted(tmp_path)
    assert main(["train", *page, "--compare"]) == 0
    said = capsys.readouterr().out
    assert "without a label" in said or "unlabelled" in said
    counts = json.loads(next(tmp_path.glob("runs/*/dataset/record.json")).read_text())["counts"]
    assert counts == {"read": 600, "written": 600, "quarantined": 0}


def test_duplicate_ids_go_to_quarantine_and_are_counted(cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases(lambda rows: rows.append(list(rows[3])))
    page = drafted(tmp_path)
    assert main(["ingest", page[0], "id=stay_no"]) == 0
    assert "601" in capsys.readouterr().out
    counts = json.loads(next(tmp_path.glob("runs/*/dataset/record.json")).read_text())["counts"]
    assert counts == {"read": 601, "written": 600, "quarantined": 1}


def test_0012_is_not_12(cases: Make, tmp_path: Path) -> None:
    def change(rows: list[list[str]]) -> None:
        rows[1][0], rows[2][0] = "0012x", "12x"
        rows[3][0], rows[4][0] = "90012", "090012"

    cases(change)
    page = drafted(tmp_path)
    assert main(["ingest", page[0], "id=stay_no"]) == 0
    import pyarrow.parquet as pq

    ids = pq.read_table(next(tmp_path.glob("runs/*/dataset/data"))).column("case_id").to_pylist()
    assert {"0012x", "12x", "90012", "090012"} <= set(ids) and len(ids) == 600


@pytest.mark.parametrize(
    ("override", "code", "word"),
    [
        ("id=stay_number", 3, "stay_no"),
        ("target.column=backk", 3, "back"),
        ("inputs.table.columns=[agee]", 2, "age"),
        ("inputs.table.columns=[back]", 2, "back"),
        ("timing.after_outcome=[crpp]", 2, "crp"),
        ("cohort={keep: {adult: 'agee >= 18'}}", 2, "age"),
        ("cohort={keep: {adult: 'age >='}}", 2, "adult"),
    ],
)
def test_wrong_names_are_met_with_the_nearest(
    cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, code: int, word: str
) -> None:
    cases()
    page = drafted(tmp_path)
    assert main(["train", *page, override]) in (2, 3)
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error


def test_an_empty_file_is_refused(cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases()
    page = drafted(tmp_path)
    (tmp_path / "cases.csv").write_text("")
    assert main(["train", *page]) == 3
    assert "cases.csv" in capsys.readouterr().err


def test_new_cases_without_labels_are_scored(
    cases: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cases()
    page = drafted(tmp_path)
    assert main(["train", *page, "out=run"]) == 0
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    (tmp_path / "tonight.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines[:51]) + "\n")
    text = (tmp_path / "page.yaml").read_text()
    override = "data=tonight.csv" if "\ndata: cases.csv" in text else "data.path=tonight.csv"
    assert main(["ingest", page[0], override, "out=night"]) == 0
    command = ["score", "run/bundles/network", "night/dataset", "--out", "night/predictions", "--price", "3.6"]
    for look, said in (("--check", "expected: unknown, nothing was measured yet"), ("--probe", "as a probe on 20")):
        assert main([*command, look]) == 0
        told = capsys.readouterr().out
        assert said in told and "sample of 50 rows: scored 50" in told and "cost: " in told
        assert not (tmp_path / "night/predictions").exists()
    assert main(command) == 0
    assert "\nexpected: " in capsys.readouterr().out
    text = (tmp_path / "night/predictions/_meddx/summary.html").read_text()
    assert "the calibrate part of the training data" in text and "Learned from" in text and "about 0.00" not in text
    table = pq.read_table(tmp_path / "night/predictions")
    assert table.num_rows == 50 and table.column("probability").null_count == 0

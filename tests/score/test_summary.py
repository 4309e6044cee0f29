"""After the night: a page of the whole output, whoever worked on it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scoring_helper as helper
import summary_helper as made_up

from meddx import record
from meddx.report.night import render
from meddx.score import ledger, summary
from meddx.score.bundles import Facts
from meddx.score.run import score
from meddx.storage import StoragePath


def run(tmp_path: Path, failpoint: str = "") -> int:
    return helper.score_in_child(tmp_path / "d", tmp_path / "o", failpoint=failpoint)[0]


def page_of(tmp_path: Path) -> str:
    return (tmp_path / "o" / "_meddx" / "summary.html").read_text()


def test_a_killed_and_resumed_night_is_one_night(tmp_path: Path) -> None:
    helper.archive(tmp_path / "d", files=2, rows=200, payload=8000, group=50)
    helper.write_file(tmp_path / "d" / "bad.parquet", np.random.default_rng(0), "bad", 2, x=[None, 0.0])
    assert run(tmp_path, "published:3") == 70
    assert not (tmp_path / "o" / "_meddx" / "summary.html").exists()
    assert run(tmp_path) == 0
    text = page_of(tmp_path)
    assert "number_missing" in text and text.count("UTC</th><td>") == 2  # two jobs, the killed one with what it had done
    assert ">402<" in text and len(text) < 200_000
    assert "made before answers were counted" in text
    assert not [word for word in ("bad-0", "f0-", "p0") if word in text]  # no id, no patient, no file


def test_two_jobs_are_one_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever ends last, the page is of what both published."""
    monkeypatch.setenv("SCORING_HELPER_SLEEP", "0.05")
    data, out = StoragePath.of(helper.archive(tmp_path / "d", files=3, rows=200, payload=8000, group=50)), StoragePath.of(tmp_path / "o")
    pages: list[dict[str, Any]] = []
    real = summary.write
    monkeypatch.setattr("meddx.score.summary.write", lambda folder, page: (pages.append(page), real(folder, page)))
    args = {"options": helper.options(), "bundles": helper.PlainBundles(), "log": lambda line: None}
    jobs = [threading.Thread(target=score, args=(helper.BUNDLE, data, out), kwargs=args) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert pages and all(sum(job["rows"] for job in page["jobs"]) == 600 == page["read"] for page in pages)
    assert max(len(page["jobs"]) for page in pages) == 2


def test_answers_are_counted_in_the_parts(tmp_path: Path) -> None:
    helper.archive(tmp_path / "d", files=1, rows=300)
    assert run(tmp_path) == 0
    out = StoragePath.of(tmp_path / "o")
    (part,) = (json.loads(ledger.pq.read_metadata(path).metadata[ledger.NIGHT]) for path in (tmp_path / "o").glob("part-*"))
    table = helper.rows_of(tmp_path / "o")
    scored = table["probability"].drop_null().to_numpy()
    assert sum(part["answers"]["probability"]) == len(scored) == helper.total(table, "scored")
    edges = [0, *made_up.spread.PROBABILITY, 1.01]
    assert part["answers"]["probability"] == np.histogram(scored, edges)[0].tolist()
    assert abs(part["ended"] - time.time()) < 100 and part["seconds"] >= 0
    assert record.read(out / "_meddx") is not None


def test_the_page_comes_before_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is called finished has its page."""
    helper.archive(tmp_path / "d", files=1)
    monkeypatch.setattr("meddx.score.summary.write", lambda folder, page: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError):
        score(
            helper.BUNDLE,
            StoragePath.of(tmp_path / "d"),
            StoragePath.of(tmp_path / "o"),
            options=helper.options(),
            bundles=helper.PlainBundles(),
            log=lambda line: None,
        )
    assert not (tmp_path / "o" / "_meddx" / "record.json").exists()


def test_pauses_are_cut_out_of_the_time_axis() -> None:
    found = made_up.made("binary")
    picture = found["throughput"]
    assert picture["worked"] == "13 minutes" and picture["breaks"] == [0.5]
    assert picture["rates"] == pytest.approx([500 / 20] * 60)
    assert [job["units"] for job in found["jobs"]] == [20, 20] and found["jobs"][0]["rate"] == pytest.approx(25)


def test_parts_from_before_are_in_the_books_and_not_in_the_pictures() -> None:
    found = made_up.made("binary", old=40)
    assert found["untimed"] == 40 and found["throughput"] is None and found["jobs"] == [] and found["answers"] == []
    assert "made by an older meddx" in render(found) and found["scored"] > 0
    assert "5 of 40 parts" in render(made_up.made("binary", old=5))


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "alike"), (0.25, "some"), (1.5, "large")])
def test_answers_are_held_against_those_of_training(shift: float, verdict: str) -> None:
    (column,) = made_up.made("binary", shift=shift)["answers"]
    assert column["shift"]["verdict"] == verdict


def test_a_reference_in_other_bands_is_no_reference() -> None:
    facts = Facts("a" * 16, {}, (), answers={"calibrate": {"cases": 9, "bands": {"probability": [9]}}})
    night = summary._night(made_up.part(0, "j", 10.0, 5.0, 100, made_up.answers("binary", 100, np.random.default_rng(0))))
    assert night is not None and summary._answers([night], facts)["answers"][0]["shift"] is None


def test_a_thousand_units_cost_less_than_a_second() -> None:
    """CPU time, of the sums and the page."""
    start = time.process_time()
    render(made_up.made("multilabel", units=1000, rows=20))
    assert time.process_time() - start < 2.0  # half of it is making up the answers

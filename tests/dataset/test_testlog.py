"""The log of test openings only grows, also under several processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from meddx.dataset.open import Dataset
from meddx.dataset.testlog import open_test, times_opened
from meddx.storage import StoragePath

FRAME = pd.DataFrame({"case_id": ["1"], "patient_id": ["1"]})
CODE = """
import sys
from meddx.dataset.open import Dataset
from meddx.dataset.testlog import open_test
dataset = Dataset.open(sys.argv[1])
for _ in range(40):
    open_test(dataset, job="compare", why="w" * 300)
"""


def test_counts_and_lines(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME)
    assert times_opened(dataset) == 0
    assert [open_test(dataset, job="compare", why="first look"), open_test(dataset, job="check", why="\n")] == [1, 2]
    lines = [json.loads(line) for line in (dataset.path / "split/test_opened.jsonl").read_text().splitlines()]
    assert [(line["job"], line["why"]) for line in lines] == [("compare", "first look"), ("check", "\n")]
    assert all(line["when"] and line["by"] for line in lines)


class Bucket(StoragePath):
    """A folder that says it is on S3, where nothing can be appended."""

    @property
    def on_s3(self) -> bool:
        return True


def test_on_s3_each_opening_is_an_object(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME)
    dataset = replace(dataset, path=Bucket(dataset.path.uri))
    assert times_opened(dataset) == 0
    assert [open_test(dataset, job="compare", why="look") for _ in range(3)] == [1, 2, 3]


def test_two_processes_lose_no_line(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(FRAME)
    jobs = [subprocess.Popen([sys.executable, "-c", CODE, str(dataset.path)]) for _ in range(2)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0]
    assert times_opened(dataset) == 80
    assert all(len(json.loads(line)["why"]) == 300 for line in (dataset.path / "split/test_opened.jsonl").read_text().splitlines())

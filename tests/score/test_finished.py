"""A finished run is left alone at once: no part is opened, and neither torch nor Ray is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.score.options import ScoringOptions
from meddx.score.run import score
from meddx.storage import StoragePath

HEAVY = ("torch", "ray", "sklearn", "skops", "scipy", "pandas", "boto3", "matplotlib", "jinja2")
MAIN = "import sys; from meddx.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """(bundle, data, predictions) of a finished run, whose parts are then emptied: whoever opens one fails."""
    place, n = tmp_path_factory.mktemp("finished"), 60
    ids, size = [f"c{row:04d}" for row in range(n)], np.linspace(-1, 1, n)
    cases = pa.table({"case_id": ids, "patient_id": ids, "size": size, "site": ["north", "south"] * (n // 2), "age": np.full(n, 50.0)})
    bundle = helper.logistic_bundle(StoragePath.of(place / "b"), cases)
    (place / "d").mkdir()
    pq.write_table(cases, place / "d" / "cases.parquet")
    score(bundle, StoragePath.of(place / "d"), StoragePath.of(place / "o"), options=ScoringOptions(), log=lambda _: None)
    for part in (place / "o").glob("part-*"):
        part.write_bytes(b"")
    return str(bundle), str(place / "d"), str(place / "o")


@pytest.mark.slow
@pytest.mark.parametrize("look", [[], ["--update"], ["--status"]])
def test_it_is_told_from_the_record_and_one_listing(night: tuple[str, str, str], look: list[str]) -> None:
    bundle, data, out = night
    command = [sys.executable, "-X", "importtime", "-c", MAIN, "score", bundle, data, "--out", out, *look]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-500:]
    assert "finished" in done.stdout and "units 1 of 1" in done.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "pyarrow" in imported and not imported & set(HEAVY)


@pytest.mark.slow
def test_twin_without_the_record_every_part_is_opened(night: tuple[str, str, str], tmp_path: Path) -> None:
    bundle, data, out = night
    record = Path(out) / "_meddx" / "record.json"
    kept = record.read_bytes()
    record.unlink()
    done = subprocess.run([sys.executable, "-c", MAIN, "score", bundle, data, "--out", out], capture_output=True, text=True, check=False)
    record.write_bytes(kept)
    assert done.returncode == 1 and "a published part is damaged" in done.stderr

"""What `make test` shortens, at full length: every S3 fault with stalls of 30 s, four numbers of CPUs, 200,000 files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from soak_table import line

TESTS = Path(__file__).parents[1]
SUITES = {
    "every S3 fault below scoring, stalls of 30 s": ["test_storage_faults.py"],
    "every S3 fault while scoring, stalls of 30 s": ["score/test_s3_faults.py", "score/test_full_disk.py"],
    "poison on 1, 2, 3 and 4 CPUs": ["cluster/test_poison_on_ray.py"],
    "200,000 files": ["score/test_many_files.py"],
}
LONGER = {"MEDDX_SOAK": "1", "MEDDX_SOAK_STALL": "30", "MEDDX_MANY_FILES": "200000"}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SUITES)
def test_suite(name: str) -> None:
    start = time.monotonic()
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "SCORING_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(TESTS / one) for one in SUITES[name])]
    done = subprocess.run(command, env={**keep, **LONGER}, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    said = re.sub(r" in [\d.]+s.*", "", done.stdout.strip().splitlines()[-1])
    line(f"{name}: {said.strip('= ')} | | | | | | |", start)
    assert done.returncode == 0, done.stdout[-5000:]

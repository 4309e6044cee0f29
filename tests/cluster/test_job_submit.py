"""A clean copy of the checkout, `ray job submit`, a bundle: what a user of a cluster does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from rayhost import RAY, TOKEN, free_ports, short_folder, stop

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]
ROOT = Path(__file__).parents[2]


def answers(port: int) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:  # not up yet
        return False


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "COV_", "COVERAGE_", "PYTHONPATH"))}
    home = tmp_path_factory.mktemp("home")  # Ray would write a token there
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0", "HOME": str(home)}
    return {**keep, **own, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def dashboard(environment: dict[str, str]) -> Iterator[int]:
    """The port of a head with two CPUs, a token and a dashboard on loopback."""
    folder = short_folder("submit")
    shutil.rmtree(folder, ignore_errors=True)
    ports = dict(zip(("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port"), free_ports(4), strict=True))
    command = [*RAY, "start", "--head", "--block", "--num-cpus=2", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    folder.mkdir(mode=0o700)
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while not answers(ports["dashboard-port"]):
            assert head.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()[-3000:]
            time.sleep(0.5)
        yield ports["dashboard-port"]
    finally:
        stop(head)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a fresh clone would hold, with the changes not yet committed; nothing that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


def submit(port: int, checkout: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    head = [*RAY, "job", "submit", "--address", f"http://127.0.0.1:{port}", "--working-dir", str(checkout), "--"]
    return subprocess.run([*head, *command], env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_from_a_recipe_to_a_verdict(dashboard: int, checkout: Path, environment: dict[str, str], tmp_path: Path) -> None:
    package, out = checkout / "meddx" / "__init__.py", tmp_path / "run"
    package.write_text(package.read_text().replace('__version__ = "', '__version__ = "0.0.0+copy.'))
    changes = ["training.epochs=3", "training.workers=1", "baselines=[logistic]", f"out={out}"]

    done = submit(dashboard, checkout, environment, sys.executable, "jobs/train.py", "jobs/recipes/wdbc.yaml", *changes)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    record = json.loads((out / "dataset" / "record.json").read_text())
    assert record["counts"] == {"read": 569, "written": 569, "quarantined": 0}
    assert record["meddx"].startswith("0.0.0+copy.")  # the copy's code ran, not what is installed
    assert {path.name for path in (out / "bundles").iterdir() if path.is_dir()} >= {"network", "logistic", "prevalence"}

    done = submit(dashboard, checkout, environment, sys.executable, "jobs/compare.py", "jobs/recipes/wdbc.yaml", *changes)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert (out / "comparison" / "report.html").stat().st_size > 10_000


def test_a_wrong_recipe_ends_the_job_with_its_exit_code(dashboard: int, checkout: Path, environment: dict[str, str]) -> None:
    done = submit(dashboard, checkout, environment, sys.executable, "jobs/train.py", "jobs/recipes/wdbc.yaml", "training.epohcs=3")
    assert done.returncode == 1  # Ray's own: the job failed
    assert "exit code 2" in done.stdout + done.stderr and "epochs" in done.stdout


def test_without_the_token_nobody_is_let_in(dashboard: int) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{dashboard}/api/jobs/", timeout=10)

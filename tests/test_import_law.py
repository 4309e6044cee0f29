"""The import law of pyproject.toml holds, and would be seen to be broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.path.insert(0, '.'); lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_law_holds() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize(
    ("module", "line", "law"),
    [
        ("storage.py", "from meddx.dataset import cohort", "ground floor"),
        ("models/heads/__init__.py", "import ray", "without Ray"),
        ("inputs/table.py", "import meddx.cluster", "without Ray"),
        ("score/plan.py", "from meddx.train import sampler", "do not know each other"),
        ("stages/train.py", "import ray", "three modules only"),
        ("evaluate/metrics.py", "import meddx.recipe", "doors"),
    ],
)
def test_each_breach_is_seen(tmp_path: Path, module: str, line: str, law: str) -> None:
    shutil.copytree(ROOT / "meddx", tmp_path / "meddx", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "meddx" / module
    file.write_text(file.read_text() + f"\n{line}\n")
    done = lint(tmp_path)
    broken = [row for row in done.stdout.splitlines() if " BROKEN" in row]
    assert done.returncode == 1 and any(law in row for row in broken), done.stdout[-3000:] + done.stderr[-1000:]

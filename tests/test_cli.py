"""The command line: exit codes, messages, and that it answers at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from meddx.cli import guarded, main
from meddx.errors import IncompleteError, MeddxError

ROOT = Path(__file__).parents[1]


def test_help_and_import_need_no_heavy_library() -> None:
    code = (
        "import sys, meddx\nfrom meddx.cli import main\nmain(['--help'])\n"
        "sys.exit(', '.join(m for m in ('torch', 'ray', 'sklearn', 'pandas', 'matplotlib', 'cv2', 'pyarrow') if m in sys.modules) or 0)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert time.perf_counter() - start < 5, "about 0.2 s on an idle machine"


def test_a_wrong_command_line_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert main(["trian"]) == 2
    assert main(["train", "no-such-page.yaml"]) == 2
    assert "no-such-page.yaml" in capsys.readouterr().err


def test_errors_are_three_lines_and_their_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise IncompleteError("2 units are not done", "runs/x", "run the same command again")

    assert guarded(fail) == 5
    assert capsys.readouterr().err == "meddx: 2 units are not done\n  where: runs/x\n  next:  run the same command again\n"
    assert guarded(lambda: None) == 0


def test_a_crash_is_not_hidden() -> None:
    """What meddx does not know is a fault of meddx: the traceback must reach the reader."""

    def crash() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(crash)


def test_every_error_has_a_code_the_readme_names() -> None:
    codes = {kind.exit_code for kind in MeddxError.__subclasses__()}
    assert codes <= {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("job", ["ingest", "train", "score", "compare"])
def test_jobs_are_the_commands(job: str) -> None:
    done = subprocess.run([sys.executable, f"jobs/{job}.py", "--help"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and f"Usage: meddx {job}" in done.stdout


def test_synth_refuses_what_it_cannot_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "xrays", "--patients", "10", "--out", str(tmp_path / "a")]) == 2
    assert "did you mean 'xray'" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("x")
    assert main(["synth", "table", "--patients", "10", "--out", str(tmp_path / "full")]) == 3


def test_tables_of_the_readme_are_true() -> None:
    done = subprocess.run([sys.executable, "-m", "meddx.stages.docs", "--check"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout

"""A bar for who watches, plain lines for who reads a log."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from meddx.progress import advance

CODE = """
from meddx.progress import Console, advance
log = Console()
for done in range(4):
    advance(log, "training", done, 3)
    log(f"line {done}")
"""


def run(stderr: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, env={**os.environ, "TERM": "xterm"}
    ).stdout


def test_any_function_will_do_as_a_log() -> None:
    lines: list[str] = []
    advance(lines.append, "training", 1, 3)
    assert lines == []


def test_a_log_file_gets_lines_only() -> None:
    assert run(subprocess.DEVNULL) == "line 0\nline 1\nline 2\nline 3\n"


def test_a_terminal_gets_a_bar_and_a_piped_stdout_still_gets_the_lines() -> None:
    master, slave = pty.openpty()
    try:
        out = run(slave)
        shown = os.read(master, 100_000).decode()
    finally:
        os.close(slave)
        os.close(master)
    assert out == "line 0\nline 1\nline 2\nline 3\n"
    assert "training" in shown and "3/3" in shown

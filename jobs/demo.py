"""The whole way in minutes: real biopsies and synthetic chest films, from raw files to a verdict.

    make demo            (or: .venv/bin/python jobs/demo.py)

Everything lands in runs/demo; a second run finds what is done and does only what is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from meddx.cli import guarded

ROOT = Path("runs/demo")
PATIENTS = 1500


def main() -> None:
    from meddx import cluster
    from meddx.progress import Console
    from meddx.recipe import load
    from meddx.stages.compare import compare, question
    from meddx.stages.console import Clock
    from meddx.stages.synth import synth
    from meddx.stages.train import train

    clock, line, phantom, verdicts = Clock(), Console(), ROOT / "phantom", []
    os.environ["MEDDX_PHANTOM"] = str(phantom)
    line("== synthetic chest films with a known answer ==")
    synth("xray", PATIENTS, str(phantom), seed=0, log=line)
    with cluster.connect():
        for page in (Path("jobs/recipes/wdbc.yaml"), Path("jobs/recipes/phantom_xray.yaml")):
            line(f"\n== {page} ==")
            recipe = load(page, ["training.workers=1", f"out={ROOT / page.stem}"])
            train(recipe, log=line)
            verdicts.append((page.stem, compare(recipe, log=line, question=question(page))))
    line(f"\n== verdicts, after {clock.seconds:.0f} s ==")
    for name, verdict in verdicts:
        line(f"{name}: {verdict.headline}")
        line(f"  page: {verdict.page}")


if __name__ == "__main__":
    sys.exit(guarded(main))

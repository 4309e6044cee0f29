"""A recipe in, what its header may say out: trained and compared with seeds 0, 1, 2; the mean over all three, never the best.

    .venv/bin/python tests/bench/recipes.py jobs/recipes/pneumonia.yaml [...]

Each seed gets a run folder of its own under runs/bench, so each opens its test part once.  Seconds: the whole command.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

SEEDS = (0, 1, 2)


def measure(page: Path) -> str:
    """One line: metric of every model as the mean over seeds (and the seeds' own values for the network), and seconds."""
    values: dict[str, list[float]] = {}
    seconds, metric, network, verdicts = [], "", "", []
    for seed in SEEDS:
        out = Path("runs/bench") / f"{page.stem}-{seed}"
        start = time.monotonic()
        command = [sys.executable, "-m", "meddx", "train", str(page), f"training.seed={seed}", f"out={out}", "--compare"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - start)
        if done.returncode:
            raise SystemExit(done.stderr)
        found = json.loads((out / "comparison/comparison.json").read_text())
        metric, network = found["primary"]["metric"], found["primary"]["model"]
        verdicts.append(found["primary"]["verdict"])
        for row in found["models"]:
            values.setdefault(row["name"], []).append(row["numbers"][metric]["value"])
    own = ", ".join(f"{value:.3f}" for value in values[network])
    others = ", ".join(f"{name} {sum(found) / len(found):.3f}" for name, found in values.items() if name not in (network, "prevalence"))
    mean = sum(values[network]) / len(values[network])
    return f"test {metric.upper()} {mean:.3f} ({own}); {others}; {max(seconds):.0f} s at most; verdicts {', '.join(verdicts)}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{Path(name).stem}: {re.sub(' +', ' ', measure(Path(name)))}", flush=True)

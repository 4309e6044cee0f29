"""A page in, what it reaches with three seeds out, into its header:  python -m meddx.stages.reached PAGE... [KEY=VALUE...]

Every number comes from the comparison of a run; none is typed.  The line counts how often the test part was opened, those before too.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from meddx.progress import Console
from meddx.recipe import Recipe, load
from meddx.stages.compare import Verdict, compare_all, question
from meddx.stages.train import train

SEEDS = (0, 1, 2)
OPENED = re.compile(r"opened[\s#]+(\d+)[\s#]+times")  # the line may break there
LINE = re.compile(r"^# Reaches:.*?(?=^#  ? ?meddx )", re.DOTALL | re.MULTILINE)
WIDTH = 138
MORE = 2  # numbers of `also` that the line has beside the verdict's


def runs(page: Path, overrides: Sequence[str], seeds: Sequence[int] = SEEDS) -> tuple[Recipe, list[list[Verdict]], float]:
    """(the page, verdicts of each seed, mean seconds of a run from raw file to page); every run starts anew."""
    found, seconds, recipe = [], [], load(page, overrides)
    place = f"runs/reached/{page.stem}-{recipe.fingerprint()[:6]}"  # a changed page has another split
    for seed in seeds:
        start = time.perf_counter()
        recipe = load(page, [f"training.seed={seed}", f"out={place}-{seed}", *overrides])
        train(recipe, log=Console(), fresh=True)
        found.append(compare_all(recipe, log=Console(), question=question(page)))
        seconds.append(time.perf_counter() - start)
    return recipe, found, fmean(seconds)


def line(recipe: Recipe, verdicts: Sequence[Sequence[Verdict]], seconds: float, before: int) -> str:
    """What the header says, without `# Reaches:`.  `before`: times that the test part was opened by earlier versions of the page."""
    parts = [_told(page, [one[place].comparison for one in verdicts]) for place, page in enumerate(recipe.questions)]
    opened = before + len(verdicts)
    folds = verdicts[0][0].comparison["folds"]
    looked = f"held-out answers of {folds['count']} folds" if folds else "test part"
    machine = f"{len(os.sched_getaffinity(0))} cores, {datetime.now(UTC).date()}"
    return f"{'; '.join(parts)}; {seconds:.0f} s a run ({machine}); {looked} opened {opened} times."


def _told(page: Recipe, found: Sequence[Mapping[str, Any]]) -> str:
    """The verdict's number of every model, then a few more of the two that the verdict is about."""
    primary = found[0]["primary"]
    where = "held-out" if found[0]["folds"] else "test"
    others = [one["name"] for one in found[0]["models"] if one["name"] not in (primary["model"], "prevalence") and one["kind"] != "prior"]
    metric = primary["metric"]
    said = f"{page.part + ': ' if page.part else ''}{where} {primary['metric_name']} {_mean(found, primary['model'], metric, each=True)}"
    said += "".join(f", {name} {_mean(found, name, metric)}" for name in others)
    won = sum(one["primary"]["verdict"] in ("better", "useful") for one in found)
    said += f"; shown to be better than {primary['against']} in {won} of {len(found)}"
    for more in [one for one in page.comparison.also if one != metric][:MORE]:
        name = found[0]["metrics"].get(more, more)
        said += f"; {name} {_mean(found, primary['model'], more)}, {primary['against']} {_mean(found, primary['against'], more)}"
    return said + "".join(_of_class(found, name, (primary["model"], primary["against"])) for name in page.comparison.classes)


def _of_class(found: Sequence[Mapping[str, Any]], name: str, models: Sequence[str]) -> str:
    """Sensitivity and PPV of one class, of the two models that the verdict is about."""
    rows = [next(one for one in page["per_class"] if one["class"] == name)["models"] for page in found]
    each = [" / ".join(f"{fmean(row[model][key]['value'] for row in rows):.3f}" for key in ("sensitivity", "ppv")) for model in models]
    return f"; {name} sensitivity / PPV {each[0]}, {models[1]} {each[1]}"


def _mean(found: Sequence[Mapping[str, Any]], model: str, metric: str, *, each: bool = False) -> str:
    values = [next(one for one in page["models"] if one["name"] == model)["numbers"][metric]["value"] for page in found]
    digits = 1 if max(values) >= 10 else 3
    shown = f"{fmean(values):.{digits}f}"
    return f"{shown} ({', '.join(f'{value:.{digits}f}' for value in values)})" if each else shown


def write(page: Path, said: str) -> None:
    """The page with this header line in place of the one it has."""
    text = page.read_text()
    assert LINE.search(text), f"{page} has no `# Reaches:` line before its command"
    wrapped = textwrap.fill(f"Reaches: {said}", WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"
    page.write_text(LINE.sub(lambda _: wrapped, text, count=1))


def opened_before(page: Path) -> int:
    """How often the test part was opened, as the header says."""
    known = LINE.search(page.read_text())
    said = OPENED.search(known.group(0)) if known else None
    return int(said.group(1)) if said else 0


def main(arguments: Sequence[str]) -> None:
    overrides = [one for one in arguments if "=" in one]
    for name in (one for one in arguments if "=" not in one):
        page = Path(name)
        before = opened_before(page)
        recipe, verdicts, seconds = runs(page, overrides)
        write(page, line(recipe, verdicts, seconds, before))


if __name__ == "__main__":
    main(sys.argv[1:])

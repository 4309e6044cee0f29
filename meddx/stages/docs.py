"""The code in, the README's tables out, so that they are never typed:  python -m meddx.stages.docs [--check]."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from meddx import errors, yamlconf
from meddx.evaluate.fitting import metrics_of
from meddx.evaluate.types import Kind
from meddx.inputs import options
from meddx.models.options import FITTING
from meddx.recipe import Recipe, load

README = Path("README.md")
KEYS = Path("docs/recipe.md")
REACHES = re.compile(r"Reaches:\s*(.+)")


def commands_table() -> str:
    """Every command with the first line of its help."""
    from meddx.cli import app

    rows = ["| command | what it does |", "|---|---|"]
    for one in app.registered_commands:
        assert one.callback is not None
        rows.append(f"| `meddx {one.callback.__name__}` | {(one.callback.__doc__ or '').strip().splitlines()[0]} |")
    return "\n".join(rows)


def exit_codes_table() -> str:
    """Exit codes with their meaning, from the head of errors.py."""
    rows = ["| code | meaning |", "|---|---|", "| 0 | done |", "| 1 | a crash, or storage or the cluster failed: worth a retry |"]
    told = dict(re.findall(r"(\w+Error)\s+\d\s+(.+)", errors.__doc__ or ""))
    for name in ("RecipeError", "DataError", "BooksError", "IncompleteError", "RequirementError"):
        rows.append(f"| {getattr(errors, name).exit_code} | {told[name]} |")
    return "\n".join(rows)


def recipes_table(folder: Path = Path("jobs/recipes")) -> str:
    """Every shipped page: its question, and what its header says that it reaches."""
    rows = ["| recipe | question | reaches (test part; seeds 0, 1, 2) |", "|---|---|---|"]
    for path in sorted(folder.glob("*.yaml")):
        load(path)
        head = [line.lstrip("# ") for line in path.read_text().split("\nname:")[0].splitlines()]
        text = " ".join(head)
        question = text.split("?")[0] + "?"
        found = REACHES.search(text)
        reached = found.group(1).split(" meddx ")[0].strip() if found else ""
        reached = "not measured yet" if reached.startswith("?") else reached
        rows.append(f"| [`{path.stem}`]({path.as_posix()}) | {question} | {reached} |")
    return "\n".join(rows)


def inputs_table() -> str:
    """Every kind of input: what it is, and the networks that can look at it."""
    rows = ["| input | what it is | networks |", "|---|---|---|"]
    for kind in options.KINDS:
        block = next(one for one in vars(options).values() if getattr(one, "__name__", "").lower() == f"{kind}input")
        what = (block.__doc__ or "").strip().splitlines()[0].rstrip(".")
        rows.append(f"| `{kind}` | {what} | {', '.join(f'`{name}`' for name in FITTING[kind])} |")
    return "\n".join(rows)


def targets_table() -> str:
    """Every kind of target, with the numbers that a comparison knows for it."""
    rows = ["| target | numbers |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{kind}` | {', '.join(f'`{name}`' for name in metrics_of(kind))} |" for kind in get_args(Kind))])


def keys_page() -> str:
    """Every key of a recipe with its type and meaning."""
    rows = ["# Every key of a recipe", "", "Made from the code by `make docs`.", "", "| key | type | meaning |", "|---|---|---|"]
    rows += [f"| `{key}` | {kind} | {text} |" for key, kind, text in yamlconf.keys_of(Recipe)]
    return "\n".join(rows) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "commands": commands_table,
    "exit codes": exit_codes_table,
    "recipes": recipes_table,
    "inputs": inputs_table,
    "targets": targets_table,
}


def filled(text: str) -> str:
    """The README with the text between its `<!-- table: name -->` marks made anew."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        assert pattern.search(text), f"the README has no place for the table {name!r}"
        made = table()
        text = pattern.sub(lambda found, made=made: found.group(1) + made + found.group(2), text)  # type: ignore[misc]
    return text


def main(check: bool) -> int:
    """Write the tables, or with `check` only say whether they are true.  Returns the exit code."""
    wanted = {README: filled(README.read_text()), KEYS: keys_page()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path}: {'is not what the code says; run make docs' if check else 'written'}")
        if not check:
            path.write_text(wanted[path])
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

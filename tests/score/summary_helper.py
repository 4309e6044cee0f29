"""A finished night made up of numbers: parts with times and answers, and the page that is made of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from meddx.predict import spread
from meddx.score.books import Books
from meddx.score.bundles import Facts
from meddx.score.ledger import Counts, Part
from meddx.score.owner import Owner
from meddx.score.plan import Generation, Plan
from meddx.score.summary import summarise

SCALE = (120.0, 15.0)
START = 1_795_000_000.0  # a winter evening in 2026


def answers(kind: str, n: int, rng: np.random.Generator, shift: float = 0.0) -> spread.Counts:
    """Counted answers of `n` cases; `shift` moves them."""
    if kind == "regression":
        return spread.count_answers({"value": rng.normal(120 + 15 * shift, 15, n)}, SCALE)
    if kind == "tags":
        return spread.count_answers({"spans": rng.poisson(4 + 4 * shift, n).astype(float)})
    names = ["probability"] if kind == "binary" else [f"p_{one}" for one in ("Atelektase", "<b>Erguss</b>", "no finding")]
    return spread.count_answers({name: rng.beta(0.6 + shift, 6, n) for name in names})


def part(number: int, job: str, end: float, seconds: float, rows: int, found: spread.Counts, bad: int = 0) -> Part:
    counts = Counts(rows, rows - bad, bad, 0, {"number_missing": bad} if bad else {}, 2, {"range:crp_max": 2})
    night = json.dumps({"ended": end, "seconds": seconds, "answers": found}).encode()
    return Part(f"{number:016x}", rows, counts, job, (), night)


def made(
    kind: str, *, shift: float = 0.0, known: bool = True, units: int = 40, rows: int = 500, old: int = 0, more: Any = None
) -> dict[str, Any]:
    """What `render` takes.  Two jobs, the first killed after half; `old`: parts without times; `more`: into the record."""
    rng = np.random.default_rng(0)
    parts = {}
    for number in range(units):
        late = 7200.0 if number >= units // 2 else 0.0
        end = START + late + 20 * (number + 1)
        one = part(number, "second" if late else "first", end, 20.0, rows, answers(kind, rows, rng, shift), bad=number % 3)
        parts[one.unit] = one if number >= old else Part(one.unit, rows, one.counts, one.token)
    counts = sum((one.counts for one in parts.values()), Counts())
    owner = Owner("a" * 16, {"without": ["labs"]}, {}, {"batch_rows": 256})
    first = Generation(0, "", owner, "s3://archive/2026-11", 1, {}, {"x": ("v", "not_parquet")}, ())
    books = Books("s3://night/out", 12, 1, units, units * rows, units * rows, counts, 0.01)
    there = {"calibrate": {"cases": 900, "bands": answers(kind, 900, rng)}, "train": {"cases": 2000, "bands": answers(kind, 2000, rng)}}
    facts = Facts(
        "a" * 16, {}, (), name="pneumonia, network", answers=there if known else None, scale=SCALE if kind == "regression" else None
    )
    record = {"versions": {"python": "3.11"}, "meddx": "0.1.0", **(more or {})}
    return summarise(Plan((first,), ("d",)), parts, books, facts, record)

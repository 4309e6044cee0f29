"""A plan, its published parts and the record to be in; what `summary.html` shows, as plain numbers, out.

Everything is taken from the footers of the parts, so it is of the whole output, however many jobs worked on it and were killed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddx.evaluate.stability import shift
from meddx.predict import spread
from meddx.score.books import Books
from meddx.score.bundles import Facts
from meddx.score.forecast import duration, engine_words, money
from meddx.score.ledger import Part
from meddx.score.plan import Plan
from meddx.storage import StoragePath

NAME = "summary.html"
STEPS = 60  # of the picture of throughput
IDLE_S, IDLE_SHARE = 30.0, 0.02  # a pause longer than this is cut out of the time axis
HELD_OUT = ("calibrate", "out_of_fold")  # cases that the model did not learn from, as those of an archive are


@dataclass(frozen=True)
class Night:
    """One part as the summary sees it: `start` and `end` in seconds since 1970, of the clock of the machine that made it."""

    job: str
    start: float
    end: float
    rows: int
    answers: spread.Counts


def write(folder: StoragePath, page: Mapping[str, Any]) -> None:
    """`summary.html` in `folder`, replaced whole.  The look is the report's."""
    from meddx.report.night import render

    (folder / NAME).replace(render(page).encode())


def summarise(plan: Plan, parts: Mapping[str, Part], books: Books, facts: Facts, made: Mapping[str, Any]) -> dict[str, Any]:
    """`made`: the record as it is going to be."""
    nights = [one for part in parts.values() if (one := _night(part)) is not None]
    counts = books.counts
    jobs = _jobs(nights)
    return {
        "name": facts.name or plan.owner.bundle,
        "bundle": plan.owner.bundle,
        "data": plan.first.data,
        "engine": "scikit-learn" if facts.kind == "estimator" else engine_words(plan.owner.engine),
        "without": list(plan.owner.scoring.get("without", ())),
        "line": books.line,
        "exit_code": books.exit_code,
        "unbalanced": len(books.unbalanced),
        "rejected": books.rejected,
        "max_rejected": books.max_rejected,
        "read": books.read,
        "scored": counts.scored,
        "quarantined": counts.quarantined,
        "outside": counts.outside,
        "files": books.files,
        "units": books.units,
        "untimed": len(parts) - len(nights),
        "reasons": _shares(counts.reasons, books.read),
        "warnings": _shares(counts.warnings, books.read),
        "not_opened": _shares(Counter(reason for _, reason in plan.broken.values()), books.files),
        "jobs": jobs,
        "throughput": _throughput(nights),
        "predicted": _told(made.get("predicted")),
        "actual": _told(made.get("actual")),
        "by": (made.get("predicted") or {}).get("by", ""),
        **_answers(nights, facts),
        "versions": made.get("versions", {}),
        "meddx": made.get("meddx", ""),
        "written": _clock(datetime.now(UTC).timestamp()),
    }


def _night(part: Part) -> Night | None:
    """None for a part from before this was kept, or where it makes no sense: nothing but a picture hangs on it."""
    try:
        page = json.loads(part.night)
        end, seconds = float(page["ended"]), float(page["seconds"])
        return Night(part.token, end - seconds, end, part.rows, dict(page["answers"]))
    except (ValueError, KeyError, TypeError):
        return None


def _shares(counts: Mapping[str, int], whole: int) -> list[dict[str, Any]]:
    """The most frequent first."""
    return [{"name": name, "count": n, "share": n / max(whole, 1)} for name, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def _jobs(nights: Iterable[Night]) -> list[dict[str, Any]]:
    """What each job published, in the order in which they began."""
    by: dict[str, list[Night]] = {}
    for one in nights:
        by.setdefault(one.job, []).append(one)
    found = []
    for held in sorted(by.values(), key=lambda one: min(night.start for night in one)):
        start, end = min(one.start for one in held), max(one.end for one in held)
        rows = sum(one.rows for one in held)
        took = duration(end - start)
        rate = rows / max(end - start, 1e-3)
        found.append({"start": _clock(start), "end": _clock(end), "took": took, "units": len(held), "rows": rows, "rate": rate})
    return found


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _told(page: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of a forecast or of what became of it: texts for a table; None where it is not known."""
    if not page or not page.get("rows") or page.get("hours") is None:
        return None
    cost = None if page.get("cost") is None else money(page["cost"])
    return {"rows": page["rows"], "took": duration(page["hours"] * 3600), "rate": page["rows_a_second"], "cost": cost}


def _throughput(nights: Sequence[Night]) -> dict[str, Any] | None:
    """Rows a second in equal steps of the time in which somebody worked; pauses between jobs are cut out, and marked."""
    if not nights:
        return None
    starts, ends = np.array([one.start for one in nights]), np.array([one.end for one in nights])
    stretches = _stretches(starts, ends)
    worked = float(sum(end - start for start, end in stretches)) or 1e-3
    begin, finish = _worked(starts, stretches), _worked(ends, stretches)
    rows, width = np.array([one.rows for one in nights], np.float64), worked / STEPS
    rates = []
    for step in range(STEPS):
        inside = np.clip(np.minimum(finish, (step + 1) * width) - np.maximum(begin, step * width), 0, None)
        share = np.divide(inside, finish - begin, out=np.zeros(len(rows)), where=finish > begin)
        rates.append(float((share * rows).sum() / width))
    breaks = np.cumsum([end - start for start, end in stretches])[:-1] / worked
    return {
        "rates": rates,
        "breaks": breaks.tolist(),
        "worked": duration(worked),
        "start": _clock(stretches[0][0]),
        "end": _clock(stretches[-1][1]),
    }


def _stretches(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> list[tuple[float, float]]:
    """[start, end] of work, without the pauses in which no unit was at work anywhere."""
    order = np.argsort(starts)
    idle = max(IDLE_S, IDLE_SHARE * float((ends - starts).sum()))
    found: list[tuple[float, float]] = []
    for start, end in zip(starts[order].tolist(), ends[order].tolist(), strict=True):
        if found and start - found[-1][1] <= idle:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _worked(times: NDArray[np.float64], stretches: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Seconds of work before each time."""
    return np.asarray(np.sum([np.clip(times, start, end) - start for start, end in stretches], axis=0), np.float64)


def _answers(nights: Sequence[Night], facts: Facts) -> dict[str, Any]:
    """The answers by band, beside those of the training part where the bundle kept them."""
    here = spread.add([one.answers for one in nights])
    kept = facts.answers or {}
    part = next((name for name in HELD_OUT if name in kept), "")
    reference = kept.get(part) or {}
    learned = kept.get("train") or {}
    columns = []
    for name, counts in here.items():
        known = reference.get("bands", {}).get(name)
        same = known if known is not None and len(known) == len(counts) else None
        found = None if same is None else asdict(shift(counts, same)) | {"words": shift(counts, same).words}
        columns.append({"name": name, "here": counts, "reference": same, "learned": learned.get("bands", {}).get(name), "shift": found})
    return {
        "answers": columns,
        "most_answers": spread.MOST_COLUMNS,
        "edges": {name: _edges(name, facts.scale) for name in here},
        "part": part,
        "part_cases": reference.get("cases", 0),
        "learned_cases": learned.get("cases", 0),
    }


def _edges(name: str, scale: spread.Scale | None) -> list[float]:
    """In the units of the column."""
    mean, deviation = scale if name == spread.VALUE and scale is not None else (0.0, 1.0)
    return [mean + deviation * edge for edge in spread.edges_of(name)]

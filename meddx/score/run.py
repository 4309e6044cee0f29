"""A bundle and an archive in, a directory of predictions and its books out; begun anew, resumed, or found finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from meddx import record
from meddx.progress import advance
from meddx.score import failpoints, ledger
from meddx.score.audit import is_finished
from meddx.score.books import Books, keep_books
from meddx.score.bundles import BundleFolders, Bundles
from meddx.score.local import run_here
from meddx.score.options import ScoringOptions
from meddx.score.plan import FOLDER, Plan
from meddx.score.planning import check as check
from meddx.score.planning import make_plan, owner_of
from meddx.score.runner import Breaker, Job, Outcome
from meddx.score.sources import data_digest, find_root
from meddx.score.units import Task, make_tasks
from meddx.storage import StoragePath

Log = Callable[[str], None]
SECONDS_A_LINE = 60


def score(
    bundle: StoragePath,
    data: StoragePath,
    out: StoragePath,
    *,
    options: ScoringOptions,
    workers: int = 0,
    address: str | None = None,
    log: Log = print,
    bundles: Bundles | None = None,
) -> Books:
    """Score every row of `data` (a dataset, a folder or a file of Parquet) into `out`, exactly once.

    `workers` 0 runs in this process, N on N Ray actors.  A finished run is a no-op, an interrupted one goes on, and files
    that are new since the plan are new work.  OutputError: `out` belongs to something else, or a planned file changed.
    IncompleteError: units are undone.  BooksError: unbalanced, or more than `max_rejected` quarantined.
    """
    recorder = record.Recorder("score", "")
    bundles = bundles or BundleFolders()
    facts = bundles.facts(bundle)
    owner = owner_of(facts, options)
    published = set(ledger.list_parts(out))
    plan = make_plan(out, owner, facts.required, data, options, log)
    failpoints.reach("planned")
    if is_finished(out, plan, published):
        books = _recorded(out)
        log(f"nothing to do, this run is finished: {books.line}")
    else:
        token = uuid4().hex
        stamp = ledger.Stamp(plan.digests, owner.bundle, owner.rules, token, owner.engine)
        job = Job(bundle, find_root(data), out, stamp, options, facts.required, bundles)
        tasks = make_tasks(plan.units.values(), ledger.read_parts(out, plan, published), token)
        failures = _work(job, plan, tasks, workers, address, log, recorder)
        _describe(recorder, plan, bundle, data, workers)
        books = _finish(out, plan, options, failures, recorder)
        log(books.line)
    books.raise_for_problems()
    return books


def _work(
    job: Job, plan: Plan, tasks: Sequence[Task], workers: int, address: str | None, log: Log, recorder: record.Recorder
) -> dict[str, str]:
    """Run what is left; unit -> why for what failed.  The rate goes into the record, for the next night's forecast."""
    units = sum(map(len, tasks))
    rows = sum(unit.rows for task in tasks for unit in task)
    place = f"{workers} Ray workers" if workers else "in this process"
    log(f"units to do {units:,} of {len(plan.units):,}, rows {rows:,} of {plan.rows:,}; {place}")
    failures: dict[str, str] = {}
    breaker, start, done = Breaker(), time.monotonic(), 0
    said = start
    for outcome in _outcomes(job, tasks, workers, address):
        if outcome.kind:
            failures[outcome.unit] = outcome.kind
            log(f"unit {outcome.unit} failed: {outcome.kind} {outcome.detail}".rstrip())
        breaker.see(outcome)
        done += 0 if outcome.kind else outcome.rows
        advance(log, "scoring, rows", done, rows)
        now = time.monotonic()
        rate = done / max(now - start, 1e-9)
        recorder.more["rows_a_second"] = round(rate, 3)
        if now - said >= SECONDS_A_LINE:
            said = now
            log(f"rows {done:,} of {rows:,}; {rate:,.0f} a second; about {(rows - done) / max(rate, 1e-9) / 60:,.0f} minutes left")
    return failures


def _outcomes(job: Job, tasks: Sequence[Task], workers: int, address: str | None) -> Iterator[Outcome]:
    if not tasks:
        return
    if not workers:
        yield from run_here(job, tasks)
        return
    from meddx.cluster import connect
    from meddx.score.on_ray import run_on_ray

    with connect(address, cpus=workers):
        yield from run_on_ray(job, tasks, workers)


def _describe(recorder: record.Recorder, plan: Plan, bundle: StoragePath, data: StoragePath, workers: int) -> None:
    versions = ((path, version) for path, (version, _, _) in plan.files.items())
    recorder.fingerprint = plan.owner.rules
    recorder.add_input("bundle", bundle, plan.owner.bundle)
    recorder.add_input("data", data, data_digest(data, versions))
    recorder.more |= {"plans": list(plan.digests), "workers": workers}


def _finish(out: StoragePath, plan: Plan, options: ScoringOptions, failures: Mapping[str, str], recorder: record.Recorder) -> Books:
    """Count what is published, by whichever job; write the record, the mark of a finished run, once no unit is left."""
    published = [unit for unit in ledger.list_parts(out) if unit in plan.units]
    books = keep_books(out, plan, ledger.read_parts(out, plan, published), max_rejected=options.max_rejected, failures=failures)
    failpoints.reach("before_finish")
    if not books.undone:
        counts = books.counts
        recorder.counts = {"read": books.read, "scored": counts.scored, "quarantined": counts.quarantined, "outside": counts.outside}
        recorder.more |= {"books": books.as_dict(), "exit_code": books.exit_code}
        recorder.write(out / FOLDER)
        _sweep(out)
    failpoints.reach("finished")
    return books


def _sweep(out: StoragePath) -> None:
    """Remove what killed attempts left.  Another job's live one may go too: its unit is published, so it only loses."""
    if not out.on_s3:
        for left in Path(out.uri).glob(".tmp-*"):
            left.unlink(missing_ok=True)


def _recorded(out: StoragePath) -> Books:
    made: dict[str, Any] = record.read(out / FOLDER) or {}
    return Books.from_dict(made["books"], str(out))

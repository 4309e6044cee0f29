"""A bundle and an archive in, a directory of predictions and its books out; begun anew, resumed, or found finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from meddx import failpoints, record
from meddx.probe import probe
from meddx.score import device as devices
from meddx.score import forecast, ledger, markers, summary
from meddx.score.audit import is_finished
from meddx.score.books import Books, keep_books
from meddx.score.bundles import BundleFolders, Bundles, Facts
from meddx.score.check import check as check
from meddx.score.guard import Guard
from meddx.score.lanes import Lanes
from meddx.score.lanes import count as count_lanes
from meddx.score.local import run_here
from meddx.score.options import ScoringOptions
from meddx.score.plan import FOLDER, Plan
from meddx.score.planning import make_plan, owner_of
from meddx.score.progress import Progress
from meddx.score.runner import Breaker, Job, Outcome
from meddx.score.sources import data_digest, find_root
from meddx.score.spawn import ForkServer
from meddx.score.trial import rows_of
from meddx.score.units import Task, Unit, make_tasks
from meddx.storage import StoragePath

Log = Callable[[str], None]


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
    update: bool = False,
    guard: bool = False,
    server: ForkServer | None = None,
    price: float | None = None,
    device: str = "auto",
) -> Books:
    """Score every row of `data` (a dataset, a folder or a file of Parquet) into `out`, exactly once.

    `workers` 0 runs in this process, or with `guard` in a child of it (a fork of `server`, if begun), so that a row that kills is
    quarantined at once; N on N Ray actors.  A finished run is a no-op, an interrupted one goes on, and files
    that are new since the plan are new work.  `update`: units of files that changed or vanished since the plan are retired,
    and what is there now is scored.  OutputError: `out` belongs to something else, or without `update` a planned file
    changed.  `price`: of an hour of a worker, or of this machine: the record then says what the night cost.  `device`: cpu, cuda, or
    auto, of a new output; an old one goes on as it was begun.
    IncompleteError: units are undone.  BooksError: unbalanced, or more than `max_rejected` quarantined.
    """
    bundles, device = bundles or BundleFolders(), devices.checked(device)
    with ExitStack() as held:
        facts, keeper = bundles.facts(bundle), None
        if guard and not workers:
            keeper = held.enter_context(Guard(bundle, bundles, out, server=server, kind=facts.kind))
        means = _Means(workers, address, keeper, log, record.Recorder("score", ""), facts, held, device, price)
        books = _run(bundle, data, out, options, bundles, update, means)
    books.raise_for_problems()
    return books


@dataclass(frozen=True)
class _Means:
    """How and where the work is done, and what is told of it.  `held`: what is closed when all is done."""

    workers: int
    address: str | None
    keeper: Guard | None
    log: Log
    recorder: record.Recorder
    facts: Facts
    held: ExitStack
    device: str = "auto"
    price: float | None = None
    connected: Future[None] = field(default_factory=Future)  # to Ray


def _run(
    bundle: StoragePath, data: StoragePath, out: StoragePath, options: ScoringOptions, bundles: Bundles, update: bool, means: _Means
) -> Books:
    facts = means.facts
    owner = owner_of(facts, options)
    published = ledger.list_parts(out)
    probed = cache(partial(probe, out))  # at most once, and only where something is going to be written

    def choose(units: Sequence[Unit]) -> dict[str, Any] | None:
        return _choose(bundles, bundle, units, partial(rows_of, units, find_root(data), facts), means)

    def alone() -> bool:
        return not probed().conditional

    make = partial(make_plan, out, owner, facts.required, data, options, means.log, update=update, alone=alone, choose=choose)
    plan = _planned(make, out, means)
    owner = plan.owner
    failpoints.reach("planned")
    standing = ledger.retire(out, plan, published)
    if is_finished(out, plan, standing):
        books = _recorded(out)
        means.log(f"nothing to do, this run is finished: {books.line}")
        return books
    means.recorder.more["conditional_writes"] = probed().conditional
    if probed().why:
        means.log(f"{probed().why}: start no second job on this output")
    stamp = ledger.Stamp(plan.digests, owner.bundle, owner.rules, uuid4().hex, owner.engine, facts.scale)
    job = Job(bundle, find_root(data), out, stamp, options, facts.required, bundles, alone=alone())
    books = _score(job, plan, standing, data, means)
    means.log(books.line)
    return books


def _planned(make: Callable[[], Plan], out: StoragePath, means: _Means) -> Plan:
    """The plan.  Ray, which takes seconds to start, starts meanwhile, unless a record says that there is probably nothing to do."""
    if not means.workers or record.read(out / FOLDER) is not None:
        return make()
    from meddx.cluster import connect

    with ThreadPoolExecutor(1) as thread:  # for the plan: Ray wants the main one, for its signals
        plan = thread.submit(make)
        try:
            means.held.enter_context(connect(means.address, cpus=means.workers))
        except BaseException as error:
            means.connected.set_exception(error)
            raise
        means.connected.set_result(None)
        return plan.result()


def _choose(
    bundles: Bundles, bundle: StoragePath, units: Sequence[Unit], some: Callable[[], Iterator[Any]], means: _Means
) -> dict[str, Any] | None:
    """How forwards run, for a new output.  On a cluster the GPU on which that is tried may be another machine's."""
    rows, wish = sum(unit.rows for unit in units), means.device
    if not means.workers:
        return bundles.choose(bundle, rows, some, devices.asked(wish))
    if wish != "cpu":
        from meddx.cluster import resources
        from meddx.score.on_ray import choose_on_ray

        means.connected.result()
        if wish == "cuda" or resources()["gpus"]:
            return choose_on_ray(bundles, bundle, rows, some)
    return bundles.choose(bundle, rows, some)


def _score(job: Job, plan: Plan, standing: Iterable[str], data: StoragePath, means: _Means) -> Books:
    """Do what the plan still lacks; and again, where another job made a newer plan meanwhile."""
    failures: dict[str, str] = {}
    while True:
        tasks = make_tasks(plan.units.values(), ledger.read_parts(job.out, plan, standing), job.stamp.token)
        failures |= _work(job, plan, tasks, means)
        _describe(means.recorder, plan, job.bundle, data, means.workers)
        books = _finish(job, plan, failures, means)
        if books is not None:
            return books
        newer = Plan.load(job.out)
        assert newer is not None
        means.log("another job planned changes of the archive; this one goes on with them")
        plan, job = newer, replace(job, stamp=replace(job.stamp, plans=newer.digests))
        standing = ledger.retire(job.out, plan, ledger.list_parts(job.out))


def _work(job: Job, plan: Plan, tasks: Sequence[Task], means: _Means) -> dict[str, str]:
    """Run what is left; unit -> why for what failed.  Forecast, time taken and rates go into the record."""
    log, more = means.log, means.recorder.more
    units = sum(map(len, tasks))
    rows = sum(unit.rows for task in tasks for unit in task)
    place = f"{means.workers} Ray workers" if means.workers else "in this process"
    log(f"units to do {units:,} of {len(plan.units):,}, rows {rows:,} of {plan.rows:,}; {place}")
    engine = forecast.engine_words(job.stamp.engine)
    before = forecast.known_rates(job.out, job.stamp.bundle)
    expected = forecast.forecast(before, rows, means.workers, engine, means.price, means.address)
    if expected.seconds is not None and rows:
        log(expected.lines[0])
    more.setdefault("predicted", expected.as_dict())
    failures: dict[str, str] = {}
    breaker = Breaker()
    with Progress(log, rows, means.workers) as progress:
        for outcome in _outcomes(job, tasks, means):
            progress.see(outcome)
            if outcome.kind:
                failures[outcome.unit] = outcome.kind
                log(f"unit {outcome.unit} failed: {outcome.kind} {outcome.detail}".rstrip())
            breaker.see(outcome)
    more["attempted"] = more.get("attempted", 0) + progress.attempted
    more["rows_a_second"] = round(progress.rows_a_second, 3) if progress.done else more.get("rows_a_second")
    rates = progress.rates(engine)
    forecast.remember(job.stamp.bundle, rates)
    more["rates"] = [asdict(one) for one in rates or before[:1]]
    worked = more.setdefault("actual", {"rows": 0, "hours": 0.0})
    more["actual"] = forecast.actual(worked["rows"] + progress.done, worked["hours"] * 3600 + progress.seconds, means.workers, means.price)
    if progress.lost:
        log(f"units attempted {more['attempted']:,}; {progress.lost:,} were done by another job meanwhile")
    return failures


def _outcomes(job: Job, tasks: Sequence[Task], means: _Means) -> Iterator[Outcome]:
    """What another job seems to have in hand comes last: by then it is mostly done, and two jobs seldom do a unit twice."""
    if not tasks:
        return
    with _executor(job, tasks, means) as execute:
        busy: set[str] = set()
        for outcome in execute(job, tasks):
            if outcome.state == "busy":
                busy.add(outcome.unit)
            else:
                yield outcome
        if left := [rest for task in tasks if (rest := tuple(unit for unit in task if unit.id in busy))]:
            yield from execute(replace(job, defer=False), left)


@contextmanager
def _executor(job: Job, tasks: Sequence[Task], means: _Means) -> Iterator[Callable[[Job, Sequence[Task]], Iterator[Outcome]]]:
    if not means.workers:
        lanes = count_lanes(means.facts.kind, tasks)
        if means.keeper is None or lanes == 1:
            yield run_here if means.keeper is None else means.keeper.run
            return
        another = partial(Guard, job.bundle, job.bundles, job.out, failpoint=False, server=means.keeper.server, kind=means.facts.kind)
        with Lanes(means.keeper, another, lanes) as side_by_side:
            yield side_by_side.run
        return
    from meddx.cluster import connect
    from meddx.score.on_ray import run_on_ray

    with connect(means.address, cpus=means.workers):
        yield partial(run_on_ray, workers=means.workers)


def _describe(recorder: record.Recorder, plan: Plan, bundle: StoragePath, data: StoragePath, workers: int) -> None:
    versions = ((path, version) for path, (version, _, _) in plan.files.items())
    recorder.fingerprint = plan.owner.rules
    recorder.add_input("bundle", bundle, plan.owner.bundle)
    recorder.add_input("data", data, data_digest(data, versions))
    recorder.more |= {"plans": list(plan.digests), "workers": workers}
    if any(one.leaving for one in plan.generations):
        state = plan.state
        updates = {"files_changed": state.files_changed, "files_vanished": state.files_vanished, "rows_vanished": state.rows_vanished}
        recorder.more["updates"] = {**updates, "units_retired": len(state.retired)}


def _finish(job: Job, plan: Plan, failures: Mapping[str, str], means: _Means) -> Books | None:
    """Count what is published, by whichever job; write the record, the mark of a finished run, once no unit is left.

    None: there is a newer plan, written before these books were closed or while they were.
    """
    out, recorder = job.out, means.recorder
    published = ledger.list_parts(out)  # before the look for a newer plan: then this plan knows them all
    if plan.has_grown(out):
        return None
    parts = ledger.read_parts(out, plan, ledger.retire(out, plan, published))
    books = keep_books(out, plan, parts, max_rejected=job.options.max_rejected, failures=failures)
    failpoints.reach("before_finish")
    if not books.undone:
        counts = books.counts
        recorder.counts = {"read": books.read, "scored": counts.scored, "quarantined": counts.quarantined, "outside": counts.outside}
        recorder.more |= {"books": books.as_dict(), "exit_code": books.exit_code}
        markers.sweep(out)  # before the record: a finished run leaves none behind
        summary.write(out / FOLDER, summary.summarise(plan, parts, books, means.facts, recorder.as_dict()))
        recorder.write(out / FOLDER)
        _sweep(out)
    failpoints.reach("finished")
    return None if plan.has_grown(out) else books


def _sweep(out: StoragePath) -> None:
    """Remove what killed attempts left.  Another job's live one may go too: its unit is published, so it only loses."""
    if not out.on_s3:
        for left in Path(out.uri).glob(".tmp-*"):
            left.unlink(missing_ok=True)


def _recorded(out: StoragePath) -> Books:
    made: dict[str, Any] = record.read(out / FOLDER) or {}
    return Books.from_dict(made["books"], str(out))

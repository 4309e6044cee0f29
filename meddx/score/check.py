"""A bundle, an archive and an output in; what a night would do, need and cost, in lines, out.  Nothing is scored for good."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meddx.errors import ClusterError
from meddx.score import device, ledger
from meddx.score.bundles import BundleFolders, Bundles, Facts
from meddx.score.footers import keep_footers
from meddx.score.forecast import Rate, engine_words, forecast, known_rates, remember
from meddx.score.lanes import count as lanes_of
from meddx.score.ledger import Counts
from meddx.score.measure import measure, threads_of
from meddx.score.options import ScoringOptions
from meddx.score.plan import Plan
from meddx.score.planning import look, owner_of
from meddx.score.progress import Patience
from meddx.score.sources import SourceFile, find_root
from meddx.score.trial import part_of, rows_of
from meddx.score.units import Unit, UnitFailed
from meddx.score.worker import UnitScorer, scorer_of
from meddx.storage import StoragePath

SAMPLE_ROWS, SAMPLE_UNITS = 256, 4


@dataclass(frozen=True)
class Wishes:
    """How the night is meant to run.  `probe`: seconds for which one device scores rows that are thrown away; 0: none."""

    workers: int = 0
    price: float | None = None
    probe: float = 0.0
    address: str | None = None


def check(
    bundle: StoragePath,
    data: StoragePath,
    out: StoragePath,
    options: ScoringOptions,
    *,
    bundles: Bundles | None = None,
    update: bool = False,
    wishes: Wishes | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """What `score` would do: rows, units, resources, a sample scored, expected hours and cost.

    No plan is written, for a plan binds the output to this bundle and these rules.  What footers say binds to nothing, and is
    kept in the output, so that the plan need not read them again.  `log` is told of what takes long.
    """
    bundles, wishes = bundles or BundleFolders(), wishes or Wishes()
    facts = bundles.facts(bundle)
    published = set(ledger.list_parts(out))
    plan, new, files = look(out, owner_of(facts, options), facts.required, data, options, update, Patience(log))
    chosen = plan is not None
    if new:
        plan = Plan((*(plan.generations if plan else ()), new), (*(plan.digests if plan else ()), ""))
    assert plan is not None
    left = [unit for unit in plan.units.values() if unit.id not in published]
    rows = sum(unit.rows for unit in left)
    rates = known_rates(out, facts.digest)
    lines = [*_work(plan, left, rows), *_resources(wishes, rates)]
    engine = plan.owner.engine
    if left and wishes.probe and not chosen:
        engine, chosen = bundles.choose(bundle, rows, lambda: rows_of(left, find_root(data), facts)), True
    if left:
        said, measured = _try(_Trial(bundle, bundles, find_root(data), facts, options), engine, left, wishes)
        lines += said
        rates = [*measured, *rates]
        remember(facts.digest, measured)
    lines += forecast(rates, rows, wishes.workers, engine_words(engine) if chosen else None, wishes.price, wishes.address).lines
    return [*lines, *_kept(out, files)]


@dataclass(frozen=True)
class _Trial:
    """What scoring a few rows needs."""

    bundle: StoragePath
    bundles: Bundles
    root: StoragePath
    facts: Facts
    options: ScoringOptions


def _work(plan: Plan, left: Sequence[Unit], rows: int) -> list[str]:
    broken = f", files not opened {len(plan.broken):,}" if plan.broken else ""
    return [
        f"data: files {len(plan.files):,}, rows {plan.rows:,}{broken}",
        f"units {len(plan.units):,}: done {len(plan.units) - len(left):,}, to do {len(left):,} with {rows:,} rows",
    ]


def _resources(wishes: Wishes, rates: Sequence[Rate]) -> list[str]:
    """What is asked and what is there.  No cluster is started; one that is named is asked."""
    address = wishes.address or os.environ.get("RAY_ADDRESS") or "local"
    free, whole = device.memory_gb()
    there = f"{device.cpus()} CPUs, {free:.1f} of {whole:.1f} GB of memory free"
    if not wishes.workers:
        return [f"asked: this process; there: {there} ({device.processor()})"]
    asked = f"asked: {wishes.workers} Ray workers of 1 CPU each"
    if needed := max((one.memory_mb for one in rates if one.workers), default=0) / 1000:
        asked += f" and about {needed:.1f} GB of memory, as last measured"
    if address != "local":
        return [f"{asked}; there: {_cluster(address)}"]
    lines = [f"{asked}; there: {there} ({device.processor()}), and a cluster is started on this machine"]
    if wishes.workers > device.cpus():
        lines.append(f"{wishes.workers} workers would share {device.cpus()} CPUs, which is no faster: ask for --workers {device.cpus()}")
    if needed and needed * wishes.workers > free:
        lines.append(f"{wishes.workers} workers may need {needed * wishes.workers:.1f} GB, more than is free: ask for fewer")
    return lines


def _cluster(address: str) -> str:
    from meddx.cluster import connect, resources

    try:
        with connect(address):
            found = resources()
    except ClusterError as error:
        return f"{error.what}; the night would stop so, too"
    gpus = f", {found['gpus']:g} GPUs" if found["gpus"] else ""
    return f"{found['cpus']:g} CPUs{gpus}, {found['memory'] / 1e9:.1f} GB of memory on {found['nodes']:g} nodes at {address}"


def _try(trial: _Trial, engine: dict[str, object] | None, left: Sequence[Unit], wishes: Wishes) -> tuple[list[str], list[Rate]]:
    """(lines, what a probe measured)."""
    rates: list[Rate] = []
    start = time.monotonic()
    with threads_of(wishes.workers):
        predictor = trial.bundles.load(trial.bundle, engine)
        scorer = scorer_of(predictor, trial.root, trial.facts.required, trial.options)
        try:
            lines = [_sample(scorer, left)]
            ready = time.monotonic() - start
            if wishes.probe:
                said, rates = measure(scorer, left, wishes.probe, min(wishes.workers, 1), engine_words(engine), ready)
                lanes = 1 if wishes.workers else lanes_of(trial.facts.kind, [(unit,) for unit in left])
                lines.append(said + (f"; a night has {lanes} such processes" if lanes > 1 else ""))
                rates = [replace(one, seconds=one.seconds / lanes) for one in rates]
        finally:
            scorer.close()
    return lines, rates


def _sample(scorer: UnitScorer, left: Sequence[Unit]) -> str:
    """A few rows from units here and there: one file says little of an archive."""
    chosen = left[:: max(1, len(left) // SAMPLE_UNITS)][:SAMPLE_UNITS]
    counts, failed = Counts(), ""
    for unit in chosen:
        try:
            counts += ledger.count(scorer.score(part_of(unit, SAMPLE_ROWS // len(chosen))))
        except UnitFailed as error:
            failed = f"; a unit could not be read now: {error.detail or error.kind}"
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.reasons.items())
    line = (
        f"sample of {counts.rows:,} rows: scored {counts.scored:,}, outside cohort {counts.outside:,}, quarantined {counts.quarantined:,}"
    )
    warned = f"; {counts.warning_line}" if counts.warned else ""
    return line + (f" ({reasons})" if reasons else "") + warned + failed


def _kept(out: StoragePath, files: Sequence[SourceFile]) -> list[str]:
    if not keep_footers(out, files):
        return []
    return [f"what {len(files):,} footers say is kept in {out}/_meddx, so that the run need not read them again"]

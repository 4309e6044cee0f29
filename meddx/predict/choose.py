"""A bundle, how much there is to score and a few of its rows in, the plan of its forwards out: the usual one, or a faster one.

A faster way counts only after it was tried on those rows: its answers are held against torch in float32, and so is its time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError
from meddx.inputs.prepare import Preparations
from meddx.predict import outcome
from meddx.predict.engine import TRIAL, EnginePlan, elements_of, plan_of_page
from meddx.predict.files import read_files
from meddx.predict.graph import capabilities
from meddx.predict.kept import Apart, keep_trial, read_trial
from meddx.predict.manifest import MANIFEST, HeadPage, Manifest, parse_manifest
from meddx.storage import StoragePath

PROBE, PROBE_OF, SEED = 256, 1024, 0
BOUND = {"bfloat16": 0.005, "float32": 1e-4}  # of a probability; of a regression's value in deviations of train
ENOUGH = 50_000_000  # numbers: 12,000 pictures of 64 x 64.  A first trial takes 5 to 10 s, and saves about 1 ms a picture
FASTER = 1.2  # less is not worth another engine
CHOSEN, SLOW, INEXACT = "chosen", "not faster", "not exact enough"
GPU_TIMES = 16


@dataclass(frozen=True)
class _Trial:
    """What is to be tried, and on what; `plans` from fast to safe, the last one in float32."""

    path: StoragePath
    digest: str
    page: Manifest
    usual: EnginePlan
    probe: Callable[[], pa.Table]
    plans: tuple[EnginePlan, ...]

    @property
    def exact(self) -> EnginePlan:
        """The same engine and device in float32: what stands for torch once it was found to be its equal."""
        return replace(self.plans[0], dtype="float32")

    def by_way(self, way: str) -> EnginePlan:
        return next(one for one in (*self.plans, self.exact, self.usual) if way_of(one) == way)


@dataclass(frozen=True)
class Parity:
    """Two ways of one network on the same rows: the largest difference of a number, the decisions that are others, and whether rows
    have another status or reason."""

    difference: float
    flips: int
    other_rows: int

    def holds(self, bound: float) -> bool:
        """Every number is as close as `bound`; so a decision flips only where the number is that close to its threshold."""
        return self.other_rows == 0 and self.difference <= bound


def choose(
    path: StoragePath, rows: int, probe: Callable[[], pa.Table], *, device: str = "cpu", dtypes: Sequence[str] | None = None
) -> dict[str, Any]:
    """The page of an EnginePlan for `rows` rows, and under `trial` what it was chosen by.

    `probe` gives rows to try with (`draw`); it is called only where there is enough work to pay for a trial.  `device`: cpu or cuda, which
    this machine must have; `dtypes`: what may be tried, from fast to safe; None for what the device has.
    """
    files, digest = read_files(path)
    page = parse_manifest(files[MANIFEST])
    specs = Preparations.from_state(page.inputs).specs()
    usual = plan_of_page(specs, page.predictor)
    if not worth_a_trial(page, specs, rows, device):
        return usual.page()
    try:
        plans = plans_for(usual, device, dtypes)
    except BundleError as error:
        return usual.page() | {TRIAL: {"result": error.what, "next": 'pip install "meddx[fast]"'}}
    return _tried(_Trial(path, digest, page, usual, probe, plans))


def plans_for(usual: EnginePlan, device: str, dtypes: Sequence[str] | None = None) -> tuple[EnginePlan, ...]:
    """What may be faster than the usual plan on this device, from fast to safe.  BundleError where the engine is not installed.

    A GPU is given more rows at once: beginning a batch takes it as long as a small one.
    """
    if device == "cpu":
        wanted = list(dtypes or (["bfloat16"] if "BF16" in capabilities() else []) + ["float32"])
        return tuple(replace(usual, engine="openvino", dtype=dtype) for dtype in wanted)  # type: ignore[arg-type]
    wanted = list(dtypes or ["bfloat16", "float32"])
    large = replace(usual, device="cuda", batch_rows=GPU_TIMES * usual.batch_rows)
    return tuple(replace(large, dtype=dtype) for dtype in wanted)  # type: ignore[arg-type]


def way_of(plan: EnginePlan) -> str:
    """One word for it."""
    return f"{plan.engine}-{plan.device}-{plan.dtype}"


def worth_a_trial(page: Manifest, specs: Mapping[str, Mapping[str, Any]], rows: int, device: str = "cpu") -> bool:
    """Whether `rows` rows are so much work that a faster network pays.  Tables never are: preparing them takes longer than the network.

    Tags have no fixed graph, which a processor's engine needs, and a user's own code may change while the bundle does not.
    """
    if page.kind != "network" or any(":" in one["kind"] for one in page.predictor["encoders"].values()):
        return False
    if page.head.kind == "tags" and device == "cpu":
        return False
    return rows * sum(elements_of(spec) for spec in specs.values()) >= ENOUGH


def draw(tables: Iterable[pa.Table]) -> pa.Table:
    """At most 256 rows, drawn by a fixed seed from the first 1,024 of these tables."""
    taken: list[pa.Table] = []
    for table in tables:
        taken.append(table)
        if sum(one.num_rows for one in taken) >= PROBE_OF:
            break
    whole = pa.concat_tables(taken, promote_options="default").slice(0, PROBE_OF)
    order = np.random.default_rng(SEED).permutation(whole.num_rows)[:PROBE]
    return whole.take(np.sort(order))


def compare(head: HeadPage, usual: pa.Table, other: pa.Table) -> Parity:
    """Predictions of the same rows, held against each other."""
    differences = [0.0]
    for name in outcome.number_columns(head):
        one, two = (table[name].to_numpy(zero_copy_only=False).astype(np.float64) for table in (usual, other))
        both = np.isfinite(one) & np.isfinite(two)
        differences.append(float(np.abs(one[both] - two[both]).max(initial=0.0)) / (head.std or 1.0))
    flips = sum(_unequal(usual, other, name) for name in outcome.decision_columns(head))
    return Parity(max(differences), flips, _unequal(usual, other, "status") + _unequal(usual, other, "error"))


def _unequal(usual: pa.Table, other: pa.Table, name: str) -> int:
    return sum(one != two for one, two in zip(usual[name].to_pylist(), other[name].to_pylist(), strict=True))


def _tried(trial: _Trial) -> dict[str, Any]:
    """The first of the plans that is as exact as it must be, and faster; the usual one where none is.

    The first trial of a bundle on a kind of device holds all ways against torch on the processor, on rows and in time, and is kept.  From
    then on the same engine in float32, found to be torch's equal, stands for torch, and only the way that was chosen is held against it,
    on the rows at hand: with a graph that takes a second and imports no torch.
    """
    known = read_trial(trial.digest, trial.plans[0])
    fits = known is not None and known["asked"] == [way_of(one) for one in trial.plans]
    found = _confirmed(trial, known) if known is not None and fits else _first_trial(trial)
    chosen = trial.by_way(found.get("way") or way_of(trial.usual))
    return chosen.page() | {TRIAL: {"rows": found.get("rows", 0), "seed": SEED, "tried": found["tried"]}}


def _first_trial(trial: _Trial) -> dict[str, Any]:
    plans = list(dict.fromkeys([*trial.plans, trial.exact]))
    ways, rows = _ways(trial, [trial.usual, *plans])
    tried = [_judge(trial, ways, trial.usual, plan) for plan in plans] if way_of(trial.usual) in ways else []
    results = {way_of(plan): one for plan, one in zip(plans, tried, strict=False)}
    fit = [way_of(plan) for plan in trial.plans if results.get(way_of(plan), {}).get("result") == CHOSEN]  # in their order: fast first
    exact = results.get(way_of(trial.exact), {}).get("result") in (CHOSEN, SLOW)
    asked = [way_of(one) for one in trial.plans]
    found = {"asked": asked, "way": fit[0] if fit else None, "fit": fit, "exact": exact, "tried": tried, "rows": rows}
    if tried:
        keep_trial(trial.digest, trial.plans[0], found)
    return found


def _confirmed(trial: _Trial, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the first trial found, its choice tried again on these rows."""
    way, exact = known["way"], way_of(trial.exact)
    if way in (None, exact):
        return dict(known)
    against = trial.exact if known["exact"] else trial.usual
    ways, rows = _ways(trial, [against, trial.by_way(way)])
    judged = _judge(trial, ways, against, trial.by_way(way))
    found = {**known, "tried": [{**judged, "against": way_of(against)}], "rows": rows}
    return found if judged["result"] in (CHOSEN, SLOW) else {**found, "way": exact if exact in known["fit"] else None}


def _judge(trial: _Trial, ways: Mapping[str, tuple[float, pa.Table]], against: EnginePlan, plan: EnginePlan) -> dict[str, Any]:
    said = {"engine": plan.engine, "device": plan.device, "dtype": plan.dtype}
    if way_of(plan) not in ways or way_of(against) not in ways:
        return {**said, "result": "it has no graph, or crashed"}
    (usual_seconds, usual), (seconds, answers) = ways[way_of(against)], ways[way_of(plan)]
    parity = compare(trial.page.head, usual, answers)
    times = usual_seconds / max(seconds, 1e-12)
    result = INEXACT if not parity.holds(BOUND[plan.dtype]) else CHOSEN if times >= FASTER else SLOW
    return {**said, "result": result, **asdict(parity), "times_faster": round(times, 2)}


def _ways(trial: _Trial, plans: Sequence[EnginePlan]) -> tuple[dict[str, tuple[float, pa.Table]], int]:
    """({each way that came to its end: (seconds a row of a forward, predictions)}, rows); tried in a child, for a graph may crash.

    The folder that the rows are handed over in is this user's alone, and goes with them.
    """
    torch = any(one.engine == "torch" for one in plans)
    with Apart("attempt", torch=torch) as apart, tempfile.TemporaryDirectory(prefix="meddx-") as name:
        probe, folder = trial.probe(), Path(name)
        with pa.OSFile(str(folder / "probe"), "wb") as file, pa.ipc.new_file(file, probe.schema) as writer:
            writer.write_table(probe)
        ways = {way_of(one): one.page() for one in plans}
        apart.run({"bundle": str(trial.path), "digest": trial.digest, "ways": ways, "probe": str(folder / "probe"), "folder": name})
        lines = (folder / "lines").read_text().splitlines() if (folder / "lines").exists() else []
        told = {one["way"]: float(one["seconds"]) for one in map(json.loads, lines)}
        found = {way: (seconds, pa.ipc.open_file(pa.OSFile(str(folder / f"{way}.arrow"))).read_all()) for way, seconds in told.items()}
        return found, probe.num_rows

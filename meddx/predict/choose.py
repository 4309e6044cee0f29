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
TORCH, EXACT = "torch", "float32"
CHOSEN, INEXACT = "chosen", "not exact enough"


@dataclass(frozen=True)
class _Trial:
    """What is to be tried, and on what; `dtypes` from fast to safe."""

    path: StoragePath
    digest: str
    page: Manifest
    usual: EnginePlan
    probe: Callable[[], pa.Table]
    dtypes: tuple[str, ...]


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

    `probe` gives rows to try with (`draw`); it is called only where there is enough work to pay for a trial.  `dtypes`: what may be tried,
    from fast to safe; None for what the processor has.
    """
    files, digest = read_files(path)
    page = parse_manifest(files[MANIFEST])
    specs = Preparations.from_state(page.inputs).specs()
    usual = plan_of_page(specs, page.predictor)
    if device != "cpu" or not worth_a_trial(page, specs, rows):
        return usual.page()
    try:
        wanted = list(dtypes or (["bfloat16"] if "BF16" in capabilities() else []) + ["float32"])
    except BundleError as error:
        return usual.page() | {TRIAL: {"result": error.what, "next": 'pip install "meddx[fast]"'}}
    return _tried(_Trial(path, digest, page, usual, probe, tuple(wanted)))


def worth_a_trial(page: Manifest, specs: Mapping[str, Mapping[str, Any]], rows: int) -> bool:
    """Whether `rows` rows are so much work that a faster network pays.  Tables never are: preparing them takes longer than the network.

    Tags have no fixed graph, and a user's own code may change while the bundle does not.
    """
    if page.kind != "network" or page.head.kind == "tags" or any(":" in one["kind"] for one in page.predictor["encoders"].values()):
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
    """The first of the dtypes that is as exact as it must be, and faster; the usual plan where none is.

    The first trial of a bundle on a kind of processor holds all ways against torch, on rows and in time, and is kept.  From then on
    the graph in float32, found to be torch's equal, stands for torch, and only the way that was chosen is held against it, on the rows at
    hand: that takes a second and imports no torch.
    """
    known = read_trial(trial.digest, trial.usual)
    found = _first_trial(trial) if known is None or set(known["asked"]) != set(trial.dtypes) else _confirmed(trial, known)
    dtype = found.pop("dtype")
    chosen = trial.usual if dtype is None else replace(trial.usual, engine="openvino", dtype=dtype)
    return chosen.page() | {TRIAL: {"rows": found.get("rows", 0), "seed": SEED, "tried": found["tried"]}}


def _first_trial(trial: _Trial) -> dict[str, Any]:
    asked = list(dict.fromkeys([*trial.dtypes, EXACT]))
    ways, rows = _ways(trial, [TORCH, *asked])
    tried = [_judge(trial.page.head, ways, TORCH, dtype) for dtype in asked] if TORCH in ways else []
    fit = [one["dtype"] for one in tried if one["result"] == CHOSEN and one["dtype"] in trial.dtypes]  # in their order: fast first
    exact = any(one["dtype"] == EXACT and one.get("difference", np.inf) <= BOUND[EXACT] for one in tried)
    found = {"asked": list(trial.dtypes), "dtype": fit[0] if fit else None, "exact": exact, "tried": tried, "rows": rows}
    if tried:
        keep_trial(trial.digest, trial.usual, found)
    return dict(found)


def _confirmed(trial: _Trial, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the first trial found, its choice tried again on these rows."""
    dtype = known["dtype"]
    if dtype in (None, EXACT):
        return dict(known)
    against = EXACT if known["exact"] else TORCH
    ways, rows = _ways(trial, [against, dtype])
    judged = _judge(trial.page.head, ways, against, dtype)
    found = {**known, "tried": [{**judged, "against": against}], "rows": rows}
    if judged["result"] != INEXACT and "difference" in judged:
        return found
    safer = EXACT if any((one["dtype"], one["result"]) == (EXACT, CHOSEN) for one in known["tried"]) else None
    return {**found, "dtype": safer}


def _judge(head: HeadPage, ways: Mapping[str, tuple[float, pa.Table]], against: str, dtype: str) -> dict[str, Any]:
    said = {"engine": "openvino", "dtype": dtype}
    if dtype not in ways or against not in ways:
        return {**said, "result": "it has no graph, or crashed"}
    parity = compare(head, ways[against][1], ways[dtype][1])
    times = ways[against][0] / max(ways[dtype][0], 1e-9)
    result = INEXACT if not parity.holds(BOUND[dtype]) else CHOSEN if times >= FASTER else "not faster"
    return {**said, "result": result, **asdict(parity), "times_faster": round(times, 2)}


def _ways(trial: _Trial, ways: Sequence[str]) -> tuple[dict[str, tuple[float, pa.Table]], int]:
    """({each way that came to its end: (seconds of a forward, predictions)}, rows); tried in a child, for a graph may crash."""
    with (
        Apart("attempt", torch=TORCH in ways) as apart,
        tempfile.TemporaryDirectory(prefix="meddx-") as name,
    ):  # 0700, and gone with the rows
        probe, folder = trial.probe(), Path(name)
        with pa.OSFile(str(folder / "probe"), "wb") as file, pa.ipc.new_file(file, probe.schema) as writer:
            writer.write_table(probe)
        task = {"bundle": str(trial.path), "digest": trial.digest, "ways": list(ways), "probe": str(folder / "probe"), "folder": name}
        apart.run(task | {"plan": trial.usual.page()})
        lines = (folder / "lines").read_text().splitlines() if (folder / "lines").exists() else []
        told = {one["way"]: float(one["seconds"]) for one in map(json.loads, lines)}
        found = {way: (seconds, pa.ipc.open_file(pa.OSFile(str(folder / f"{way}.arrow"))).read_all()) for way, seconds in told.items()}
        return found, probe.num_rows

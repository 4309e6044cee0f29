"""A minimal bundle with the interface of the real one, archives to score, and a command to score them in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meddx.score.bundles import Facts
from meddx.score.options import ScoringOptions
from meddx.storage import StoragePath

HERE = Path(__file__).parent
SCHEMA = pa.schema(
    [
        ("case_id", pa.string()),
        ("patient_id", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("probability", pa.float64()),
        ("decision", pa.string()),
        ("bundle", pa.string()),
    ]
)


@dataclass
class PlainBundle:
    """P = logistic(x); x null -> quarantined; x below -3 -> outside the cohort."""

    digest: str = "aaaaaaaaaaaaaaaa"
    columns: tuple[str, ...] = ("x", "note")

    def schema(self, outputs: tuple[str, ...] = ()) -> pa.Schema:
        return SCHEMA

    def predict(
        self, rows: pa.Table, *, score_outside: bool = False, without: tuple[str, ...] = (), outputs: tuple[str, ...] = (), **more: Any
    ) -> pa.Table:
        time.sleep(float(os.environ.get("SCORING_HELPER_SLEEP", "0")))
        x = rows["x"].to_numpy(zero_copy_only=False).astype(float)
        bad, out = np.isnan(x), x < -3
        hidden = bad | (out & (not score_outside))
        p = 1 / (1 + np.exp(-np.where(bad, 0, x)))
        n = rows.num_rows
        columns = {
            "case_id": rows["case_id"],
            "patient_id": rows["patient_id"],
            "status": pa.array(np.where(bad, "quarantined", np.where(out, "outside_cohort", "scored"))),
            "error": pa.array(["number_missing" if one else None for one in bad], pa.string()),
            "probability": pa.array(p, mask=hidden),
            "decision": pa.array(np.where(p > 0.5, "yes", "no").astype(object), pa.string(), mask=hidden),
            "bundle": pa.array([self.digest] * n),
        }
        return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True)
class PlainBundles:
    """A folder's name is its digest."""

    cohort: str = "all"

    def facts(self, path: StoragePath) -> Facts:
        return Facts(path.name, {"keep": self.cohort}, ("x",), {"batch_rows": 256})

    def choose(self, path: StoragePath, rows: int, some: Any, device: str = "cpu") -> dict[str, Any]:
        return {"batch_rows": 256}

    def load(self, path: StoragePath, engine: Any = None) -> PlainBundle:
        return PlainBundle(digest=path.name)


BUNDLE = StoragePath("/nowhere/aaaaaaaaaaaaaaaa")


def logistic_bundle(path: StoragePath, cases: pa.Table) -> StoragePath:
    """A real bundle: logistic regression on `size` and `site`, for adults."""
    from meddx.dataset.options import CohortOptions
    from meddx.dataset.target import Labels
    from meddx.inputs.options import TableInput
    from meddx.inputs.prepare import fit
    from meddx.models.baselines import fit_baseline
    from meddx.models.options import BaselineOptions
    from meddx.predict.bundle import write_bundle
    from meddx.predict.estimators import EstimatorParts

    head = {"kind": "binary", "classes": ["no", "yes"]}
    preparations = fit({"table": TableInput(kind="table")}, {"table": ["size", "site"]}, cases)
    prepared = preparations.transform(cases)
    sick = (cases["size"].to_numpy() > 0.1).astype(np.float32)
    labels = Labels(sick, np.ones(cases.num_rows, bool))
    estimator = fit_baseline(BaselineOptions(kind="logistic"), preparations.specs(), prepared, labels, head, seed=0)
    write_bundle(
        path,
        name="logistic",
        head=head,
        preparations=preparations,
        predictor=EstimatorParts("logistic", estimator),
        calibration={"kind": "none"},
        threshold={"value": 0.5, "goal": "youden", "confidence": None, "reached": {}},
        cohort=CohortOptions(keep={"adult": "age >= 18"}),
        target={"kind": "binary", "negative": ["no"], "positive": ["yes"]},
        about={},
    )
    return path


def archive(folder: Path, files: int = 3, rows: int = 100, payload: int = 0, seed: int = 0, group: int = 10_000) -> Path:
    """A folder of Parquet: case_id, patient_id, x, and `payload` random bytes a row (they make units large)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        write_file(folder / f"f{seed}-{number}.parquet", rng, f"{seed}-{number}", rows, payload, group)
    return folder


def write_file(path: Path, rng: np.random.Generator, name: str, rows: int, payload: int = 0, group: int = 10_000, **more: Any) -> None:
    columns: dict[str, Any] = {
        "case_id": [f"{name}-{row:05d}" for row in range(rows)],
        "patient_id": [f"p{row // 2}" for row in range(rows)],
        "x": rng.normal(size=rows),
        **more,
    }
    if payload:
        columns["note"] = pa.array([rng.bytes(payload) for _ in range(rows)], pa.binary())
    pq.write_table(pa.table(columns), path, row_group_size=group, write_page_checksum=True)


def options(**more: Any) -> ScoringOptions:
    return ScoringOptions(**{"unit_mb": 1, **more})


def rows_of(out: Path) -> pa.Table:
    """All rows that stand in the parts, in one order."""
    tables = [pq.read_table(path).replace_schema_metadata(None) for path in sorted(out.glob("part-*.parquet"))]
    return pa.concat_tables(tables).sort_by([("unit", "ascending"), ("row", "ascending"), ("case_id", "ascending")])


def total(table: pa.Table, status: str) -> int:
    return int(pc.sum(pc.equal(table["status"], status)).as_py() or 0)


SCRIPT = """
import json, sys
sys.path.insert(0, {here!r})
import scoring_helper as helper
from meddx.score.run import score
from meddx.errors import MeddxError
from meddx.storage import StoragePath
data, out, workers, given = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
try:
    data, out = StoragePath.of(data), StoragePath.of(out)
    score(helper.BUNDLE, data, out, options=helper.options(**given), workers=workers, bundles=helper.PlainBundles())
except MeddxError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def score_in_child(data: Path, out: Path, *, failpoint: str = "", workers: int = 0, given: dict[str, Any] | None = None) -> tuple[int, str]:
    """(exit code, output) of scoring in a process of its own."""
    with start_child(data, out, failpoint=failpoint, workers=workers, given=given) as child:
        said = child.communicate(timeout=120)[0]
    return child.returncode, said


def start_child(
    data: Path, out: Path, *, failpoint: str = "", workers: int = 0, given: dict[str, Any] | None = None, sleep: float = 0
) -> subprocess.Popen[str]:
    """Scoring in a process of its own, with `sleep` seconds before each prediction."""
    environment = {**os.environ, "MEDDX_FAILPOINT": failpoint, "PYTHONPATH": str(HERE), "SCORING_HELPER_SLEEP": str(sleep)}
    command = [sys.executable, "-c", SCRIPT.format(here=str(HERE)), str(data), str(out), str(workers), json.dumps(given or {})]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

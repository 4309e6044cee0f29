"""Rows a second of a baseline over a table of numbers: `meddx score` against a script by hand with `predict_proba` in a process a core.

Whole commands in pairs whose order turns; the median of the ratios with its 95 % interval, wall and CPU seconds (night.py).  Both read the
same Parquet and write the same columns with the same codec; how far their probabilities differ is said at the end.

    python tests/bench/tables.py [--rows 10000000] [--columns 30] [--pairs 5:25] [--kinds logistic boosting] [--tuned] [--missing 0.0]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import joblib
import night
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from watching import Bench

from meddx.dataset.options import CohortOptions
from meddx.dataset.target import Labels
from meddx.inputs.options import TableInput
from meddx.inputs.prepare import fit
from meddx.models.baselines import fit_baseline
from meddx.models.options import BaselineOptions
from meddx.predict.bundle import write_bundle
from meddx.predict.estimators import EstimatorParts
from meddx.storage import StoragePath

HEAD = {"kind": "binary", "classes": ["no", "yes"]}
GROUP, FILE = 65_536, 1_310_720  # rows of a row group, and of a file
HERE = Path(__file__).parent


def cases(rows: int, columns: int, missing: float, first: int = 0) -> pa.Table:
    """Numbers in units of their own, so that scaling is work for both; the same rows for the same `first`."""
    rng = np.random.default_rng([first, columns])
    x = rng.normal(size=(columns, rows)).astype(np.float32) * 12 + 40
    gone = rng.random((columns, rows), np.float32) < missing if missing else [None] * columns
    ids = {"case_id": [f"c{row:08d}" for row in range(first, first + rows)]}
    ids["patient_id"] = [f"p{row // 2:08d}" for row in range(first, first + rows)]
    return pa.table(ids | {f"x{place}": pa.array(x[place], mask=gone[place]) for place in range(columns)})


def archive(folder: Path, rows: int, columns: int, missing: float) -> night.Archive:
    """Made once, and again where it was asked for otherwise."""
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, first in enumerate(range(0, rows, FILE)):
            made = cases(min(FILE, rows - first), columns, missing, first)
            pq.write_table(made, folder / f"{number:04d}.parquet", row_group_size=GROUP, compression="zstd", use_dictionary=False)
        done.touch()
    return night.Archive(str(folder), rows)


def models(kind: str, folder: Path, columns: int, missing: float) -> tuple[Path, Path]:
    """(a bundle, the same model as a user has it): fitted on the same 20,000 rows, the second straight from the columns."""
    train = cases(20_000, columns, missing, 1 << 40)
    names = [f"x{place}" for place in range(columns)]
    raw = np.stack([train[name].to_numpy() for name in names], 1)
    x = np.nan_to_num((raw[:, :3] - 40) / 12)
    sick = x[:, 0] + x[:, 1] * x[:, 2] + np.random.default_rng(2).normal(size=len(x)) > 0
    preparations = fit({"table": TableInput(kind="table")}, {"table": names}, train)
    labels, prepared = Labels(sick.astype(np.float32), np.ones(len(sick), bool)), preparations.transform(train)
    made = fit_baseline(BaselineOptions(kind=kind, trials=1), preparations.specs(), prepared, labels, HEAD, seed=0)  # type: ignore[arg-type]
    shutil.rmtree(folder / kind, ignore_errors=True)
    write_bundle(
        StoragePath.of(folder / kind), name=kind, head=HEAD, preparations=preparations, predictor=EstimatorParts(kind, made),
        calibration={"kind": "none"}, threshold={"value": 0.5, "goal": "youden", "confidence": None, "reached": {}}, cohort=CohortOptions(),
        target={"kind": "binary", "negative": ["no"], "positive": ["yes"]}, about={},
    )  # fmt: skip
    own = clone(made.steps[-1][1])
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), own)
    by_hand = scaled if isinstance(own, LogisticRegression) else own
    joblib.dump(by_hand.fit(raw, sick), folder / f"{kind}.joblib")
    return folder / kind, folder / f"{kind}.joblib"


def compare(kind: str, asked: argparse.Namespace, data: night.Archive) -> dict[str, Any]:
    bundle, model = models(kind, asked.scratch, asked.columns, asked.missing)
    ours = f"{{python}} -m meddx score {bundle} {{data}} --out {{out}}"
    by_hand = f"{{python}} {HERE / 'tables_by_hand.py'} {model} {{data}} {{out}}" + (" --tuned" if asked.tuned else "")
    bench = Bench((asked.scratch / "runs").absolute(), asked.scratch / "log")
    page = argparse.Namespace(
        a=ours, b=by_hand, data=data, small=None, large=None, pairs=asked.pairs, width=asked.width, target=asked.target
    )
    print(f"{kind}: a is `meddx score`, b the script by hand", flush=True)
    found = night.ratio(page, bench)
    said = {name: _answers(bench, command, data, asked.scratch / "runs/out") for name, command in (("ours", ours), ("by hand", by_hand))}
    apart = np.abs(said["ours"] - said["by hand"])
    print(f"{kind}: probabilities differ by {apart.max():.1e} at most, {np.median(apart):.1e} in the middle\n", flush=True)
    return found


def _answers(bench: Bench, command: str, data: night.Archive, out: Path) -> np.ndarray:
    """The probabilities of a command, ordered by case."""
    bench.run(command, data.path)
    parts = sorted(out.glob("*.parquet"))
    table = pa.concat_tables(pq.read_table(part, columns=["case_id", "probability"]) for part in parts)
    return table.sort_by("case_id")["probability"].to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--pairs", default="5:25", help="least:most")
    parser.add_argument("--width", type=float, default=0.04, help="half of the interval at which it is enough")
    parser.add_argument("--target", type=float, default=0.9)
    parser.add_argument("--kinds", nargs="+", choices=("logistic", "boosting"), default=("logistic", "boosting"))
    parser.add_argument("--missing", type=float, default=0.0, help="share of values that are missing")
    parser.add_argument("--tuned", action="store_true", help="the script writes with meddx' settings")
    parser.add_argument("--scratch", type=Path, default=Path("runs/bench/tables"))
    asked = parser.parse_args()
    asked.scratch = asked.scratch.absolute()
    data = archive(asked.scratch / f"data-{asked.rows}-{asked.columns}-{asked.missing}", asked.rows, asked.columns, asked.missing)
    for kind in asked.kinds:
        compare(kind, asked, data)


if __name__ == "__main__":
    sys.exit(main())

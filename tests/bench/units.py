"""A number of units in, an archive that is cut into so many, out; and the run that scores it: for what a finished run costs.

Each row group is 1 MB before compression and next to nothing on disk, eight rows of one number, so that scoring is soon done.

    python tests/bench/units.py make FOLDER 1000                         writes FOLDER/units-1000 and FOLDER/logistic
    python tests/bench/units.py score BUNDLE DATA OUT                    DATA and OUT: folders or s3://BUCKET/PREFIX

It says at the end which heavy packages were imported.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meddx.score.options import ScoringOptions
from meddx.score.run import score
from meddx.storage import StoragePath

ROWS, UNIT, GROUPS_A_FILE = 8, 1 << 20, 500
HEAVY = ("torch", "ray", "sklearn", "openvino")


def make(folder: Path, units: int) -> None:
    target = folder / f"units-{units}"
    target.mkdir(parents=True)
    filler = "x" * (UNIT // ROWS)
    for start in range(0, units, GROUPS_A_FILE):
        with pq.ParquetWriter(
            target / f"rows-{start:06d}.parquet", _group(0, filler).schema, compression="zstd", use_dictionary=False
        ) as file:
            for unit in range(start, min(start + GROUPS_A_FILE, units)):
                file.write_table(_group(unit, filler))
    if not (folder / "logistic").exists():
        write_bundle_to(folder / "logistic")


def _group(unit: int, filler: str) -> pa.Table:
    ids = [f"c{row:08d}" for row in range(unit * ROWS, (unit + 1) * ROWS)]
    return pa.table({"case_id": ids, "x": np.linspace(-2, 2, ROWS), "filler": [filler] * ROWS})


def write_bundle_to(path: Path) -> None:
    from meddx.dataset.options import CohortOptions
    from meddx.dataset.target import Labels
    from meddx.inputs.options import TableInput
    from meddx.inputs.prepare import fit
    from meddx.models.baselines import fit_baseline
    from meddx.models.options import BaselineOptions
    from meddx.predict.bundle import write_bundle
    from meddx.predict.estimators import EstimatorParts

    rng, head = np.random.default_rng(0), {"kind": "binary", "classes": ["no", "yes"]}
    x = rng.normal(size=500)
    train = pa.table({"case_id": [f"t{row}" for row in range(500)], "x": x})
    preparations = fit({"table": TableInput(kind="table")}, {"table": ["x"]}, train)
    labels = Labels((x + rng.normal(size=500) > 0).astype(np.float32), np.ones(500, bool))
    options = BaselineOptions(kind="logistic", trials=1)
    made = fit_baseline(options, preparations.specs(), preparations.transform(train), labels, head, seed=0)
    write_bundle(
        StoragePath.of(path), name="logistic", head=head, preparations=preparations, predictor=EstimatorParts("logistic", made),
        calibration={"kind": "none"}, threshold={"value": 0.5, "goal": "youden", "confidence": None, "reached": {}}, cohort=CohortOptions(),
        target={"kind": "binary", "negative": ["no"], "positive": ["yes"]}, about={},
    )  # fmt: skip


def main() -> None:
    what, *places = sys.argv[1:]
    if what == "make":
        make(Path(places[0]), int(places[1]))
        return
    bundle, data, out = map(StoragePath.of, places)
    score(bundle, data, out, options=ScoringOptions(unit_mb=1), guard=True)
    print(f"imported here: {', '.join(name for name in HEAVY if name in sys.modules) or 'none of ' + ', '.join(HEAVY)}")


if __name__ == "__main__":
    main()

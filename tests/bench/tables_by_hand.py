"""A fitted scikit-learn model and Parquet in, predictions out, as one would write it by hand: a process a core.  Of meddx not a line.

Each process answers every n-th row group with one `predict_proba` and writes the columns that meddx writes, with the same codec and
page checksums.  It tries nothing twice, checks no id, quarantines nothing, and when it is killed it begins anew.

    python tests/bench/tables_by_hand.py MODEL.joblib DATA OUT [--tuned]

`--tuned` gives it the writer's settings that were found to be the best for meddx.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core: threads would only meet

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn.ensemble
import sklearn.pipeline  # noqa: F401  (once, before there are several processes)

IDS = ["case_id", "patient_id"]
BUNDLE = "0123456789abcdef"
WORDS = ["status", "error", "decision", "bundle", "unit"]


def answer(model: Any, batch: pa.RecordBatch, names: list[str], unit: str, first: int) -> pa.Table:
    """A group's ids and what is said of each row."""
    x = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names], axis=1)
    chance = model.predict_proba(x)[:, 1]
    count = len(chance)
    return pa.table({
        "case_id": batch.column("case_id"),
        "patient_id": batch.column("patient_id"),
        "status": pa.repeat("scored", count),
        "error": pa.nulls(count, pa.string()),
        "probability": chance,
        "decision": np.where(chance >= 0.5, "yes", "no"),
        "bundle": pa.repeat(BUNDLE, count),
        "unit": pa.repeat(unit, count),
        "row": np.arange(first, first + count),
    })  # fmt: skip


def work(model: Any, files: list[Path], out: Path, place: int, places: int, tuned: bool) -> None:
    """Every `places`-th row group of all files, into one file."""
    settings = {"use_dictionary": WORDS, "write_statistics": [*WORDS, "probability", "row"]} if tuned else {}
    writer, number = None, 0
    for file in files:
        source = pq.ParquetFile(file, memory_map=True)
        names = [name for name in source.schema_arrow.names if name not in IDS]
        first = 0
        for group in range(source.num_row_groups):
            rows = source.metadata.row_group(group).num_rows
            if number % places == place:
                for batch in source.iter_batches(rows, row_groups=[group], use_threads=False):
                    table = answer(model, batch, names, f"{number:016x}", first)
                    writer = writer or pq.ParquetWriter(
                        out / f"part-{place}.parquet", table.schema, compression="zstd", write_page_checksum=True, **settings
                    )
                    writer.write_table(table)
            number, first = number + 1, first + rows
    if writer:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--tuned", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    model, files, places = joblib.load(asked.model), sorted(asked.data.glob("*.parquet")), len(os.sched_getaffinity(0))
    started = []
    for place in range(places):
        if not (child := os.fork()):
            work(model, files, asked.out, place, places, asked.tuned)
            os._exit(0)
        started.append(child)
    sys.exit(max(os.waitpid(child, 0)[1] for child in started) and 1)


if __name__ == "__main__":
    main()

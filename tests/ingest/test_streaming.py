"""Memory does not grow with the file, and a file can be read alone: what a cluster will do later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from meddx.ingest.find import find
from meddx.ingest.opened import open_reader
from meddx.ingest.options import SourceOptions

PROGRAM = """
import sys
from pathlib import Path
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.run import ingest
from meddx.storage import StoragePath
made = ingest(SourceOptions(path=sys.argv[1]), CaseOptions(id="id", patient="@case"), (), StoragePath.of(sys.argv[2]))
assert made["counts"]["quarantined"] == 0
status = Path("/proc/self/status").read_text()  # not ru_maxrss, which a child takes over from its parent
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def write_large(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with pacsv.CSVWriter(path, pa.schema([("id", pa.int64()), ("a", pa.float64()), ("b", pa.float64()), ("t", pa.string())])) as out:
        for start in range(0, rows, 50_000):
            texts = [f"a note of some words, number {i}" for i in rng.integers(0, 10**9, 50_000)]
            out.write(
                pa.table({"id": np.arange(start, start + 50_000), "a": rng.normal(size=50_000), "b": rng.normal(size=50_000), "t": texts})
            )


def peak_of(path: Path, out: Path) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path), str(out)], capture_output=True, text=True, check=True, timeout=120)
    return int(done.stdout)


def test_five_times_the_file_is_not_more_memory(tmp_path):
    """Measured: 9 MB gave a peak of 216 MB, 42 MB 252, 83 MB 289, 335 MB 396 (16 bytes an id, the rest is the allocator)."""
    peaks = []
    for rows in (100_000, 500_000):
        path = tmp_path / f"{rows}.csv"
        write_large(path, rows)
        peaks.append(peak_of(path, tmp_path / f"out-{rows}"))
    assert path.stat().st_size > 40 << 20
    assert peaks[1] < 450
    assert peaks[1] - peaks[0] < 80, peaks


def test_units_may_be_read_alone_and_in_any_order(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.csv").write_text(f"id,x\n{i}0,{i}\n{i}1,{i}.5\n")
    source = SourceOptions(path=str(tmp_path))
    reader = open_reader(find(source), source, ["id"], {})
    assert [unit.offset for unit in reader.units] == [0, 2, 4]
    alone = {
        unit.name: [row for block in reader.read_unit(unit) for row in block.table.to_pylist()] for unit in reversed(list(reader.units))
    }
    assert alone["1.csv"] == [{"id": "10", "x": 1.0}, {"id": "11", "x": 1.5}]

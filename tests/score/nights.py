"""An archive and an output, in a folder or on S3, and jobs on them: in this process, in a child that dies, or one that is paused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scoring_helper as helper

from meddx import failpoints
from meddx.score.audit import read_predictions, verify
from meddx.score.books import Books
from meddx.score.ledger import part_name
from meddx.score.plan import Plan
from meddx.score.run import score
from meddx.storage import StoragePath

SECONDS = 60  # a child that takes longer is lost
SMALL, LARGE = ("a", "b", "c", "d"), "large"  # a and b are one unit, c and d another, the large file is two
FILES = (*SMALL, LARGE)
UNITS = 4
EMPTY = 99  # the version of a file without rows
SCRIPT = """
import json, sys
sys.path.insert(0, {here!r})
import scoring_helper as helper
from meddx.score.run import score
from meddx.errors import MeddxError
from meddx.storage import StoragePath
{twin}
data, out, update, how = StoragePath.of(sys.argv[1]), StoragePath.of(sys.argv[2]), bool(sys.argv[3]), json.loads(sys.argv[4])
try:
    score(helper.BUNDLE, data, out, options=helper.options(), bundles=helper.PlainBundles(), update=update, **how)
except MeddxError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def rows_in(name: str, version: int) -> int:
    return 0 if version == EMPTY else 100 if name.startswith(LARGE) else 32


def content(name: str, version: int = 0) -> bytes:
    """A file of the archive: its ids name file, version and row, so that no two rows of two versions are alike."""
    rng, sink = np.random.default_rng([*name.encode(), version]), pa.BufferOutputStream()
    rows = rows_in(name, version)
    columns = {
        "case_id": [f"{name}.{version}.{row}" for row in range(rows)],
        "patient_id": [f"p{row // 2}" for row in range(rows)],
        "x": np.where(np.arange(rows) % 16 == 3, np.nan, rng.normal(size=rows)),
        "note": pa.array([bytes(16_000)] * rows, pa.binary()),  # large before compression, which is what a unit is cut by
    }
    pq.write_table(pa.table(columns), sink, row_group_size=50, write_page_checksum=True, compression="zstd", use_dictionary=False)
    return sink.getvalue().to_pybytes()


@dataclass
class Job:
    """Scoring in a process of its own, paused at `point`, where it has one."""

    process: subprocess.Popen[str]
    point: str
    gate: Path

    def wait_for_pause(self) -> Job:
        until = time.monotonic() + SECONDS
        while not (self.gate / f"{self.point}.reached").exists():
            assert self.process.poll() is None and time.monotonic() < until, f"{self.point} was not reached: {self.end()[1]}"
            time.sleep(0.01)
        return self

    def let_go(self) -> None:
        (self.gate / f"{self.point}.go").touch()

    def release(self) -> tuple[int, str]:
        self.let_go()
        return self.end()

    def end(self, seconds: float = SECONDS) -> tuple[int, str]:
        """(exit code, what it said)."""
        try:
            said = self.process.communicate(timeout=seconds)[0]
        finally:
            self.process.kill()
        return self.process.returncode, said


@dataclass
class Night:
    place: StoragePath
    scratch: Path
    versions: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    variables: dict[str, str] = field(default_factory=dict)  # of the jobs, beside those of this process
    before: tuple[str, ...] = ()  # a command that runs the jobs elsewhere

    @property
    def data(self) -> StoragePath:
        return self.place / "d"

    @property
    def out(self) -> StoragePath:
        return self.place / "o"

    def put(self, *names: str, version: int = 0) -> Night:
        for name in names:
            (self.data / f"{name}.parquet").replace(content(name, version))
            self.versions[name] = version
        return self

    def drop(self, *names: str) -> Night:
        for name in names:
            (self.data / f"{name}.parquet").delete()
            del self.versions[name]
        return self

    def run(self, *, update: bool = False) -> tuple[Books, list[str]]:
        lines: list[str] = []
        options, bundles = helper.options(max_rejected=1.0), helper.PlainBundles()
        books = score(helper.BUNDLE, self.data, self.out, options=options, bundles=bundles, log=lines.append, update=update)
        return books, lines

    def start(self, failpoint: str = "", *, update: bool = False, twin: str = "", **how: Any) -> Job:
        """`failpoint`: `name` kills, `name:count:wait` pauses.  `how`: workers, address, guard; else in that process."""
        self.jobs += 1
        gate = self.scratch / f"gate{self.jobs}"
        gate.mkdir(parents=True)
        own = {failpoints.VARIABLE: failpoint, failpoints.GATE: str(gate), "PYTHONPATH": os.pathsep.join(sys.path)}
        environment = {**os.environ, **own, **self.variables}
        script = SCRIPT.replace("helper.options()", "helper.options(max_rejected=1.0)").format(here=str(Path(__file__).parent), twin=twin)
        command = [*self.before, sys.executable, "-c", script, str(self.data), str(self.out), "update" if update else "", json.dumps(how)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return Job(process, failpoint.partition(":")[0], gate)

    def pause(self, point: str, *, update: bool = False, twin: str = "", **how: Any) -> Job:
        """A job that waits at `name`, or at `name:count`."""
        name, _, count = point.partition(":")
        return self.start(f"{name}:{count or 1}:wait", update=update, twin=twin, **how).wait_for_pause()

    def parts(self) -> dict[str, bytes]:
        return {info.path.name: info.path.read_bytes() for info in self.out.list(".parquet", recursive=False)}

    def ids(self) -> list[str]:
        """Every row that a reader of the folder sees."""
        tables = [pq.read_table(pa.BufferReader(data), columns=["case_id"]) for data in self.parts().values()]
        return sorted(one for table in tables for one in table["case_id"].to_pylist())

    def expected(self) -> list[str]:
        return sorted(f"{name}.{version}.{row}" for name, version in self.versions.items() for row in range(rows_in(name, version)))

    def check(self) -> None:
        """The books hold, no row is missing or double, and the values are those of an undisturbed run, to the byte."""
        assert self.ids() == self.expected()
        verify(self.out)
        assert values(self.out) == undisturbed(tuple(sorted(self.versions.items())))


@cache
def undisturbed(versions: tuple[tuple[str, int], ...]) -> bytes:
    """The rows of an archive, scored in a folder without any trouble."""
    with tempfile.TemporaryDirectory() as place:
        night = Night(StoragePath.of(place), Path(place))
        for name, version in versions:
            night.put(name, version=version)
        night.run()
        return values(night.out)


def killed_and_resumed(night: Night, point: str) -> None:
    """Killed at a failpoint, gone on with by a plain run, and compared with a run that nobody disturbed."""
    night.put(*FILES)
    retires = point.startswith("half_retired")
    if retires:
        night.run()
        night.put("a", "c", version=1)
    code, said = night.start(point, update=retires).end()
    assert code == failpoints.EXIT_CODE, f"{point} was not reached: {said}"
    before = night.parts()
    _, lines = night.run()
    after = night.parts()
    plan = Plan.load(night.out)
    assert plan is not None and bool(plan.retired) == retires
    kept = {name: data for name, data in before.items() if name in map(part_name, plan.units)}
    assert {name: after[name] for name in kept} == kept  # what stands is not made again
    assert len(before) - len(kept) == retires  # one of two retired parts was gone
    left = UNITS - len(kept)
    assert lines[0].startswith("nothing to do" if point == "finished" else f"units to do {left} of {UNITS}")
    night.check()


def values(out: StoragePath) -> bytes:
    """All rows in one order, without the unit, which names the plan and not the row."""
    table = read_predictions(out).drop_columns(["unit"]).sort_by("case_id").combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()

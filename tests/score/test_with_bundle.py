"""A real bundle, through the real door: the same answers as `Bundle.predict`, and a finished run without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import BundleError, OutputError
from meddx.score.audit import read_predictions, verify
from meddx.score.bundles import BundleFolders
from meddx.score.run import check, score
from meddx.storage import StoragePath

IMPORTS = """
import sys
from meddx.score.options import ScoringOptions
from meddx.score.run import score
from meddx.storage import StoragePath
bundle, data, out = map(StoragePath.of, sys.argv[1:])
score(bundle, data, out, options=ScoringOptions())
print([name for name in ("torch", "ray", "sklearn", "skops") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def cases() -> pa.Table:
    rng = np.random.default_rng(0)
    n = 400
    ages = np.where(np.arange(n) % 10 == 0, 10.0, 50.0)
    sites = rng.choice(["north", "south"], n).tolist()
    size = rng.normal(size=n)
    ids = [f"c{row:04d}" for row in range(n)]
    return pa.table({"case_id": ids, "patient_id": ids, "size": size, "site": sites, "age": ages})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, cases: pa.Table) -> StoragePath:
    return helper.logistic_bundle(StoragePath.of(tmp_path_factory.mktemp("bundle") / "logistic"), cases)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cases: pa.Table) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number in range(4):
        pq.write_table(cases.slice(100 * number, 100), folder / f"part-{number}.parquet", write_page_checksum=True)
    return folder


def test_scores_are_those_of_the_bundle(tmp_path: Path, bundle: StoragePath, data: Path, cases: pa.Table) -> None:
    from meddx.predict.bundle import Bundle

    out = StoragePath.of(tmp_path / "o")
    books = score(bundle, StoragePath.of(data), out, options=helper.options())
    assert (books.read, books.counts.scored, books.counts.outside) == (400, 360, 40)
    expected = Bundle.load(bundle).predict(cases)
    found = read_predictions(out).sort_by("case_id")
    assert found.select(expected.column_names).equals(expected.replace_schema_metadata(None))
    verify(out)
    assert "expected: nothing to do" in check(bundle, StoragePath.of(data), out, helper.options())


def test_outside_rows_are_scored_where_the_rules_say_so(tmp_path: Path, bundle: StoragePath, data: Path) -> None:
    out = StoragePath.of(tmp_path / "o")
    books = score(bundle, StoragePath.of(data), out, options=helper.options(outside_cohort="score"))
    assert books.counts.outside == 40 and read_predictions(out)["probability"].null_count == 0
    with pytest.raises(OutputError, match="scoring.outside_cohort differs"):
        score(bundle, StoragePath.of(data), out, options=helper.options())


def test_a_finished_run_imports_neither_torch_nor_ray(tmp_path: Path, bundle: StoragePath, data: Path) -> None:
    out = tmp_path / "o"
    for said in ("units to do", "nothing to do"):
        command = [sys.executable, "-c", IMPORTS, str(bundle), str(data), str(out)]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
        assert lines[0].startswith(said)
    assert lines[-1] == "[]"


def test_the_facts_are_those_of_the_loaded_bundle(bundle: StoragePath) -> None:
    from meddx.predict.bundle import Bundle

    facts, loaded = BundleFolders().facts(bundle), Bundle.load(bundle)
    assert facts.digest == loaded.digest and facts.cohort == loaded.cohort.model_dump(mode="json")
    assert facts.required == facts.columns == loaded.columns == ("size", "site", "age") and facts.engine == loaded.plan.page()


def test_a_damaged_bundle_is_refused_before_anything_is_written(tmp_path: Path, bundle: StoragePath, data: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(bundle.uri).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    model = copy / "model.skops"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        score(StoragePath.of(copy), StoragePath.of(data), StoragePath.of(tmp_path / "o"), options=helper.options())
    assert not (tmp_path / "o").exists()

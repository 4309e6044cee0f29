"""Scoring on Ray: the same rows as without it, on 1 and 2 CPUs, and what a broken worker is called."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from meddx.errors import BundleError, ClusterError
from meddx.score.audit import verify
from meddx.score.run import score
from meddx.storage import StoragePath

pytestmark = pytest.mark.ray
HELPERS = Path(__file__).parents[1] / "score"


@pytest.fixture(scope="module")
def helper() -> Any:
    """The helpers of tests/score, sent to the workers by value."""
    import ray.cloudpickle

    spec = importlib.util.spec_from_file_location("scoring_helper", HELPERS / "scoring_helper.py")
    assert spec and spec.loader
    module = sys.modules.get("scoring_helper") or importlib.util.module_from_spec(spec)
    if "scoring_helper" not in sys.modules:
        sys.modules["scoring_helper"] = module
        spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)
    return module


def run(helper: Any, data: Path, out: Path, workers: int, bundles: Any = None) -> Any:
    place = StoragePath.of(out)
    return score(
        helper.BUNDLE, StoragePath.of(data), place, options=helper.options(), workers=workers, bundles=bundles or helper.PlainBundles()
    )


@pytest.fixture(scope="module")
def data(helper: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = helper.archive(tmp_path_factory.mktemp("archive"), files=3, rows=200, payload=8000, group=50)
    return place


def test_two_workers_score_what_no_worker_scores(ray_cluster: None, helper: Any, data: Path, tmp_path: Path) -> None:
    here = run(helper, data, tmp_path / "here", 0)
    there = run(helper, data, tmp_path / "there", 2)  # both CPUs of the cluster: a pool that waits for reading tasks would hang
    assert there.counts == here.counts and there.units == 6 and verify(StoragePath.of(tmp_path / "there"))
    assert helper.rows_of(tmp_path / "there").equals(helper.rows_of(tmp_path / "here"))


def test_more_workers_than_cpus_finish_too(ray_cluster: None, helper: Any, data: Path, tmp_path: Path) -> None:
    assert run(helper, data, tmp_path / "o", 5).exit_code == 0


def test_only_what_is_left_is_done(ray_cluster: None, helper: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(helper, data, tmp_path / "o", 0)
    whole = helper.rows_of(tmp_path / "o")
    for part in sorted((tmp_path / "o").glob("part-*"))[:2]:
        part.unlink()
    capsys.readouterr()
    run(helper, data, tmp_path / "o", 1)
    assert capsys.readouterr().out.startswith("units to do 2 of 6, rows 200 of 600; 1 Ray workers\n")
    assert helper.rows_of(tmp_path / "o").equals(whole)


def test_a_worker_that_cannot_start_is_named(ray_cluster: None, helper: Any, data: Path, tmp_path: Path) -> None:
    class Unreachable(helper.PlainBundles):  # type: ignore[misc, name-defined]
        def load(self, path: StoragePath, engine: Any = None) -> Any:
            raise BundleError("there is no finished bundle here")

    with pytest.raises(ClusterError, match="BundleError: there is no finished bundle here") as caught:
        run(helper, data, tmp_path / "o", 1, Unreachable())
    assert "reachable from every node" in caught.value.next_step


def test_one_cpu_and_a_worker_that_dies_again_and_again(helper: Any, data: Path, tmp_path: Path) -> None:
    """A cluster of its own with one CPU; every process of the pool dies when it has published its second part."""
    code, said = helper.score_in_child(data, tmp_path / "o", failpoint="published:2", workers=1)
    assert code == 0, said
    assert "units 6 of 6" in said and verify(StoragePath.of(tmp_path / "o"))

"""A baseline is scored by a child a core: the same rows as by one, each once; one that dies does not disturb the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import poison_helper as poison
import pytest
import scoring_helper as helper

from meddx.errors import IncompleteError
from meddx.score import lanes
from meddx.score.guard import Guard
from meddx.score.run import score
from meddx.score.units import Piece, Unit
from meddx.storage import StoragePath

WEIGHT = lanes.LANE_BYTES


def run(data: Path, out: Path, bundles: Any = None, **more: Any) -> Any:
    given = helper.options(max_rejected=0.5)
    bundles = bundles or helper.PlainBundles()
    place = StoragePath.of(out)
    return score(helper.BUNDLE, StoragePath.of(data), place, options=given, log=lambda _: None, bundles=bundles, guard=True, **more)


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> list[Guard]:
    """All that were made; two lanes, however little there is to do."""
    made: list[Guard] = []

    class Listed(Guard):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            made.append(self)

    monkeypatch.setattr("meddx.score.run.Guard", Listed)
    monkeypatch.setattr("meddx.score.run.count_lanes", lambda kind, tasks: 2)
    return made


def tasks(count: int, weight: int) -> list[tuple[Unit, ...]]:
    return [(Unit(str(place), (Piece("f", "v", 0, 1),), weight),) for place in range(count)]


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "cores", lambda: 4)
    assert lanes.count("estimator", tasks(100, WEIGHT)) == 4
    assert lanes.count("estimator", tasks(3, 2 * WEIGHT)) == 3  # a task is one process's
    assert lanes.count("estimator", tasks(100, WEIGHT // 100 - 1)) == 1  # not worth the start of another
    assert lanes.count("network", tasks(100, WEIGHT)) == lanes.count("estimator", []) == 1


def test_the_environment_may_say_fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meddx.score.device.cpus", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert lanes.cores() == 1


@pytest.mark.slow
def test_the_same_rows_as_in_one_lane(tmp_path: Path, guards: list[Guard]) -> None:
    data = helper.archive(tmp_path / "d", files=6, rows=200, payload=8000)
    books = run(data, tmp_path / "o")
    here = score(helper.BUNDLE, StoragePath.of(data), StoragePath.of(tmp_path / "here"), options=helper.options(max_rejected=0.5),
                 log=lambda _: None, bundles=helper.PlainBundles())  # fmt: skip
    assert helper.rows_of(tmp_path / "o").equals(helper.rows_of(tmp_path / "here")) and books.counts == here.counts
    assert [one.starts for one in guards] == [1, 1]
    assert run(data, tmp_path / "o") == books


@pytest.mark.slow
def test_a_row_that_kills_is_known_though_two_are_at_work(tmp_path: Path, guards: list[Guard]) -> None:
    acts = {130: "segfault", 777: "end"}
    data = poison.archive(tmp_path / "d", acts, files=5)
    books = run(data, tmp_path / "o", poison.PoisonBundles())
    assert poison.poisoned(helper.rows_of(tmp_path / "o")) == {poison.case(row): poison.REASONS[act] for row, act in acts.items()}
    assert books.counts.quarantined == 2 and sum(one.starts for one in guards) == 2 + 2 * 4  # as each would cost alone


@pytest.mark.slow
def test_who_stops_the_job_leaves_no_child(tmp_path: Path, guards: list[Guard], monkeypatch: pytest.MonkeyPatch) -> None:
    """The breaker ends it while both lanes are at work."""
    data = helper.archive(tmp_path / "d", files=6, rows=200, payload=8000)

    def stop(*_: Any) -> None:
        raise IncompleteError("stopped", "", "")

    monkeypatch.setattr("meddx.score.runner.Breaker.see", stop)
    monkeypatch.setenv("SCORING_HELPER_SLEEP", "0.3")
    with pytest.raises(IncompleteError, match="stopped"):
        run(data, tmp_path / "o")
    assert len(guards) == 2
    for one in guards:
        with pytest.raises(IncompleteError, match="the job was stopped"):
            one._nursery.start()
    monkeypatch.undo()
    assert run(data, tmp_path / "o").counts.rows == 1200

"""A marker stands while a unit is decoded, and is nothing but a hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import scoring_helper as helper

from meddx import failpoints
from meddx.errors import StorageError
from meddx.score import ledger, markers
from meddx.score.audit import verify
from meddx.score.plan import Plan
from meddx.score.run import score
from meddx.storage import StoragePath


@pytest.fixture
def out(tmp_path: Path) -> StoragePath:
    return StoragePath.of(tmp_path / "o")


def test_begun_found_and_ended(out: StoragePath) -> None:
    assert markers.found(out) == set()
    markers.begin(out, "u1", "token")
    markers.begin(out, "u2", "token")
    markers.begin(out, "u1", "another")  # two attempts of one unit: one marker
    assert markers.found(out) == {"u1", "u2"}
    markers.end(out, "u1")
    markers.end(out, "u1")
    assert markers.found(out) == {"u2"}
    markers.sweep(out)
    assert markers.found(out) == set()


def test_the_ledger_and_the_plan_do_not_see_them(out: StoragePath) -> None:
    markers.begin(out, "u1", "token")
    assert ledger.list_parts(out) == [] and Plan.load(out) is None


def test_a_marker_that_cannot_be_removed_stops_nothing(out: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: StoragePath) -> None:
        raise StorageError("no answer")

    markers.begin(out, "u1", "token")
    monkeypatch.setattr(StoragePath, "delete", fail)
    markers.end(out, "u1")
    assert markers.found(out) == {"u1"}


def test_a_marker_stands_while_its_unit_is_scored_and_no_longer(tmp_path: Path, out: StoragePath) -> None:
    seen: list[set[str]] = []

    class Looking(helper.PlainBundle):
        def predict(self, rows: pa.Table, **wishes: object) -> pa.Table:
            seen.append(markers.found(out))
            return super().predict(rows)

    class Given(helper.PlainBundles):
        def load(self, path: StoragePath, engine: Any = None) -> helper.PlainBundle:
            return Looking(digest=path.name)

    data = helper.archive(tmp_path / "d", files=2, rows=200, payload=8000, group=50)
    score(helper.BUNDLE, StoragePath.of(data), out, options=helper.options(), log=lambda _: None, bundles=Given())
    assert {len(one) for one in seen} == {1} and len(set.union(*seen)) == 4
    assert markers.found(out) == set()


@pytest.mark.slow
def test_killed_right_after_the_marker_and_resumed(tmp_path: Path, out: StoragePath) -> None:
    data = helper.archive(tmp_path / "d", files=2, rows=200, payload=8000, group=50)
    code, said = helper.score_in_child(data, Path(out.uri), failpoint="marker:2")
    assert code == failpoints.EXIT_CODE, said
    assert len(markers.found(out)) == 1 and len(ledger.list_parts(out)) == 1
    markers.begin(out, "a unit that is done or gone", "token")
    books = score(helper.BUNDLE, StoragePath.of(data), out, options=helper.options(), log=lambda _: None, bundles=helper.PlainBundles())
    assert books.counts.quarantined == 0 and verify(out)[-1] == books.line and markers.found(out) == set()

"""Killed at every step boundary, resumed, and compared with a run that nobody disturbed."""

from __future__ import annotations

from pathlib import Path

import nights
import pyarrow as pa
import pytest
import scoring_helper as helper

from meddx import failpoints
from meddx.score.run import score
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

POINTS = [*failpoints.NAMES, "half_unit:4", "published:4"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """An archive of 4 units, and all its rows from a run without a kill."""
    place = tmp_path_factory.mktemp("archive")
    data = helper.archive(place / "d", files=2, rows=200, payload=8000, group=50)
    resume(data, place / "o")
    return data, helper.rows_of(place / "o")


def resume(data: Path, out: Path) -> list[str]:
    lines: list[str] = []
    place = StoragePath.of(out)
    score(helper.BUNDLE, StoragePath.of(data), place, options=helper.options(), log=lines.append, bundles=helper.PlainBundles())
    return lines


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_resumed_is_as_if_never_killed(tmp_path: Path, point: str) -> None:
    nights.killed_and_resumed(nights.Night(StoragePath.of(tmp_path), tmp_path / "gates"), point)


def test_killed_again_and_again(tmp_path: Path, undisturbed: tuple[Path, pa.Table]) -> None:
    data, expected = undisturbed
    for point in ("planned", "published", "before_publish", "before_finish"):
        assert helper.score_in_child(data, tmp_path / "o", failpoint=point)[0] == failpoints.EXIT_CODE
    assert helper.score_in_child(data, tmp_path / "o")[0] == 0
    assert helper.rows_of(tmp_path / "o").equals(expected)


OPEN_THE_FINAL_NAME = """
from meddx.score import ledger
def publish(out, unit_id, data, watch, alone=False):
    out.make_dir()
    with open(ledger.part_path(out, unit_id).uri, "wb") as stream:
        stream.write(data[: len(data) // 2])
        stream.flush()
        ledger.failpoints.reach("before_publish")
        stream.write(data[len(data) // 2 :])
    return True
ledger.publish = publish
"""


def test_twin_a_writer_on_the_final_name_leaves_a_damaged_part(
    tmp_path: Path, undisturbed: tuple[Path, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With that protection off, the kill leaves what a resume cannot use."""
    monkeypatch.setattr(helper, "SCRIPT", OPEN_THE_FINAL_NAME + helper.SCRIPT)
    code, _ = helper.score_in_child(undisturbed[0], tmp_path / "o", failpoint="before_publish")
    assert code == failpoints.EXIT_CODE
    code, said = helper.score_in_child(undisturbed[0], tmp_path / "o")
    assert code == 1 and "a published part is damaged" in said


def test_a_count_dies_at_that_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[int] = []
    monkeypatch.setattr("os._exit", died.append)
    monkeypatch.setenv(failpoints.VARIABLE, "built:3")
    for number in range(3):
        failpoints.reach("opened")
        assert len(died) == 0, number
        failpoints.reach("built")
    assert died == [failpoints.EXIT_CODE]

"""Where a night's data and predictions lie: `{date}` in a zone, and `--status`, `--verify` of a folder alone."""

from __future__ import annotations

import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from meddx.cli import main
from meddx.errors import RecipeError
from meddx.score.options import ScoringOptions
from meddx.score.run import score
from meddx.stages.dates import fill, today
from meddx.storage import StoragePath

HELPER = Path(__file__).parents[1] / "score" / "scoring_helper.py"
LATE = datetime(2026, 11, 21, 17, 30, tzinfo=UTC)  # in Shanghai it is the 22nd, 01:30


def test_the_day_is_that_of_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert today("Asia/Shanghai", LATE) == date(2026, 11, 22) and today("America/New_York", LATE) == date(2026, 11, 21)
    for zone, day in (("Asia/Shanghai", 22), ("UTC", 21)):
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            assert today(None, LATE).day == day
    time.tzset()
    with pytest.raises(RecipeError, match="no time zone 'Asia/Shangai'") as caught:
        today("Asia/Shangai")
    assert caught.value.where == "scoring.zone" and caught.value.exit_code == 2


def test_fields_of_a_path() -> None:
    day = date(2026, 3, 1)
    assert fill("s3://archive/{date}/", day) == "s3://archive/2026-03-01/"
    assert fill("/d/{date-1}/x-{date}", day) == "/d/2026-02-28/x-2026-03-01"
    assert fill("/plain", day) == "/plain"
    for place in ("/d/{dat}", "/d/{date+1}", "/d/{}", "/d/{date", "/d/date}", "/d/{{date}}", "/d/{date-x}"):
        with pytest.raises(RecipeError, match="in a path") as caught:
            fill(place, day)
        assert caught.value.where == place and "{date-1}" in caught.value.next_step


def test_the_zone_changes_no_row_and_so_makes_no_new_output() -> None:
    from meddx.score.bundles import Facts
    from meddx.score.planning import owner_of

    facts = Facts("a" * 16, {}, ())
    assert owner_of(facts, ScoringOptions(zone="UTC")) == owner_of(facts, ScoringOptions())


@pytest.mark.slow
def test_a_folder_alone_is_enough_to_look_at_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.insert(0, str(HELPER.parent))
    import scoring_helper as helper

    yesterday = (datetime.now().astimezone().date() - timedelta(days=1)).isoformat()
    data, out = helper.archive(tmp_path / "d" / yesterday), tmp_path / "o" / yesterday
    score(helper.BUNDLE, StoragePath.of(data), StoragePath.of(out), options=helper.options(), bundles=helper.PlainBundles())
    capsys.readouterr()
    for look, said in (("--status", "finished; last job"), ("--verify", "each of 300 rows in 3 files stands there exactly once")):
        for place in (str(out), f"{tmp_path}/o/{{date-1}}"):
            assert main(["score", look, place]) == 0
            assert said in capsys.readouterr().out
    assert f"{{date-1}} is {out}" in _said(["score", "--status", f"{tmp_path}/o/{{date-1}}"], capsys)
    assert main(["score", "--status", str(tmp_path / "nothing")]) == 3
    assert main(["score", str(tmp_path / "b")]) == 2
    capsys.readouterr()
    assert main(["score", str(tmp_path / "b"), str(data), "--out", "/o/{week}"]) == 2
    assert "unknown field {week}" in capsys.readouterr().err


def _said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(arguments)
    return capsys.readouterr().out

"""`--update`: what changed or vanished in the archive leaves the output, what is there now is scored, and nothing else moves."""

from __future__ import annotations

import json
import random
from pathlib import Path

import nights
import pytest
from nights import Night

from meddx import record
from meddx.cli import main
from meddx.errors import OutputError
from meddx.score.audit import _tiling, status
from meddx.score.check import check
from meddx.score.ledger import part_name
from meddx.score.plan import Generation, Plan, draw_up
from meddx.score.sources import list_files, read_footers
from meddx.score.units import MB
from meddx.storage import StoragePath


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(StoragePath.of(tmp_path), tmp_path / "gates").put(*nights.FILES)


def load(night: Night) -> Plan:
    plan = Plan.load(night.out)
    assert plan is not None
    return plan


def as_planned_anew(night: Night, plan: Plan) -> None:
    """Files, rows and units are those of a plan made today, and each row is planned once."""
    listing = list_files(night.data)
    files, broken = read_footers(night.data, listing)
    fresh = draw_up(None, plan.owner, night.data, files, broken, MB)
    assert plan.files == fresh.files and plan.broken == fresh.broken
    assert plan.rows == sum(one.rows for one in files) == sum(unit.rows for unit in plan.units.values())
    assert not list(_tiling(plan)) and not plan.retired & plan.units.keys()


def test_one_changed_small_file_touches_only_its_unit(night: Night) -> None:
    night.run()
    before = night.parts()
    night.put("a", version=1)
    with pytest.raises(OutputError, match="1 of 5 files changed since this output was planned: a.parquet") as caught:
        night.run()
    assert "--update" in caught.value.next_step and night.parts() == before
    _, lines = night.run(update=True)
    assert lines[:2] == [
        "update: files changed 1, vanished 0, new 0; units retired 1, planned 1",
        "units to do 1 of 4, rows 64 of 228; in this process",  # b was in the same unit
    ]
    after = night.parts()
    assert len(before.keys() - after.keys()) == len(after.keys() - before.keys()) == 1
    assert all(after[name] == before[name] for name in before.keys() & after.keys())
    as_planned_anew(night, load(night))
    night.check()
    assert night.run(update=True)[1][0].startswith("nothing to do") and night.run()[1][0].startswith("nothing to do")


def test_a_vanished_file_takes_its_rows_along_and_the_record_says_so(night: Night) -> None:
    night.run()
    night.drop("b", "large")
    books, lines = night.run(update=True)
    assert lines[0] == "update: files changed 0, vanished 2, new 0; units retired 3, planned 1"
    assert (books.read, books.files, books.units) == (96, 3, 2)
    as_planned_anew(night, load(night))
    night.check()
    made = record.read(night.out / "_meddx")
    assert made is not None and made["counts"]["read"] == 96
    assert made["updates"] == {"files_changed": 0, "files_vanished": 2, "rows_vanished": 132, "units_retired": 3}
    assert "updates: files changed 0, vanished 2 with 132 rows; units retired 3" in status(night.out)


def test_files_change_break_mend_and_come_back_over_many_nights(night: Night) -> None:
    """Each night something else happens, now and then without an update in between."""
    rng = random.Random(4)
    night.run()
    for step in range(12):
        for name in rng.sample(nights.FILES, rng.randint(1, 2)):
            kind = rng.choice(["change", "vanish", "break", "empty"])
            if kind in ("change", "empty") or name not in night.versions:
                night.put(name, version=nights.EMPTY if kind == "empty" else rng.randint(0, 9))
            elif kind == "vanish" and len(night.versions) > 2:
                night.drop(name)
            elif kind == "break":
                (night.data / f"{name}.parquet").replace(f"not Parquet {step}".encode())
                del night.versions[name]
        night.run(update=True)
        plan = load(night)
        as_planned_anew(night, plan)
        assert night.ids() == night.expected() and night.parts().keys() == {part_name(unit) for unit in plan.units}
        ever = [unit.id for one in plan.generations for unit in one.units]
        assert len(set(ever)) == len(ever)  # no unit has the id of another, of a retired one neither
    assert len(plan.generations) > 8
    night.check()


def test_a_file_put_back_is_a_new_unit(night: Night) -> None:
    """The same path, version and rows: only the generation tells the two apart."""
    night.run()
    first = load(night)
    place, aside = Path((night.data / "a.parquet").uri), night.scratch.with_name("aside")
    place.rename(aside)
    night.run(update=True)
    aside.rename(place)
    night.run(update=True)
    plan = load(night)
    assert plan.files == first.files and len(plan.generations) == 3
    pieces = {unit.pieces for unit in plan.units.values()}
    assert len(plan.retired) == 1 and not plan.retired & plan.units.keys() and len(pieces) == len(plan.units)
    night.check()
    place.rename(aside)  # and the unit of one file, which was planned twice
    night.run(update=True)
    aside.rename(place)
    night.run(update=True)
    assert len(load(night).units) == len(load(night).units.keys() - load(night).retired) == 5
    night.check()


def test_new_files_and_changes_at_once_in_an_unfinished_output(night: Night) -> None:
    assert night.start("published:2").end()[0] == 70
    night.put("c", version=1).put("e", version=0).drop("a")
    options, bundles = nights.helper.options(max_rejected=1.0), nights.helper.PlainBundles()
    lines = check(nights.helper.BUNDLE, night.data, night.out, options, bundles=bundles, update=True)
    assert lines[0] == "data: files 5, rows 228" and len(load(night).generations) == 1
    assert night.run(update=True)[1][0].startswith("update: files changed 1, vanished 1, new 1; units retired 2, planned")
    as_planned_anew(night, load(night))
    night.check()


def test_another_archive_is_not_an_update(night: Night) -> None:
    night.run()
    before = night.parts()
    night.drop(*nights.FILES).put("x", "y")
    with pytest.raises(OutputError, match="none of the 5 files of this output is there"):
        night.run(update=True)
    assert night.parts() == before and len(load(night).generations) == 1


def test_plans_without_retirement_are_of_the_first_format(night: Night) -> None:
    """Plans from before `--update` load as they are, and a program from before it refuses what it would misread."""
    night.run()
    page = json.loads((night.out / "_meddx" / "plan-0.json").read_text())
    assert page["format"] == 1 and "retired" not in page and "gone" not in page
    assert Generation.decode(json.dumps(page).encode()) == load(night).first
    night.put("a", version=1)
    night.run(update=True)
    page = json.loads((night.out / "_meddx" / "plan-1.json").read_text())
    assert page["format"] == 2 and len(page["retired"]) == 1 and page["gone"] == []


def test_the_command_line_has_it(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("meddx.score.run.score", lambda *_, update, **__: asked.append(update))
    for more in ([], ["--update"]):
        assert main(["score", "bundle", str(night.data), "--out", str(night.out), *more]) == 0
    assert asked == [False, True]

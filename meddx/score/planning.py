"""Data, bundle and rules in, the plan that covers every file there is now out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from meddx.errors import DataError
from meddx.score.bundles import Facts
from meddx.score.footers import drop_footers, footers_of
from meddx.score.ids import ID
from meddx.score.options import ScoringOptions
from meddx.score.owner import Owner
from meddx.score.plan import NOTHING, Generation, Plan, draw_up
from meddx.score.progress import Patience
from meddx.score.sources import JUNK_FILE, Broken, SourceFile, Tell, check_apart, list_data
from meddx.score.units import MB, Unit
from meddx.storage import StoragePath
from meddx.yamlconf import drop_empty

LATER = ("outputs", "without")  # rules that the first outputs did not know
PLACES = ("zone",)  # they name folders, and change no row


def owner_of(facts: Facts, options: ScoringOptions) -> Owner:
    """What an output of this bundle under these rules belongs to.  RecipeError for rules that the bundle cannot follow.

    A rule that came later is left out where it asks for nothing, so that outputs from before it go on.
    """
    facts.check_wishes(options.without, options.outputs)
    page = options.model_dump(mode="json", exclude=set(PLACES))
    drop_empty(page, ["contract"])
    for name in LATER:
        if wished := sorted(set(page.pop(name))):
            page[name] = wished
    return Owner(facts.digest, page, facts.cohort, facts.engine)


def make_plan(
    out: StoragePath,
    owner: Owner,
    required: Sequence[str],
    data: StoragePath,
    options: ScoringOptions,
    log: Callable[[str], None],
    *,
    update: bool = False,
    alone: Callable[[], bool] = lambda: False,
    choose: Callable[[Sequence[Unit]], dict[str, Any] | None] | None = None,
) -> Plan:
    """The plan on storage that covers every file there is now, written by this job or by another that was first.

    OutputError: `out` belongs to something else, or, without `update`, a planned file changed or vanished.
    DataError: nothing to score.  `alone`: asked before something is written, whether the storage has no conditional write.
    `choose`: asked for a first plan, how forwards run; from then on that is obeyed.
    """
    tell = Patience(log)
    while True:
        plan, missing, _ = look(out, owner, required, data, options, update, tell)
        if plan is not None and missing is not None:
            log(_news(plan, missing))
        if plan is None and missing is not None and choose is not None:
            missing = replace(missing, owner=replace(owner, engine=choose(missing.units)))
        if missing is None or missing.publish(out, alone=alone()):  # else another job was first: storage and archive are asked again
            if missing is not None:
                drop_footers(out)
            plan = Plan.load(out) if missing is not None else plan
            assert plan is not None
            return plan


def _news(plan: Plan, missing: Generation) -> str:
    files = missing.files | missing.broken
    new = sum(path not in plan.files for path in files)
    if not missing.leaving:
        return f"new files since the plan: {new:,}; they are added to this run"
    changed = sum(path in plan.files and plan.files[path][0] != version for path, (version, *_) in files.items())
    return (
        f"update: files changed {changed:,}, vanished {len(missing.leaving.gone):,}, new {new:,}; "
        f"units retired {len(missing.leaving.retired):,}, planned {len(missing.units):,}"
    )


def look(
    out: StoragePath, owner: Owner, required: Sequence[str], data: StoragePath, options: ScoringOptions, update: bool, tell: Tell
) -> tuple[Plan | None, Generation | None, list[SourceFile]]:
    """The plan there is, the generation that is missing, and the readable files of that one.

    The archive is listed after the plan is read: a listing from before it could be older than what another job has planned, and
    an update would take that back.
    """
    plan, leaving = Plan.load(out), NOTHING
    listing = list_data(data, tell)
    check_apart(listing, out)
    new = listing.files
    if plan is not None:
        owner = replace(owner, engine=plan.owner.engine)
        plan.check_owner(owner, out)
        new, leaving = plan.update(listing.files) if update else (plan.new_files(listing.files), NOTHING)
        if not new and not leaving:
            return plan, None, []
    files, broken = footers_of(out, listing, new, tell)
    if plan is None:
        _check_first(files, broken, required, data)
    return plan, draw_up(plan, owner, data, files, broken, options.unit_mb * MB, leaving), files


def _check_first(files: Sequence[SourceFile], broken: Sequence[Broken], required: Sequence[str], data: StoragePath) -> None:
    """Refuse data that cannot be meant.  Later, and in single files, the same is a reason to quarantine rows."""
    if not files:
        closed = sum(one.reason != JUNK_FILE for one in broken)
        what = f"none of {closed} Parquet files could be opened" if closed else "there are no Parquet files and no pictures"
        raise DataError(what, str(data), "name a dataset made by `meddx ingest`, Parquet with a case_id column, or a folder of pictures")
    missing = [name for name in (ID, *required) if not any(name in file.columns for file in files)]
    if "volume" in missing and files[0].family == "dicom":
        what = "the bundle needs volumes, and of a folder of DICOM each file is one picture here"
        raise DataError(what, str(data), "run `meddx ingest` with `series: true`, and score the dataset")
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        what = f"no file has the columns that the bundle needs: {', '.join(missing[:5])}{more}"
        raise DataError(what, str(data), "check that the bundle was made for such data")

"""Data, bundle and rules in, the plan that covers every file there is now out; and what a run would do, before it does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from meddx import record
from meddx.errors import DataError
from meddx.score import ledger
from meddx.score.bundles import BundleFolders, Bundles, Facts
from meddx.score.options import ScoringOptions
from meddx.score.plan import FOLDER, Generation, Owner, Plan, draw_up
from meddx.score.sources import Broken, SourceFile, find_root, list_files, read_footers
from meddx.score.units import MB, Piece, Unit
from meddx.score.worker import ID, UnitScorer, scorer_of
from meddx.storage import FileInfo, StoragePath

SAMPLE_ROWS = 256
LATER = ("outputs", "without")  # rules that the first outputs did not know


def owner_of(facts: Facts, options: ScoringOptions) -> Owner:
    """What an output of this bundle under these rules belongs to.  RecipeError for rules that the bundle cannot follow.

    A rule that came later is left out where it asks for nothing, so that outputs from before it go on.
    """
    facts.check_wishes(options.without, options.outputs)
    page = options.model_dump(mode="json")
    for name in LATER:
        if wished := sorted(set(page.pop(name))):
            page[name] = wished
    return Owner(facts.digest, page, facts.cohort, facts.engine)


def make_plan(
    out: StoragePath, owner: Owner, required: Sequence[str], data: StoragePath, options: ScoringOptions, log: Callable[[str], None]
) -> Plan:
    """The plan on storage that covers every file there is now, written by this job or by another that was first.

    OutputError: `out` belongs to something else, or a planned file changed or vanished.  DataError: nothing to score.
    """
    listing = list_files(find_root(data))
    plan, missing = _look(out, owner, required, data, listing, options)
    while plan is None or missing is not None:
        if missing is not None:
            if plan is not None:
                log(f"new files since the plan: {len(missing.files) + len(missing.broken):,}; they are added to this run")
            missing.publish(out)  # whoever was first, storage is asked again
        plan, missing = _look(out, owner, required, data, listing, options)
    return plan


def check(
    bundle: StoragePath, data: StoragePath, out: StoragePath, options: ScoringOptions, *, bundles: Bundles | None = None
) -> list[str]:
    """What `score` would do, in lines: files, units to do and done, a sample scored, expected hours.  Nothing is written."""
    bundles = bundles or BundleFolders()
    facts = bundles.facts(bundle)
    published = set(ledger.list_parts(out))
    plan, new = _look(out, owner_of(facts, options), facts.required, data, list_files(find_root(data)), options)
    units = [*(plan.units.values() if plan else ()), *(new.units if new else ())]
    left = [unit for unit in units if unit.id not in published]
    broken = {**(plan.broken if plan else {}), **(new.broken if new else {})}
    files = (len(plan.files) if plan else 0) + (len(new.files) if new else 0)
    lines = [
        f"data: files {files:,}, rows {sum(unit.rows for unit in units):,}" + (f", files not opened {len(broken):,}" if broken else ""),
        f"units {len(units):,}: done {len(units) - len(left):,}, to do {len(left):,} with {sum(unit.rows for unit in left):,} rows",
    ]
    if left:
        lines.append(_sample(scorer_of(bundles.load(bundle), find_root(data), facts.required, options), left[0]))
    return [*lines, _expected(out, sum(unit.rows for unit in left))]


def _look(
    out: StoragePath, owner: Owner, required: Sequence[str], data: StoragePath, listing: Mapping[str, FileInfo], options: ScoringOptions
) -> tuple[Plan | None, Generation | None]:
    """The plan there is, and the generation that is missing."""
    plan = Plan.load(out)
    if plan is not None:
        plan.check_owner(owner, out)
    new = plan.new_files(listing) if plan else listing
    if plan is not None and not new:
        return plan, None
    files, broken = read_footers(find_root(data), new)
    if plan is None:
        _check_first(files, broken, required, data)
    return plan, draw_up(plan, owner, data, files, broken, options.unit_mb * MB)


def _check_first(files: Sequence[SourceFile], broken: Sequence[Broken], required: Sequence[str], data: StoragePath) -> None:
    """Refuse data that cannot be meant.  Later, and in single files, the same is a reason to quarantine rows."""
    if not files:
        what = f"none of {len(broken)} Parquet files could be opened" if broken else "there are no Parquet files"
        raise DataError(what, str(data), "name a dataset made by `meddx ingest`, or a folder or file of Parquet with a case_id column")
    missing = [name for name in (ID, *required) if not any(name in file.columns for file in files)]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        what = f"no file has the columns that the bundle needs: {', '.join(missing[:5])}{more}"
        raise DataError(what, str(data), "check that the bundle was made for such data")


def _sample(scorer: UnitScorer, unit: Unit) -> str:
    first = unit.pieces[0]
    piece = Piece(first.path, first.version, first.start, min(first.rows, SAMPLE_ROWS))
    try:
        counts = ledger.count(scorer.score(Unit(unit.id, (piece,), max(1, unit.weight * piece.rows // unit.rows))))
    finally:
        scorer.close()
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.reasons.items())
    line = (
        f"sample of {counts.rows:,} rows: scored {counts.scored:,}, outside cohort {counts.outside:,}, quarantined {counts.quarantined:,}"
    )
    return line + (f" ({reasons})" if reasons else "")


def _expected(out: StoragePath, rows: int) -> str:
    """Hours at the rate of this output's last job."""
    made = record.read(out / FOLDER)
    if not rows:
        return "expected: nothing to do"
    if made is None or not made.get("rows_a_second"):
        return "expected: unknown, no job has finished here yet"
    return f"expected: {rows / made['rows_a_second'] / 3600:.2f} hours at {made['rows_a_second']:,.0f} rows a second, as in the last job"

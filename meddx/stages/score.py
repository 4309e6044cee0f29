"""A bundle and an archive in, predictions out, through the ledger: every row exactly once."""

from __future__ import annotations

from datetime import date

from meddx.errors import RecipeError
from meddx.recipe import Recipe, load
from meddx.score.options import ScoringOptions
from meddx.score.spawn import ForkServer
from meddx.stages.dates import fill, today
from meddx.stages.run import Log, Run, read_manifest
from meddx.storage import StoragePath

PAGES = (".yaml", ".yml")


def score_run(recipe: Recipe, bundle: StoragePath, *, workers: int, log: Log) -> StoragePath:
    """Score the run's dataset with one bundle; the folder of the predictions."""
    from meddx.score.run import score

    run = Run(recipe)
    manifest, digest = read_manifest(bundle)
    hidden = "".join(f"-without-{name}" for name in recipe.scoring.without)
    out = run.predictions(f"{manifest['name']}{hidden}", digest)
    score(bundle, run.dataset, out, options=recipe.scoring, workers=workers, log=log)
    return out


def score_command(
    bundle: str,
    data: str | None,
    out: str | None,
    *,
    workers: int,
    look: str | None,
    log: Log,
    update: bool = False,
    price: float | None = None,
    server: ForkServer | None = None,
    device: str = "auto",
) -> None:
    """`meddx score`: BUNDLE DATA --out DIR, or a recipe for its own network and dataset.

    `look`: `check` says what would be done, `probe` measures for it, `status` says how far it is, `verify` proves the books, and
    the last two are content with DIR alone; None scores.  `update`: take up files that changed or vanished since the plan.
    `price`: of an hour of one worker, or of this machine.  `server`: begun already, for the processes that do the work.
    `device`: auto, cpu or cuda.
    """
    from meddx.score import audit
    from meddx.score.check import Wishes, check
    from meddx.score.measure import SECONDS
    from meddx.score.run import score

    if look in ("status", "verify") and data is None and out is None and not bundle.endswith(PAGES):
        bundle, data, out = "", "", bundle
    options, path, place, target = _places(bundle, data, out, log)
    if look is None:
        score(
            path,
            place,
            target,
            options=options,
            workers=workers,
            log=log,
            update=update,
            guard=True,
            server=server,
            price=price,
            device=device,
        )
        return
    for line in {
        "check": lambda: check(path, place, target, options, update=update, wishes=Wishes(workers, price), log=log),
        "probe": lambda: check(path, place, target, options, update=update, wishes=Wishes(workers, price, SECONDS), log=log),
        "status": lambda: audit.status(target),
        "verify": lambda: audit.verify(target),
    }[look]():
        log(line)


def _places(bundle: str, data: str | None, out: str | None, log: Log) -> tuple[ScoringOptions, StoragePath, StoragePath, StoragePath]:
    """(scoring block, bundle, data, predictions), with the dates filled in."""
    if not bundle.endswith(PAGES):
        if data is None or out is None:
            raise RecipeError("scoring with a bundle needs DATA and --out", "command line", "meddx score BUNDLE DATA --out DIR")
        day = today(None)
        return ScoringOptions(), StoragePath.of(bundle), _dated(data, day, log), _dated(out, day, log)
    recipe = load(bundle)
    if len(recipe.questions) > 1:
        what = f"the page has several targets, each with a bundle: {', '.join(one.part for one in recipe.questions)}"
        raise RecipeError(what, "command line", f"meddx score {Run(recipe.questions[0]).bundle(recipe.model.name)} DATA --out DIR")
    run, day = Run(recipe), today(recipe.scoring.zone)  # one day for both, also at midnight
    path = run.bundle(recipe.model.name)
    target = _dated(out, day, log) if out else run.predictions(recipe.model.name, read_manifest(path)[1])
    return recipe.scoring, path, _dated(data, day, log) if data else run.dataset, target


def _dated(place: str, day: date, log: Log) -> StoragePath:
    """The folder that a path with `{date}` means tonight; said, for a resume on another day must name it."""
    if "{" not in place and "}" not in place:
        return StoragePath.of(place)
    filled = StoragePath.of(fill(place, day))
    log(f"{place} is {filled}")
    return filled

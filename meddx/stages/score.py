"""A bundle and an archive in, predictions out, through the ledger: every row exactly once."""

from __future__ import annotations

from meddx.errors import RecipeError
from meddx.recipe import Recipe, load
from meddx.score.options import ScoringOptions
from meddx.stages.run import Log, Run, read_manifest
from meddx.storage import StoragePath


def score_run(recipe: Recipe, bundle: StoragePath, *, workers: int, log: Log) -> StoragePath:
    """Score the run's dataset with one bundle; the folder of the predictions."""
    from meddx.score.run import score

    run = Run(recipe)
    manifest, digest = read_manifest(bundle)
    hidden = "".join(f"-without-{name}" for name in recipe.scoring.without)
    out = run.predictions(f"{manifest['name']}{hidden}", digest)
    score(bundle, run.dataset, out, options=recipe.scoring, workers=workers, log=log)
    return out


def score_command(bundle: str, data: str | None, out: str | None, *, workers: int, look: str | None, log: Log) -> None:
    """`meddx score`: BUNDLE DATA --out DIR, or a recipe for its own network and dataset.

    `look`: `check` says what would be done, `status` how far it is, `verify` proves the books; None scores.
    """
    from meddx.score import audit
    from meddx.score.run import check, score

    options, path, place, target = _places(bundle, data, out)
    if look is None:
        score(path, place, target, options=options, workers=workers, log=log)
        return
    for line in {
        "check": lambda: check(path, place, target, options),
        "status": lambda: audit.status(target),
        "verify": lambda: audit.verify(target),
    }[look]():
        log(line)


def _places(bundle: str, data: str | None, out: str | None) -> tuple[ScoringOptions, StoragePath, StoragePath, StoragePath]:
    """(scoring block, bundle, data, predictions)."""
    if bundle.endswith((".yaml", ".yml")):
        recipe = load(bundle)
        if len(recipe.questions) > 1:
            what = f"the page has several targets, each with a bundle: {', '.join(one.part for one in recipe.questions)}"
            raise RecipeError(what, "command line", f"meddx score {Run(recipe.questions[0]).bundle(recipe.model.name)} DATA --out DIR")
        run = Run(recipe)
        path = run.bundle(recipe.model.name)
        target = StoragePath.of(out) if out else run.predictions(recipe.model.name, read_manifest(path)[1])
        return recipe.scoring, path, StoragePath.of(data) if data else run.dataset, target
    if data is None or out is None:
        raise RecipeError("scoring with a bundle needs DATA and --out", "command line", "meddx score BUNDLE DATA --out DIR")
    return ScoringOptions(), StoragePath.of(bundle), StoragePath.of(data), StoragePath.of(out)

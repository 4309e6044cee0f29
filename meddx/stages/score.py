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
    out = run.predictions(manifest["name"], digest)
    score(bundle, run.dataset, out, options=recipe.scoring, workers=workers, log=log)
    return out


def score_command(bundle: str, data: str | None, out: str | None, *, workers: int, check: bool, verify: bool, log: Log) -> None:
    """`meddx score`: BUNDLE DATA --out DIR, or a recipe for its own network and dataset; `--check` and `--verify` only look."""
    from meddx.score import audit
    from meddx.score import run as scoring

    options = ScoringOptions()
    if bundle.endswith((".yaml", ".yml")):
        recipe = load(bundle)
        options, run = recipe.scoring, Run(recipe)
        path = run.bundle(recipe.model.name)
        place = StoragePath.of(data) if data else run.dataset
        target = StoragePath.of(out) if out else run.predictions(recipe.model.name, read_manifest(path)[1])
    else:
        if data is None or out is None:
            raise RecipeError("scoring with a bundle needs DATA and --out", "command line", "meddx score BUNDLE DATA --out DIR")
        path, place, target = StoragePath.of(bundle), StoragePath.of(data), StoragePath.of(out)
    if verify:
        for line in audit.verify(target):
            log(line)
    elif check:
        for line in scoring.check(path, place, target, options):
            log(line)
    else:
        scoring.score(path, place, target, options=options, workers=workers, log=log)

"""Recipe in, dataset directory out."""

from __future__ import annotations

from meddx import yamlconf
from meddx.dataset import testlog
from meddx.dataset.open import Dataset
from meddx.errors import OutputError
from meddx.ingest.run import describe
from meddx.ingest.run import ingest as ingest_source
from meddx.recipe import Recipe
from meddx.stages.run import Log, Run

BLOCKS = ("sources", "case")


def ingest(recipe: Recipe, *, log: Log, fresh: bool = False) -> Dataset:
    """Read the archive once into `dataset/`.  Read again when page or archive changed and nobody has seen the test part, or if `fresh`."""
    run = Run(recipe)
    joined = recipe.joined
    fingerprint = yamlconf.fingerprint([recipe.fingerprint(*BLOCKS), recipe.text_columns, {name: one.text for name, one in joined.items()}])
    arguments = (recipe.source, recipe.case, recipe.text_columns, run.dataset)
    try:
        made = ingest_source(*arguments, joined=joined, fingerprint=fingerprint, force=fresh)
    except OutputError:
        if testlog.times_opened(run.dataset) > 0:
            raise
        log("the page or the archive changed since the last ingest, and the test part was never opened: reading the archive again")
        made = ingest_source(*arguments, joined=joined, fingerprint=fingerprint, force=True)
    for line in describe(made):
        log(line)
    return Dataset.open(run.dataset)

"""A recipe in, the places of its run out: where each stage reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meddx.dataset import testlog
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split, prepare_split
from meddx.predict.files import read_files
from meddx.predict.manifest import MANIFEST, parse_manifest
from meddx.recipe import Recipe
from meddx.storage import StoragePath

Log = Callable[[str], None]

SPLIT_BLOCKS = ("case", "cohort", "target", "timing", "inputs", "split")
TRAIN_BLOCKS = (*SPLIT_BLOCKS, "sources", "model", "training", "calibration", "threshold")


def read_manifest(bundle: StoragePath) -> tuple[dict[str, Any], str]:
    """(bundle.json as plain values, digest) of a bundle whose digests hold; its weights are checked but not loaded."""
    files, digest = read_files(bundle)
    return parse_manifest(files[MANIFEST]).model_dump(mode="json", exclude_none=True), digest


@dataclass(frozen=True)
class Run:
    """The folders of one recipe's run: `runs/<name>`, or the page's `out`."""

    recipe: Recipe

    @property
    def root(self) -> StoragePath:
        return StoragePath.of(self.recipe.out or f"runs/{self.recipe.name}")

    @property
    def dataset(self) -> StoragePath:
        return self.root / "dataset"

    @property
    def training(self) -> StoragePath:
        return self.root / "training"

    @property
    def comparison(self) -> StoragePath:
        return self._own("comparison")

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models of the page: the network, then the baselines."""
        return (self.recipe.model.name, *(one.label for one in self.recipe.baseline_options))

    def bundle(self, model: str) -> StoragePath:
        return self.bundles / model

    @property
    def bundles(self) -> StoragePath:
        return self._own("bundles")

    def _own(self, folder: str) -> StoragePath:
        """A folder of the run; with several targets each has its own in it."""
        return self.root / folder / self.recipe.part if self.recipe.part else self.root / folder

    @property
    def folds(self) -> StoragePath:
        return self.root / "folds"

    def predictions(self, model: str, digest: str) -> StoragePath:
        """One folder a bundle: a model trained anew never mixes with the old one's predictions."""
        return self._own("predictions") / f"{model}-{digest[:8]}"

    def open_split(self, dataset: Dataset, *, fresh: bool = False) -> Split:
        """The split on disk, made once.  It is remade only while nobody has seen the test part, or when asked."""
        recipe = self.recipe
        return prepare_split(
            dataset,
            case=recipe.case,
            cohort=recipe.cohort,
            target=recipe.target,
            split=recipe.split,
            timing=recipe.timing,
            inputs=recipe.inputs,
            never_inputs=recipe.never_inputs,
            fingerprint=recipe.fingerprint(*SPLIT_BLOCKS),
            fresh=fresh or testlog.times_opened(dataset) == 0,
        )

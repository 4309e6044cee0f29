"""A bundle's path in; what planning must know of it, without torch, or the loaded predictor out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from meddx.storage import StoragePath


@dataclass(frozen=True)
class Facts:
    """What an output belongs to, and what its rows must have.  `engine`: how forwards run, kept with the predictions;
    `kind`: network or estimator; `inputs`: their names and whether each is optional (None: not known, nothing is checked);
    `columns`: all that it looks at; `scale`: mean and deviation of a regression's target; `answers`: how often it said what when it was
    made, by part and band (None: made before that was counted)."""

    digest: str
    cohort: dict[str, Any]
    required: tuple[str, ...]
    engine: dict[str, Any] | None = None
    kind: str = ""
    inputs: dict[str, bool] | None = None
    columns: tuple[str, ...] = ()
    name: str = ""
    scale: tuple[float, float] | None = None
    answers: dict[str, Any] | None = None

    def check_wishes(self, without: Sequence[str], outputs: Sequence[str]) -> None:
        """RecipeError for what this bundle cannot do, before anything is planned."""
        from meddx.predict.wishes import check_wishes

        if self.inputs is not None:
            check_wishes(self.kind, self.inputs, without, outputs)


class Predictor(Protocol):
    """A loaded bundle.  `predict` keeps the order of the rows and has the columns of `schema(outputs)`."""

    @property
    def digest(self) -> str: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    def schema(self, outputs: Sequence[str] = ()) -> pa.Schema: ...
    def predict(
        self, rows: pa.Table, *, score_outside: bool = False, without: Sequence[str] = (), outputs: Sequence[str] = (), contract: Any = None
    ) -> pa.Table: ...


class Bundles(Protocol):
    """Where bundles come from; picklable, for it travels to the workers."""

    def facts(self, path: StoragePath) -> Facts: ...
    def choose(self, path: StoragePath, rows: int, some: Callable[[], Iterable[pa.Table]], device: str = "cpu") -> dict[str, Any] | None:
        """How forwards over `rows` rows are to run on this machine's `device`, for a new output; `some` gives batches to try with."""
        ...

    def load(self, path: StoragePath, engine: dict[str, Any] | None = None) -> Predictor:
        """`engine`: as the plan of the output says (None: as usual)."""
        ...


class BundleFolders:
    """The bundles of `meddx.predict`.  BundleError for a damaged one."""

    def facts(self, path: StoragePath) -> Facts:
        """Every digest is checked, as in loading, but only the manifest is parsed: a finished run need not import torch."""
        from meddx.inputs.prepare import Preparations
        from meddx.predict.engine import plan_of_page
        from meddx.predict.files import read_files
        from meddx.predict.manifest import MANIFEST, parse_manifest

        files, digest = read_files(path)
        page = parse_manifest(files[MANIFEST])
        preparations = Preparations.from_state(page.inputs)
        engine = plan_of_page(preparations.specs(), page.predictor).page()
        required = tuple(column.name for column in page.columns if column.required)
        inputs = {one.name: one.optional for one in preparations.inputs}
        columns = tuple(column.name for column in page.columns)
        name = f"{page.about['recipe']}, {page.name}" if page.about.get("recipe") else page.name
        head, cohort = page.head, page.cohort.model_dump(mode="json")
        scale = None if head.mean is None or head.std is None else (head.mean, head.std)
        return Facts(digest, cohort, required, engine, page.kind, inputs, columns, name, scale, page.about.get("answers"))

    def choose(self, path: StoragePath, rows: int, some: Callable[[], Iterable[pa.Table]], device: str = "cpu") -> dict[str, Any] | None:
        from meddx.predict.choose import choose, draw

        return choose(path, rows, lambda: draw(some()), device=device)

    def load(self, path: StoragePath, engine: dict[str, Any] | None = None) -> Predictor:
        """BundleError where this machine cannot run it as `engine` says."""
        from meddx.predict.bundle import Bundle

        return Bundle.load(path, plan=engine)

"""A bundle's folder in, predictions for rows out; and a trained model in, a bundle's folder out.

    bundle.json          name, head, inputs and their fitted state, columns needed, calibration, threshold, cohort, target
    weights.safetensors  a network's weights, or
    model.skops          a baseline; both, where a network answers with a baseline beside it
    digests.json         SHA-256 of each of them: checked before anything is parsed

No file runs code when it is opened.  `record.json` of the stage that made it may stand beside them and is never read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.dataset.cohort import as_compared, cohort_mask
from meddx.dataset.options import CohortOptions
from meddx.inputs.prepare import Preparations
from meddx.inputs.types import Prepared
from meddx.predict import contract, outcome
from meddx.predict.ahead import ahead
from meddx.predict.calibrate import n_logits
from meddx.predict.contract import options_of, transform
from meddx.predict.engine import EnginePlan, both_logits, estimator_logits, network_features, rows_at_once, select
from meddx.predict.files import read_files
from meddx.predict.manifest import Column, Manifest
from meddx.predict.opening import open_parts
from meddx.predict.options import ContractOptions
from meddx.predict.patterns import apply_by_pattern
from meddx.predict.rows import as_table
from meddx.predict.spans import spans_of, words_input
from meddx.predict.wishes import check_wishes, hide
from meddx.predict.writing import write_bundle as write_bundle
from meddx.storage import StoragePath

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
ContractWish = str | Mapping[str, str] | ContractOptions | None


@dataclass(frozen=True)
class _Usable:
    """Rows that can be answered: their positions [m], logits [m, k], embedding [m, hidden], the optional inputs that each has (bool [m]),
    and of tags their words."""

    rows: Places
    logits: Floats
    features: NDArray[np.float32]
    present: dict[str, NDArray[np.bool_]]
    words: Prepared | None = None


@dataclass(frozen=True)
class _Ready:
    """Rows whose inputs are prepared: which are inside the cohort (bool [n]), which are `wanted` and prepared, the errors so far [n],
    which have none (bool [n]), and the warnings [n] (None: no row has one)."""

    table: pa.Table
    inside: NDArray[np.bool_]
    wanted: Places
    error: NDArray[np.object_]
    clean: NDArray[np.bool_]
    prepared: dict[str, Prepared]
    warning: NDArray[np.object_] | None


@dataclass(frozen=True)
class Begun:
    """Rows on their way, in parts; those of the first one are prepared."""

    parts: tuple[pa.Table, ...]
    first: _Ready | None
    score_outside: bool
    without: tuple[str, ...]
    outputs: tuple[str, ...]
    contract: ContractOptions


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.  `Bundle.load(path).predict(rows)` is all that is needed; no labels, no Ray.

    `digest`: 16 hex digits that name exactly these bytes; `head`: {"kind", "classes"}, of a regression also "mean" and "std";
    `plan`: how forwards run; `beside`: the baseline that answers with the network.
    """

    page: Manifest
    digest: str
    preparations: Preparations
    predictor: Any
    plan: EnginePlan
    beside: Any = None

    @classmethod
    def load(cls, path: str | Path | StoragePath, *, allow_code: bool = False, plan: Mapping[str, Any] | None = None) -> Bundle:
        """Every digest is checked, then the files are parsed from the checked bytes.

        `allow_code`: the network may use a user's own code (a dotted path), which must be installed.  `plan`: as the predictions that
        are to be continued have it (`EnginePlan.page`); None for the usual one.  Raises BundleError for anything missing, extra,
        damaged, unknown, or that would run code, and where this machine cannot obey the plan.
        """
        path = StoragePath.of(path)
        files, digest = read_files(path)

        def graph(wanted: EnginePlan) -> Any:
            from meddx.predict.kept import graph_of

            return graph_of(path, digest, wanted)

        parts = open_parts(files, allow_code=allow_code, plan=EnginePlan.of_page(plan) if plan else None, graph=graph)
        return cls(parts.page, digest, parts.preparations, parts.predictor, parts.plan, parts.beside)

    @property
    def name(self) -> str:
        return self.page.name

    @property
    def manifest(self) -> dict[str, Any]:
        """`bundle.json` as plain values."""
        return self.page.model_dump(mode="json", exclude_none=True)

    @property
    def head(self) -> dict[str, Any]:
        return self.page.head.page

    @property
    def calibration(self) -> dict[str, Any]:
        return self.page.calibration

    @property
    def threshold(self) -> dict[str, Any]:
        return self.page.threshold

    @property
    def cohort(self) -> CohortOptions:
        return self.page.cohort

    @property
    def contract(self) -> tuple[Column, ...]:
        """The columns it looks at: use, sizes, required or not."""
        return self.page.columns

    @property
    def states_contract(self) -> bool:
        """Whether rows that are not as those of train are noticed; the predictions then have the column `warning`."""
        return contract.states_contract(self.preparations)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns it looks at, required and optional."""
        return tuple(column.name for column in self.page.columns)

    @property
    def inputs(self) -> dict[str, bool]:
        """The names of its inputs, and whether each is optional."""
        return {one.name: one.optional for one in self.preparations.inputs}

    def schema(self, outputs: Sequence[str] = ()) -> pa.Schema:
        """The columns of `predict`."""
        return outcome.schema(self.page.head, outputs, warns=self.states_contract)

    def logits(self, prepared: Mapping[str, Prepared]) -> Floats:
        """Uncalibrated logits [n, k] of prepared rows without errors, on the scale of unweighted cases (the network's own plus
        its offset); a row's logits do not hang on the other rows."""
        return self._features(prepared, embed=False)[0]

    def _features(self, prepared: Mapping[str, Prepared], *, embed: bool) -> tuple[Floats, NDArray[np.float32]]:
        if self.page.kind == "network":
            found = network_features(self.predictor, prepared, self.plan, self.page.predictor.get("offset"), embed=embed)
            return found if self.beside is None else (both_logits(found[0], self._of_baseline(self.beside, prepared)), found[1])
        logits = self._of_baseline(self.predictor, prepared)
        return logits, np.zeros((len(logits), 0), np.float32)

    def _of_baseline(self, estimator: Any, prepared: Mapping[str, Prepared]) -> Floats:
        return estimator_logits(estimator, self.head, self.preparations.specs(), prepared, self.plan)

    def predict(
        self,
        rows: pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]],
        *,
        score_outside: bool = False,
        without: Sequence[str] = (),
        outputs: Sequence[str] = (),
        contract: ContractWish = None,
    ) -> pa.Table:
        """One row of predictions for each row, in order.

        Columns that the bundle does not know are left alone, labels too.  A row outside the cohort has the status
        `outside_cohort` and nulls (`score_outside`: its probabilities all the same); a row that cannot be used is
        `quarantined`, with a reason code in `error`.  Raises DataError where a needed column is not there.

        `without`: optional inputs that are hidden, as though nobody had brought their columns.  `outputs`: `embedding` adds
        the column `embedding` (list<float32>), what the network makes of a case before its answer.  RecipeError where an
        input is not there or not optional, and for an embedding of a baseline.

        `contract`: what of a row that is not as those of train: `warn` (its reason codes in the column `warning`; the default),
        `quarantine`, `ignore`, or a mapping of kinds to these, as `scoring.contract` of a recipe.
        """
        return self.finish(self.begin(rows, score_outside=score_outside, without=without, outputs=outputs, contract=contract))

    def begin(
        self,
        rows: pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]],
        *,
        score_outside: bool = False,
        without: Sequence[str] = (),
        outputs: Sequence[str] = (),
        contract: ContractWish = None,
    ) -> Begun:
        """The half of `predict` that a thread may do ahead: it reads the rows and prepares the first part of them (decoding), and runs
        no network.  `finish` does the rest."""
        check_wishes(self.page.kind, self.inputs, without, outputs)
        table = as_table(rows, self.page.columns)
        step = rows_at_once(self.plan, self.preparations.specs(), n_logits(self.head))
        parts = tuple(table.slice(start, step) for start in range(0, table.num_rows, step))
        wishes = options_of(contract)
        first = self._ready(parts[0], score_outside, without, wishes) if parts else None
        return Begun(parts, first, score_outside, tuple(without), tuple(outputs), wishes)

    def finish(self, begun: Begun) -> pa.Table:
        """The predictions of what was begun; the next part is prepared while one is in the network."""
        if begun.first is None:
            return self.schema(begun.outputs).empty_table()
        done = [self._predicted(begun.first, begun.outputs)] if len(begun.parts) == 1 else []
        if not done:
            ready = partial(self._ready_part, begun)
            done = [self._predicted(later(), begun.outputs) for later in ahead(ready, range(len(begun.parts)))]
        return pa.concat_tables(done)

    def _ready_part(self, begun: Begun, place: int) -> _Ready:
        if not place:
            assert begun.first is not None
            return begun.first
        return self._ready(begun.parts[place], begun.score_outside, begun.without, begun.contract)

    def _ready(self, table: pa.Table, score_outside: bool, without: Sequence[str], wishes: ContractOptions) -> _Ready:
        inside = cohort_mask(self.page.cohort, as_compared(self.page.cohort, table))
        error: NDArray[np.object_] = np.full(table.num_rows, None, object)
        clean = np.ones(table.num_rows, bool)
        wanted = np.arange(table.num_rows) if score_outside else np.flatnonzero(inside)
        prepared = self._prepare(table if len(wanted) == table.num_rows else table.take(wanted), without)
        for place, reason in self.preparations.row_errors(prepared).items():
            error[wanted[place]], clean[wanted[place]] = reason, False
        warning = contract.judge(self.preparations, prepared, wishes, wanted, error, clean)
        return _Ready(table, inside, wanted, error, clean, prepared, warning)

    def _predicted(self, ready: _Ready, outputs: Sequence[str]) -> pa.Table:
        usable = self._usable(ready, embed=outcome.EMBEDDING in outputs)
        status = outcome.statuses(ready.inside, ready.clean)
        found = self._answers(usable) if len(usable.rows) else None
        if ready.warning is not None:
            ready.warning[~ready.clean] = None
        ids, warns = ready.table, self.states_contract
        return outcome.assemble(self.page.head, self.digest, ids, status, ready.error, found, outputs, warning=ready.warning, warns=warns)

    def _answers(self, usable: _Usable) -> outcome.Answers:
        probabilities = apply_by_pattern(self.page.calibration, self.head, usable.logits, usable.present)
        numbers = outcome.numbers_of(self.page.head, self.page.threshold, probabilities)
        decisions = outcome.decide(self.page.head, self.page.target, self.page.threshold, probabilities)
        entities = [] if usable.words is None else spans_of(self.head, probabilities, usable.words)
        return outcome.Answers(usable.rows, numbers, decisions, usable.features, entities)

    def _usable(self, ready: _Ready, *, embed: bool) -> _Usable:
        """Those `wanted` rows that can be used; a logit that is not finite goes into `error`."""
        wanted, error, prepared = ready.wanted, ready.error, ready.prepared
        good = np.flatnonzero(ready.clean[wanted])
        if not len(good):
            return _Usable(good, np.zeros((0, 0)), np.zeros((0, 0), np.float32), {})
        some = prepared if len(good) == len(wanted) else {name: select(one, good) for name, one in prepared.items()}
        logits, features = self._features(some, embed=embed)
        finite = np.isfinite(logits).all(axis=1)
        error[wanted[good[~finite]]], ready.clean[wanted[good[~finite]]] = "not_finite", False
        kept = good[finite]
        present = {name: prepared[name].present[kept] for name in self.preparations.optional_names}
        words = select(prepared[words_input(self.head, self.preparations.specs())], kept) if self.head["kind"] == "tags" else None
        if not finite.all():
            logits, features = logits[finite], features[finite]
        return _Usable(wanted[kept], logits, features, present, words)

    def _prepare(self, table: pa.Table, without: Sequence[str]) -> dict[str, Prepared]:
        """Every input's arrays; a hidden one sees a table without its columns, the others all of it."""
        return {one.name: transform(one, hide(table, one.columns) if one.name in without else table) for one in self.preparations.inputs}

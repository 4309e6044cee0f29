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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.dataset.cohort import cohort_columns, cohort_mask
from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError
from meddx.inputs.prepare import Preparations
from meddx.inputs.types import Prepared
from meddx.predict import outcome
from meddx.predict.calibrate import n_logits
from meddx.predict.engine import EnginePlan, both_logits, estimator_logits, network_features, plan_for, rows_at_once, select
from meddx.predict.estimators import MODEL, EstimatorParts, dump_estimator, load_estimator
from meddx.predict.files import publish, read_files
from meddx.predict.manifest import (
    MANIFEST,
    Column,
    HeadPage,
    Manifest,
    check_columns,
    contract,
    dump_manifest,
    parse_manifest,
    versions_for,
)
from meddx.predict.networks import WEIGHTS, NetworkParts, check_offset, dump_weights, load_network
from meddx.predict.patterns import apply_by_pattern, check_patterns
from meddx.predict.rows import as_table
from meddx.predict.spans import spans_of, words_input
from meddx.predict.wishes import check_wishes, hide
from meddx.storage import StoragePath

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


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
    def load(cls, path: str | Path | StoragePath, *, allow_code: bool = False) -> Bundle:
        """Every digest is checked, then the files are parsed from the checked bytes.

        `allow_code`: the network may use a user's own code (a dotted path), which must be installed.  Raises BundleError
        for anything missing, extra, damaged, unknown, or that would run code.
        """
        files, digest = read_files(StoragePath.of(path))
        return _open(files, digest, allow_code)

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
    def columns(self) -> tuple[str, ...]:
        """The names of the columns it looks at, required and optional."""
        return tuple(column.name for column in self.page.columns)

    @property
    def inputs(self) -> dict[str, bool]:
        """The names of its inputs, and whether each is optional."""
        return {one.name: one.optional for one in self.preparations.inputs}

    def schema(self, outputs: Sequence[str] = ()) -> pa.Schema:
        """The columns of `predict`."""
        return outcome.schema(self.page.head, outputs)

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
    ) -> pa.Table:
        """One row of predictions for each row, in order.

        Columns that the bundle does not know are left alone, labels too.  A row outside the cohort has the status
        `outside_cohort` and nulls (`score_outside`: its probabilities all the same); a row that cannot be used is
        `quarantined`, with a reason code in `error`.  Raises DataError where a needed column is not there.

        `without`: optional inputs that are hidden, as though nobody had brought their columns.  `outputs`: `embedding` adds
        the column `embedding` (list<float32>), what the network makes of a case before its answer.  RecipeError where an
        input is not there or not optional, and for an embedding of a baseline.
        """
        check_wishes(self.page.kind, self.inputs, without, outputs)
        table = as_table(rows, self.page.columns)
        step = rows_at_once(self.plan, self.preparations.specs(), n_logits(self.head))
        parts = [self._predict(table.slice(start, step), score_outside, without, outputs) for start in range(0, table.num_rows, step)]
        return pa.concat_tables(parts) if parts else self.schema(outputs).empty_table()

    def _predict(self, table: pa.Table, score_outside: bool, without: Sequence[str], outputs: Sequence[str]) -> pa.Table:
        inside = cohort_mask(self.page.cohort, table)
        status = np.where(inside, outcome.SCORED, outcome.OUTSIDE).astype(object)
        error: NDArray[np.object_] = np.full(table.num_rows, None, object)
        wanted = np.arange(table.num_rows) if score_outside else np.flatnonzero(inside)
        usable = self._usable(table, wanted, error, without, embed=outcome.EMBEDDING in outputs)
        status[[row for row in np.flatnonzero(inside) if error[row] is not None]] = outcome.QUARANTINED
        found = self._answers(usable) if len(usable.rows) else None
        return outcome.assemble(self.page.head, self.digest, table, status, error, found, outputs)

    def _answers(self, usable: _Usable) -> outcome.Answers:
        probabilities = apply_by_pattern(self.page.calibration, self.head, usable.logits, usable.present)
        numbers = outcome.numbers_of(self.page.head, self.page.threshold, probabilities)
        decisions = outcome.decide(self.page.head, self.page.target, self.page.threshold, probabilities)
        entities = [] if usable.words is None else spans_of(self.head, probabilities, usable.words)
        return outcome.Answers(usable.rows, numbers, decisions, usable.features, entities)

    def _usable(self, table: pa.Table, wanted: Places, error: NDArray[np.object_], without: Sequence[str], *, embed: bool) -> _Usable:
        """Those `wanted` rows that can be used; the reasons of the others go into `error`."""
        prepared = self._prepare(table if len(wanted) == table.num_rows else table.take(wanted), without)
        for place, reason in self.preparations.row_errors(prepared).items():
            error[wanted[place]] = reason
        good = np.flatnonzero(np.array([error[row] is None for row in wanted], bool))
        if not len(good):
            return _Usable(good, np.zeros((0, 0)), np.zeros((0, 0), np.float32), {})
        logits, features = self._features({name: select(one, good) for name, one in prepared.items()}, embed=embed)
        finite = np.isfinite(logits).all(axis=1)
        error[wanted[good[~finite]]] = "not_finite"
        kept = good[finite]
        present = {name: prepared[name].present[kept] for name in self.preparations.optional_names}
        words = select(prepared[words_input(self.head, self.preparations.specs())], kept) if self.head["kind"] == "tags" else None
        if not finite.all():
            logits, features = logits[finite], features[finite]
        return _Usable(wanted[kept], logits, features, present, words)

    def _prepare(self, table: pa.Table, without: Sequence[str]) -> dict[str, Prepared]:
        """Every input's arrays; a hidden one sees a table without its columns, the others all of it."""
        if not without:
            return self.preparations.transform(table)
        return {one.name: one.transform(hide(table, one.columns) if one.name in without else table) for one in self.preparations.inputs}


def write_bundle(
    path: StoragePath,
    *,
    name: str,
    head: Mapping[str, Any],
    preparations: Preparations,
    predictor: NetworkParts | EstimatorParts,
    calibration: Mapping[str, Any],
    threshold: Mapping[str, Any],
    cohort: CohortOptions,
    target: Mapping[str, Any],
    about: Mapping[str, Any],
    extra: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> str:
    """Write a bundle, whole or not at all; its digest.

    `extra`: files that travel with it and are never parsed (`card.md`).  What was written is opened once before it is
    published, so a bundle that stands can be loaded.  Raises OutputError where another bundle stands, unless `replace`.
    """
    kind = "network" if isinstance(predictor, NetworkParts) else "estimator"
    beside = predictor.beside if isinstance(predictor, NetworkParts) else None
    page = Manifest(
        name=name,
        kind=kind,
        head=HeadPage.model_validate({**head, "classes": tuple(head.get("classes") or ())}),
        columns=contract(preparations, cohort_columns(cohort)),
        inputs=preparations.state(),
        predictor=predictor.page if isinstance(predictor, NetworkParts) else {"kind": predictor.kind},
        calibration=dict(calibration),
        threshold=dict(threshold),
        cohort=cohort,
        target=dict(target),
        about=dict(about),
        versions=versions_for([kind] if beside is None else [kind, "estimator"]),
    )
    files = {MANIFEST: dump_manifest(page), **_content(predictor)}
    _open(files, "", allow_code=True)  # the code of an own encoder has just been trained
    return publish(path, _joined(files, extra or {}), replace=replace)


def _joined(files: Mapping[str, bytes], extra: Mapping[str, bytes]) -> dict[str, bytes]:
    if clash := sorted({*files} & {*extra}):
        raise BundleError(f"an extra file cannot have the name {clash[0]}", MANIFEST)
    return {**files, **extra}


def _content(predictor: NetworkParts | EstimatorParts) -> dict[str, bytes]:
    if isinstance(predictor, NetworkParts):
        beside = {} if predictor.beside is None else {MODEL: dump_estimator(predictor.beside)}
        return {WEIGHTS: dump_weights(predictor.weights), **beside}
    return {MODEL: dump_estimator(predictor.estimator)}


def _open(files: Mapping[str, bytes], digest: str, allow_code: bool) -> Bundle:
    if MANIFEST not in files:
        raise BundleError("the bundle has no bundle.json", MANIFEST, "make the bundle again")
    page = parse_manifest(files[MANIFEST])
    needed = [MODEL] if page.kind == "estimator" else [WEIGHTS, *([MODEL] if page.predictor.get("options", {}).get("beside") else [])]
    if missing := [name for name in needed if name not in files]:
        raise BundleError(f"the bundle has no {missing[0]}", missing[0], "make the bundle again")
    preparations = Preparations.from_state(page.inputs)
    check_columns(page, preparations)
    check_patterns(page.calibration, {one.name: one.optional for one in preparations.inputs})
    if page.head.kind == "tags":
        words_input(page.head.page, preparations.specs())
    plan = plan_for(preparations.specs())
    beside = load_estimator(files[MODEL]) if MODEL in needed else None
    if page.kind == "estimator":
        return Bundle(page, digest, preparations, beside, plan)
    check_offset(page.predictor, n_logits(page.head.page))
    predictor = load_network(files[WEIGHTS], page.predictor, preparations.specs(), page.head.page, allow_code=allow_code)
    return Bundle(page, digest, preparations, predictor, plan, beside)

"""What inputs noticed of rows that are not as those of train in; warnings, and reasons for quarantine, out, as the recipe wishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.errors import DataError
from meddx.inputs.cells import MISSING, OTHER
from meddx.inputs.normal import Normal, Places
from meddx.inputs.prepare import Preparations
from meddx.inputs.types import Preparation, Prepared
from meddx.predict.options import BETWEEN, QUARANTINE, ContractOptions, ContractPage
from meddx.yamlconf import build

MOST = 5  # codes of one row: a row of genes on another scale has thousands
MORE = "..."  # stands for the others
REFUSED = "input_unreadable"


@dataclass(frozen=True)
class Warned:
    """The text of each row (None: none), of at most MOST codes, and how many codes it has."""

    texts: NDArray[np.object_]
    counts: NDArray[np.int64]

    @classmethod
    def nothing(cls, rows: int) -> Warned:
        return cls(np.full(rows, None, object), np.zeros(rows, np.int64))

    def add(self, code: str, rows: Places) -> None:
        had = self.counts[rows]
        self.texts[rows[had == 0]] = code
        for some, more in ((rows[(had > 0) & (had < MOST)], code), (rows[had == MOST], MORE)):
            if len(some):
                self.texts[some] = self.texts[some] + (BETWEEN + more)
        self.counts[rows] += 1


def states_contract(preparations: Preparations) -> bool:
    """Whether a row can be outside: bundles from before this was stated warn of nothing, and texts are all alike to it."""
    return any(one.normal is not None for one in preparations.inputs)


def breaches(preparations: Preparations, prepared: Mapping[str, Prepared], wishes: ContractOptions) -> Iterator[tuple[str, str, Places]]:
    """(code, what is wished of it, rows), in the order of the inputs; kinds that are ignored are not looked for."""
    for one in preparations.inputs:
        if one.normal is None:
            continue
        found = {**prepared[one.name].outside, **_of_table(one, one.normal, prepared[one.name], wishes)}
        for code, rows in found.items():
            action = wishes.of(code.partition(":")[0])
            if action is not None:
                yield code, action, rows


def _of_table(one: Preparation, normal: Normal, prepared: Prepared, wishes: ContractOptions) -> dict[str, Places]:
    """Categories that train did not have (or seldom), and cells that are missing where no row of train lacked them."""
    found: dict[str, Places] = {}
    spec = one.spec()
    if spec["kind"] != "table" or not (wishes.of("category") or wishes.of("missing")):
        return found
    source = one.state().get("source")
    before = "" if source is None else f"{source}."
    for place, name in enumerate(spec["category_names"]):
        codes = prepared.arrays["codes"][:, place]
        found[f"category:{before}{name}"] = np.flatnonzero((codes == OTHER) & prepared.present)
        if before + name in normal.complete:
            found[f"missing:{before}{name}"] = np.flatnonzero((codes == MISSING) & prepared.present)
    for place, name in enumerate(spec["names"]):
        if before + name in normal.complete:
            found[f"missing:{before}{name}"] = np.flatnonzero((prepared.arrays["missing"][:, place] > 0) & prepared.present)
    return {code: rows for code, rows in found.items() if len(rows)}


def judge(
    preparations: Preparations,
    prepared: Mapping[str, Prepared],
    wishes: ContractOptions,
    wanted: Places,
    error: NDArray[np.object_],
    clean: NDArray[np.bool_],
) -> NDArray[np.object_] | None:
    """The warning of each row of the table, or None where no row has one; what is to be quarantined goes into `error` and `clean`.

    `prepared` has the rows `wanted` of the table.
    """
    warned = None
    for code, action, places in breaches(preparations, prepared, wishes):
        rows = wanted[places]
        rows = rows[clean[rows]]
        if action == QUARANTINE:
            error[rows], clean[rows] = code, False
        elif len(rows):
            warned = warned or Warned.nothing(len(error))
            warned.add(code, rows)
    return None if warned is None else warned.texts


def transform(one: Preparation, table: pa.Table) -> Prepared:
    """Arrays of rows to be answered.  A column of a type that the input cannot read costs those rows which have something there, not the
    others; DataError where a needed column is not there at all, or twice."""
    try:
        return one.transform(table)
    except DataError:
        if any(len(table.schema.get_all_field_indices(name)) != 1 for name in one.columns):
            raise
    bare, there = table, np.zeros(table.num_rows, bool)
    for name in one.columns:
        there |= np.asarray(table.column(name).is_valid())
        bare = bare.set_column(bare.column_names.index(name), name, pa.nulls(table.num_rows))
    made = one.transform(bare)
    errors: dict[int, str] = {**made.errors, **dict.fromkeys(np.flatnonzero(there).tolist(), REFUSED)}
    return Prepared(made.arrays, made.present & ~there, dict(sorted(errors.items())), made.aside)


def options_of(wishes: Any) -> ContractOptions:
    """What a caller of predict gave: nothing, a word, a mapping of kinds, or all of it.  RecipeError for what there is not."""
    if isinstance(wishes, ContractOptions):
        return wishes
    if wishes is None:
        return ContractOptions()
    page = {"contract": dict(wishes) if isinstance(wishes, Mapping) else wishes}
    return build(ContractPage, page, "Bundle.predict").contract

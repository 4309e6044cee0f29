"""All inputs of a recipe in, their fitted preparations out; the same object prepares rows in training and in scoring."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError
from meddx.inputs.options import InputOptions, TableInput
from meddx.inputs.types import Preparation, Prepared


@dataclass(frozen=True)
class Preparations:
    """One fitted preparation an input, in the recipe's order."""

    inputs: tuple[Preparation, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is looked at, each once."""
        return tuple(dict.fromkeys(column for one in self.inputs for column in one.columns))

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The columns without which no row can be prepared."""
        return tuple(dict.fromkeys(column for one in self.inputs if not one.optional for column in one.columns))

    @property
    def optional_names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.inputs if one.optional)

    def transform(self, table: pa.Table) -> dict[str, Prepared]:
        """Input to arrays with one row a row of `table`.  DataError where a needed column is not there."""
        return {one.name: one.transform(table) for one in self.inputs}

    def specs(self) -> dict[str, dict[str, Any]]:
        """Input to what its encoder must know."""
        return {one.name: one.spec() for one in self.inputs}

    def row_errors(self, prepared: Mapping[str, Prepared]) -> dict[int, str]:
        """`merge_errors` with this recipe's optional inputs."""
        return merge_errors(prepared, self.optional_names)

    def state(self) -> dict[str, Any]:
        """All fitted state as JSON."""
        return {"inputs": [one.state() for one in self.inputs]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Preparations:
        """The preparations that `state()` described.  BundleError where it is not such a description."""
        try:
            return cls(tuple(_from_state(one) for one in state["inputs"]))
        except (KeyError, TypeError) as error:
            raise BundleError("the state of the inputs is not readable", next_step="the bundle is damaged: build it again") from error


# Imported where a kind is met: a bundle needs the libraries of its own inputs alone.
_PREPARATIONS = {
    "table": "meddx.inputs.table:TablePreparation",
    "image": "meddx.inputs.image:ImagePreparation",
    "volume": "meddx.inputs.volume:VolumePreparation",
    "signal": "meddx.inputs.signal:SignalPreparation",
    "events": "meddx.inputs.events:EventsPreparation",
    "text": "meddx.inputs.text:TextPreparation",
    "tokens": "meddx.inputs.tokens:TokensPreparation",
}


def _kind(kind: str) -> Any:
    """The preparation of one kind of input."""
    module, _, name = _PREPARATIONS[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def _from_state(state: Mapping[str, Any]) -> Preparation:
    if state["kind"] not in _PREPARATIONS:
        raise BundleError("the bundle has an input of a kind that this version does not know", next_step="update meddx, or build it again")
    made: Preparation = _kind(state["kind"]).from_state(state)
    return made


def fit(inputs: Mapping[str, InputOptions], columns: Mapping[str, Sequence[str]], table: pa.Table) -> Preparations:
    """Fit every input on `table`, which must hold the train part alone.

    `columns`: for a table input its columns, patterns resolved, or the name of its joined source alone; the other kinds take their own
    `column` or source.
    """
    return Preparations(tuple(_fit(name, options, columns.get(name, ()), table) for name, options in inputs.items()))


def _fit(name: str, options: InputOptions, columns: Sequence[str], table: pa.Table) -> Preparation:
    given = (columns, table) if isinstance(options, TableInput) else (table,)
    made: Preparation = _kind(options.kind).fit(name, options, *given)
    return made


def merge_errors(prepared: Mapping[str, Prepared], optional: Collection[str] = ()) -> dict[int, str]:
    """Row to reason code: a needed input is bad or absent (`input_absent`), or no input at all is there.

    A bad optional input counts as absent.  The first reason in the recipe's order is kept.
    """
    bad: dict[int, str] = {}
    for name, one in prepared.items():
        if name not in optional:
            for row in np.flatnonzero(~one.present):
                bad.setdefault(int(row), one.errors.get(int(row), "input_absent"))
            for place, reason in one.errors.items():
                bad.setdefault(place, reason)
    if prepared:
        for row in np.flatnonzero(~np.any([one.present for one in prepared.values()], axis=0)):
            reasons = [one.errors[int(row)] for one in prepared.values() if int(row) in one.errors]
            bad.setdefault(int(row), reasons[0] if reasons else "input_absent")
    return dict(sorted(bad.items()))

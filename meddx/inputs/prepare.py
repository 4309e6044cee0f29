"""All inputs of a recipe in, their fitted preparations out; the same object prepares rows in training and in scoring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.errors import BundleError
from meddx.inputs.options import EventsInput, ImageInput, InputOptions, SignalInput, TableInput, TextInput, TokensInput, VolumeInput
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


def _from_state(state: Mapping[str, Any]) -> Preparation:
    """One input's preparation.  Each kind is imported where it is met: a bundle needs the libraries of its own inputs alone."""
    match state["kind"]:
        case "table":
            from meddx.inputs.table import TablePreparation

            return TablePreparation.from_state(state)
        case "image":
            from meddx.inputs.image import ImagePreparation

            return ImagePreparation.from_state(state)
        case "volume":
            from meddx.inputs.volume import VolumePreparation

            return VolumePreparation.from_state(state)
        case "signal":
            from meddx.inputs.signal import SignalPreparation

            return SignalPreparation.from_state(state)
        case "events":
            from meddx.inputs.events import EventsPreparation

            return EventsPreparation.from_state(state)
        case "text":
            from meddx.inputs.text import TextPreparation

            return TextPreparation.from_state(state)
        case "tokens":
            from meddx.inputs.tokens import TokensPreparation

            return TokensPreparation.from_state(state)
    raise BundleError("the bundle has an input of a kind that this version does not know", next_step="update meddx, or build it again")


def fit(inputs: Mapping[str, InputOptions], columns: Mapping[str, Sequence[str]], table: pa.Table) -> Preparations:
    """Fit every input on `table`, which must hold the train part alone.

    `columns`: for a table input its columns, patterns resolved, or the name of its joined source alone; the other kinds take their own
    `column` or source.
    """
    return Preparations(tuple(_fit(name, options, columns.get(name, ()), table) for name, options in inputs.items()))


def _fit(name: str, options: InputOptions, columns: Sequence[str], table: pa.Table) -> Preparation:
    match options:
        case TableInput():
            from meddx.inputs.table import TablePreparation

            return TablePreparation.fit(name, options, columns, table)
        case ImageInput():
            from meddx.inputs.image import ImagePreparation

            return ImagePreparation.fit(name, options, table)
        case VolumeInput():
            from meddx.inputs.volume import VolumePreparation

            return VolumePreparation.fit(name, options, table)
        case SignalInput():
            from meddx.inputs.signal import SignalPreparation

            return SignalPreparation.fit(name, options, table)
        case EventsInput():
            from meddx.inputs.events import EventsPreparation

            return EventsPreparation.fit(name, options, table)
        case TextInput():
            from meddx.inputs.text import TextPreparation

            return TextPreparation.fit(name, options, table)
        case TokensInput():
            from meddx.inputs.tokens import TokensPreparation

            return TokensPreparation.fit(name, options, table)


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

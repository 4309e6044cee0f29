"""What one input makes of a table of cases: arrays with one row a case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from meddx.inputs.normal import Normal


@dataclass(frozen=True)
class Prepared:
    """Arrays of one input.

    `arrays`: name to array, first axis = cases; `present`: bool [n], False where a case lacks the input;
    `errors`: row to reason code, for rows that are there but cannot be used; `aside`: arrays that no network reads (summaries for
    baselines); `outside`: reason code to the rows that can be used, but are not as those of train were (see `normal`).
    """

    arrays: dict[str, np.ndarray]
    present: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)
    aside: dict[str, np.ndarray] = field(default_factory=dict)
    outside: dict[str, np.ndarray] = field(default_factory=dict)


class Preparation(Protocol):
    """One input's fitted way from columns to arrays; the same code and state in training and in scoring."""

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def optional(self) -> bool: ...

    @property
    def normal(self) -> Normal | None:
        """What it knows of a normal row; None in bundles from before that was stated, and where nothing can be outside."""
        ...

    def transform(self, table: pa.Table) -> Prepared: ...

    def spec(self) -> dict[str, Any]:
        """What an encoder must know, as JSON: kind and sizes."""
        ...

    def state(self) -> dict[str, Any]:
        """All fitted state and options, as JSON."""
        ...

"""What a comparison is made of: the truth about each case, and what each model said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["binary", "multiclass", "multilabel", "ordinal", "regression", "tags"]
Role = Literal["network", "baseline", "prior"]
CLASSED = ("multiclass", "ordinal")  # one class a case
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """The answers of n cases, in one fixed order that every model's scores share.

    kind     binary, multiclass, multilabel, ordinal, regression or tags
    classes  binary: (name of no, name of yes); multiclass: the classes; ordinal: from low to high; multilabel and tags: the labels;
             regression: none
    values   binary [n] of 0 and 1; multiclass and ordinal [n] of class numbers; multilabel [n, labels] of 0 and 1;
             regression [n] in the answer's own unit; tags: object array [n] of lists of (start, end, label number)
    known    [n], or [n, labels] for multilabel; `values` are not looked at where this is False
    column   what the answer is called in the archive, for sentences
    named    binary: what a positive case has, in a reader's words, where somebody said it
    """

    kind: Kind
    classes: tuple[str, ...]
    values: NDArray[Any]
    known: NDArray[Any]
    column: str = ""
    named: str = ""

    @property
    def outcome(self) -> str:
        """What a positive case has, in words."""
        if self.kind != "binary":
            return self.column
        code = f"{self.column} = {self.classes[1]}" if self.column else self.classes[1]
        return f"{self.named} ({code})" if self.named else code


@dataclass(frozen=True)
class ModelScores:
    """What one model said about the same n cases.

    probabilities   binary [n] (or [n, 1]); multiclass, ordinal and multilabel [n, k].  A row with NaN was not scored: quarantined, or
                    missing.  Regression [n] (or [n, 1]): the predicted value.  Tags: object array [n] of lists of
                    (start, end, label number), None where the case was not scored.
                    A prior score [n] is any number, not a probability; NaN where it is absent.
    decisions       at the stored threshold: binary [n] of 0 and 1, multiclass and ordinal [n] of class numbers, multilabel [n, k] of
                    0 and 1.  None when the model makes none (regression, tags: always).  Not looked at where the case was not scored.
    kind            network, baseline, or prior (a score that stands in the archive)
    validate_score  the primary metric on the validate part, as it is (a Brier score stays a Brier score); picks `best`
    threshold       the bundle's threshold: {"value", "goal", "confidence", "reached"}; binary only
    higher_means    of a prior: what a high value speaks for
    low, high       regression: the ends of each case's interval [n], None when the model gives none
    """

    probabilities: NDArray[Any]
    decisions: NDArray[Any] | None
    kind: Role = "network"
    validate_score: float | None = None
    threshold: Mapping[str, Any] | None = None
    higher_means: Literal["positive", "negative"] = "positive"
    low: NDArray[Any] | None = None
    high: NDArray[Any] | None = None

    @property
    def scored(self) -> Bools:
        """[n]: the cases with a score."""
        if np.asarray(self.probabilities).dtype == object:
            return np.array([one is not None for one in self.probabilities], dtype=bool)
        finite: Bools = np.isfinite(np.asarray(self.probabilities, dtype=np.float64))
        return finite if finite.ndim == 1 else np.asarray(finite.all(axis=1))

"""The scores of folds in; checked, each with prevalence, and those of one repeat laid end to end, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meddx.errors import LeakError
from meddx.evaluate.frame import checked, labelled
from meddx.evaluate.spans import holds
from meddx.evaluate.types import ModelScores, Truth


@dataclass(frozen=True)
class FoldScores:
    """What every model of one fold said about the cases that this fold held out.

    repeat, fold  which one, from 0; each pair stands once
    truth         the held-out cases' answers
    patients      [n] names, None where unknown; None when no patient is known
    scores        name to scores, in the order of `truth`; the same names in every fold
    n_train       cases that the procedure had for learning, validation and calibration inside this fold
    """

    repeat: int
    fold: int
    truth: Truth
    patients: Sequence[str | None] | None
    scores: Mapping[str, ModelScores]
    n_train: int

    @property
    def place(self) -> str:
        return f"fold {self.fold} of repeat {self.repeat}"


def with_prevalence(folds: Sequence[FoldScores], train_rates: Sequence[float] | None) -> list[FoldScores]:
    """The folds in order, checked, `prevalence` in each: from `train_rates`, or else from the other folds of its repeat.

    Raises ValueError for folds that do not fit together, LeakError where a patient is held out by two folds of one repeat.
    """
    ordered = sorted(folds, key=lambda one: (one.repeat, one.fold))
    _fit_together(ordered)
    for repeat in {one.repeat for one in ordered}:
        _no_patient_twice([one for one in ordered if one.repeat == repeat])
    return [replace(one, scores=checked(one.scores, one.truth, train_rates or _rates_elsewhere(one, ordered))) for one in ordered]


def pooled(folds: Sequence[FoldScores]) -> tuple[Truth, dict[str, ModelScores], list[str | None] | None]:
    """(truth, scores, patients) of the folds of one repeat as if they were one part: every case was scored by a model without it."""
    first = folds[0].truth
    truth = replace(first, values=_joined([one.truth.values for one in folds]), known=_joined([one.truth.known for one in folds]))
    scores = {name: _pooled_scores([one.scores[name] for one in folds]) for name in folds[0].scores}
    if all(one.patients is None for one in folds):
        return truth, scores, None
    patients = [name for one in folds for name in (one.patients if one.patients is not None else [None] * len(one.truth.values))]
    return truth, scores, patients


def rates(truth: Truth) -> list[float]:
    """As `train_rates` of `compare`: shares; regression: the mean; tags: the shares of cases that hold each label.  NaN where no case has
    an answer."""
    values, known = np.asarray(truth.values), np.asarray(truth.known, dtype=bool)
    if truth.kind == "multilabel":
        return [_mean(values[known[:, j], j] == 1) for j in range(len(truth.classes))]
    if truth.kind == "regression":
        return [_mean(values[known])]
    if truth.kind == "tags":
        return [_mean(column) for column in holds(values, known, len(truth.classes))[known].T]
    classes = (1,) if truth.kind == "binary" else range(len(truth.classes))
    return [_mean(values[known] == one) for one in classes]


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _rates_elsewhere(one: FoldScores, folds: Sequence[FoldScores]) -> list[float]:
    others = [other for other in folds if other.repeat == one.repeat and other.fold != one.fold]
    if not others:
        raise ValueError("train_rates are needed where a repeat has one fold")
    first = others[0].truth
    values, known = (_joined([getattr(other.truth, name) for other in others]) for name in ("values", "known"))
    found = rates(replace(first, values=values, known=known))
    if not np.isfinite(found).all():
        raise ValueError(f"{one.place}: the other folds have no label to tell the shares from; give train_rates")
    return found


def _fit_together(folds: Sequence[FoldScores]) -> None:
    if not folds:
        raise ValueError("no folds")
    first, places = folds[0], [(one.repeat, one.fold) for one in folds]
    if len(set(places)) < len(places):
        raise ValueError("a fold stands twice")
    for one in folds:
        if (one.truth.kind, one.truth.classes) != (first.truth.kind, first.truth.classes):
            raise ValueError(f"{one.place}: another kind of answer or other classes than the first fold")
        if set(one.scores) != set(first.scores):
            raise ValueError(f"{one.place}: other models than the first fold")
        if one.n_train < 1:
            raise ValueError(f"{one.place}: n_train is {one.n_train}")
        if one.patients is not None and len(one.patients) != len(one.truth.values):
            raise ValueError(f"{one.place}: {len(one.patients)} patients for {len(one.truth.values)} cases")
        if not labelled(one.truth).any():
            raise ValueError(f"{one.place}: no held-out case has a label")


def _no_patient_twice(folds: Sequence[FoldScores]) -> None:
    seen: set[str] = set()
    for one in folds:
        own = {str(name) for name in one.patients or () if name is not None and name == name}
        if seen & own:
            raise LeakError(
                f"{len(seen & own)} patients are held out by two folds: cases of one patient stood on both sides",
                f"repeat {one.repeat}",
                "make the folds by patient",
            )
        seen |= own


def _pooled_scores(parts: Sequence[ModelScores]) -> ModelScores:
    """A part without decisions or intervals leaves the whole without; the threshold differs by fold, so only one that does not is kept."""
    first = parts[0]
    whole: dict[str, Any] = {name: _all_or_none([getattr(one, name) for one in parts]) for name in ("decisions", "low", "high")}
    validated = [one.validate_score for one in parts if one.validate_score is not None]
    score = float(np.mean(validated)) if len(validated) == len(parts) else None
    return replace(
        first,
        probabilities=_joined([one.probabilities for one in parts]),
        **whole,
        validate_score=score,
        threshold=_threshold([one.threshold for one in parts]),
    )


def _threshold(parts: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """The goal that all folds had; its value is their mean, for every fold chose its own."""
    if any(one is None for one in parts) or len({str((one or {}).get("goal")) for one in parts}) > 1:
        return None
    values = [(one or {}).get("value") for one in parts]
    numbers = [float(one) for one in values if isinstance(one, int | float)]
    return {**(parts[0] or {}), "value": float(np.mean(numbers)) if len(numbers) == len(parts) else None}


def _all_or_none(parts: Sequence[Any]) -> Any:
    return None if any(one is None for one in parts) else _joined(parts)


def _joined(parts: Sequence[Any]) -> Any:
    return np.concatenate([np.asarray(one) for one in parts])

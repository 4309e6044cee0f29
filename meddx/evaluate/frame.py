"""Truth and scores of all cases in, the cases that can be compared out, with those left out counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meddx.errors import DataError, RecipeError
from meddx.evaluate.bootstrap import MIN_EACH, MIN_PATIENTS, patient_numbers, too_few, too_few_of
from meddx.evaluate.calibration import Z, wilson
from meddx.evaluate.metrics import LOWER_IS_BETTER, MACRO
from meddx.evaluate.multi import named, usable_classes
from meddx.evaluate.options import PrimaryOptions
from meddx.evaluate.spans import TRUE, check_spans, holds, span_array, span_counts
from meddx.evaluate.types import CLASSED, Bools, Ints, ModelScores, Truth

PREVALENCE = "prevalence"


@dataclass(frozen=True)
class Frame:
    """The labelled cases that every model scored.

    rows       [n] which of all cases they are
    patients   [m] a number for each compared case's patient
    unknown_patients  how many of them have no patient
    no_interval       why no number has an interval, and why none averaged over classes has one; empty when they have
    no_interval_of    the same for the numbers of each class or label
    """

    truth: Truth
    rows: Bools
    patients: Ints
    unknown_patients: int
    no_interval: tuple[str, str]
    no_interval_of: tuple[str, ...] = ()

    def why_no_interval(self, metric: str) -> str:
        """`metric` may be of one class: `sensitivity/2`."""
        _, of_class, number = metric.partition("/")
        if of_class:
            return self.no_interval[0] or self.no_interval_of[int(number)]
        return self.no_interval[1] if metric in MACRO or metric == "macro_f1" or self.truth.kind == "multilabel" else self.no_interval[0]

    @property
    def values(self) -> Any:
        return np.asarray(self.truth.values)[self.rows]

    @property
    def one_case_a_patient(self) -> bool:
        return len(np.unique(self.patients)) == len(self.patients)


def labelled(truth: Truth) -> Bools:
    """[n]: the cases with an answer (multilabel: with any)."""
    known: Bools = np.asarray(truth.known, dtype=bool)
    return known if known.ndim == 1 else np.asarray(known.any(axis=1))


def frame(truth: Truth, models: Mapping[str, ModelScores], patients: Sequence[str | None] | None, averaged: Sequence[str] = ()) -> Frame:
    """The frame of the models that must score every case (prior scores aside).  DataError when no case is left.

    `averaged` names the classes of the averages (none: all): only they decide whether an average has an interval.
    """
    rows = labelled(truth).copy()
    if not rows.any():
        raise DataError("no case of the test part has a label", "compare", "look at the target column and the split")
    for name, scores in models.items():
        if scores.kind != "prior":
            rows &= scores.scored
            if not rows.any():
                raise DataError(f"no labelled case was scored by {name} and the models before it", "compare", "look at its predictions")
    chosen = None if patients is None else np.array([_known(one) for one in patients], dtype=object)[rows]
    numbers = patient_numbers(chosen, int(rows.sum()))
    unknown = int(rows.sum()) if chosen is None else sum(one is None for one in chosen)
    positive, known = one_against_rest(truth, rows)
    names = truth.classes[1:] if truth.kind == "binary" else truth.classes
    if truth.kind == "tags":
        return Frame(truth, rows, numbers, unknown, *_too_few_spans(numbers, positive, names))
    inside = named(names, () if truth.kind == "binary" else averaged)
    chosen_names = tuple(name for name, one in zip(names, inside, strict=True) if one)
    # Named classes are many also where one is named: the reason is then about the average, not about every number.
    why = too_few(numbers, positive[:, inside], known[:, inside], chosen_names)
    if truth.kind != "binary" and len(chosen_names) == 1 and not _short(numbers, why[0]):
        why = ("", why[1])
    each = tuple(too_few_of(numbers, positive[:, j], known[:, j], name) for j, name in enumerate(names))
    return Frame(truth, rows, numbers, unknown, why, each)


def one_against_rest(truth: Truth, rows: Bools) -> tuple[Bools, Bools]:
    """(positive, known), each [m, k]: one column for each class or label; binary has one column, for yes; regression none.
    Tags: whether the case holds a span of the label."""
    if truth.kind == "tags":
        chosen = np.asarray(truth.values)[rows]
        known = np.asarray(truth.known, dtype=bool)[rows]
        return holds(chosen, known, len(truth.classes)), np.repeat(known[:, None], len(truth.classes), axis=1)
    values, known = np.asarray(truth.values)[rows], np.asarray(truth.known, dtype=bool)[rows]
    if truth.kind == "binary":
        return (values == 1)[:, None], known[:, None]
    if truth.kind == "multilabel":
        return (values == 1) & known, known
    if truth.kind == "regression":
        return np.zeros((len(values), 0), dtype=bool), np.zeros((len(values), 0), dtype=bool)
    return values[:, None] == np.arange(len(truth.classes)), np.repeat(known[:, None], len(truth.classes), axis=1)


def not_averaged(truth: Truth, rows: Bools, averaged: Sequence[str] = ()) -> list[str]:
    """The classes that averages over the chosen `rows` [n] leave out though they should hold them; none for kinds without averages."""
    if truth.kind not in (*CLASSED, "multilabel"):
        return []
    positive, known = one_against_rest(truth, rows)
    wanted = named(truth.classes, averaged) & ~usable_classes(positive, known)
    return [name for name, one in zip(truth.classes, wanted, strict=True) if one]


def checked(models: Mapping[str, ModelScores], truth: Truth, train_rates: Sequence[float]) -> dict[str, ModelScores]:
    """The models with `prevalence` among them.  ValueError for arrays that do not fit; DataError for what is no probability."""
    cases, columns = len(truth.values), len(truth.classes)
    one_column = truth.kind in ("binary", "regression")
    if len(train_rates) != (1 if one_column else columns) and not (truth.kind == "tags" and not train_rates):
        raise ValueError("train_rates: one share for binary, the mean for regression, else one a class or label (tags: or none)")
    if truth.kind == "tags":
        if any(not 0 <= one <= 1 for one in train_rates):
            raise ValueError("train_rates: of tags the share of cases that hold each label, between 0 and 1")
        check_spans("truth", truth.values, labelled(truth), columns, may_lack=False)
    for name, scores in models.items():
        if scores.kind == "prior" and truth.kind != "binary":
            raise RecipeError("comparison.prior_scores: a prior score is compared on a yes-or-no question only", name, "leave it out")
        if truth.kind == "tags":
            check_spans(name, scores.probabilities, np.ones(cases, dtype=bool), columns, may_lack=True)
            continue
        said = np.asarray(scores.probabilities, dtype=np.float64)
        wanted = [(cases,), (cases, 1)] if one_column or scores.kind == "prior" else [(cases, columns)]
        if said.shape not in wanted:
            raise ValueError(f"{name}: scores of shape {said.shape}, not {wanted[0]}")
        if scores.decisions is not None and len(scores.decisions) != cases:
            raise ValueError(f"{name}: {len(scores.decisions)} decisions for {cases} cases")
        inside = said[np.isfinite(said)] if truth.kind != "regression" else np.zeros(0)
        if scores.kind != "prior" and len(inside) and (inside.min() < -1e-6 or inside.max() > 1 + 1e-6):
            raise DataError(f"{name}: some of its probabilities are not between 0 and 1", "compare", "score again with its bundle")
    return dict(models) if PREVALENCE in models else {PREVALENCE: _prevalence(truth, train_rates), **models}


def primary_pair(models: Mapping[str, ModelScores], options: PrimaryOptions) -> tuple[str, str, str]:
    """(model, baseline, how the baseline was chosen).  RecipeError when the recipe names what is not there."""
    where = "comparison.primary"
    model = options.model or _only_network(models)
    baselines = {name: scores for name, scores in models.items() if scores.kind == "baseline" and name != model}
    for key, name, known in (("model", model, models), ("against", options.against, baselines)):
        if name not in known and not (key == "against" and name == "best"):
            raise RecipeError(f"{where}.{key}: no predictions of {name!r}", where, f"there are: {', '.join(known)}")
    if models[model].kind == "prior":
        raise RecipeError(f"{where}.model: {model!r} is a prior score", where, "it is compared by rank, as a secondary comparison")
    if options.against != "best":
        return model, options.against, "named in the recipe"
    sign = -1.0 if options.metric in LOWER_IS_BETTER else 1.0
    scored = {name: one.validate_score for name, one in baselines.items()}
    ranked = {name: sign * score for name, score in scored.items() if score is not None and np.isfinite(score)}
    if not ranked and len(baselines) == 1:
        return model, next(iter(baselines)), "the only baseline"
    if not ranked:
        raise RecipeError(f"{where}.against: best needs each baseline's score on the validate part", where, "name the baseline")
    return model, max(ranked, key=lambda name: ranked[name]), "the best on the validate part"


def described(truth: Truth, models: Mapping[str, ModelScores], found: Frame, train_rates: Sequence[float]) -> dict[str, Any]:
    """The counts of the flow: given, labelled, compared, left out and how often those left out have the outcome."""
    has_label = labelled(truth)
    left_out = has_label & ~found.rows
    positive, known = one_against_rest(truth, found.rows)
    out_positive, out_known = one_against_rest(truth, left_out)
    names = truth.classes[1:] if truth.kind == "binary" else truth.classes
    outcomes = []
    for j, name in enumerate(names):
        with_it, of, out_of = int(positive[:, j].sum()), int(known[:, j].sum()), int(out_known[:, j].sum())
        # The interval of the rate counts patients, not cases: those of one patient are alike.
        effective = min(of, len(np.unique(found.patients[known[:, j]])))
        low, high = wilson(effective * with_it / of, effective) if of else (None, None)
        outcomes.append(
            {
                "class": name,
                "cases": with_it,
                "of": of,
                "rate": with_it / of if of else None,
                "low": low,
                "high": high,
                "train_rate": float(train_rates[j]) if len(train_rates) else None,
                "left_out_rate": float(out_positive[:, j].sum() / out_of) if out_of else None,
            }
        )
    return {
        "given": len(has_label),
        "labelled": int(has_label.sum()),
        "unlabelled": int((~has_label).sum()),
        "left_out": int(left_out.sum()),
        "not_scored": {name: int((has_label & ~one.scored).sum()) for name, one in models.items() if one.kind != "prior"},
        "compared": int(found.rows.sum()),
        "patients": len(np.unique(found.patients)),
        "without_patient": found.unknown_patients,
        "one_case_a_patient": found.one_case_a_patient,
        "outcomes": outcomes,
        "values": _distribution(found, float(train_rates[0])) if truth.kind == "regression" else None,
        "spans": spans_of(found) if truth.kind == "tags" else None,
    }


def spans_of(found: Frame) -> list[int]:
    """How many distinct spans of each label the compared cases have."""
    counts = span_counts(found.values, found.values, len(found.truth.classes))[:, :, TRUE].sum(axis=0)
    return [int(one) for one in counts]


def _too_few_spans(patients: Ints, holding: Bools, names: Sequence[str]) -> tuple[tuple[str, str], tuple[str, ...]]:
    """As `too_few`, for spans, whose numbers need no cases without: 30 patients, and 10 with a span (of the label)."""

    def why(rows: Bools, what: str) -> str:
        with_it = len(np.unique(patients[rows]))
        return "" if with_it >= MIN_EACH else f"too few patients for an interval ({with_it} with {what}; {MIN_EACH} are needed)"

    reason = too_few(patients, holding[:, :0], holding[:, :0], ())[0] or why(np.asarray(holding.any(axis=1)), "a span")
    return (reason, reason), tuple(why(holding[:, j], name) for j, name in enumerate(names))


def _distribution(found: Frame, train_mean: float) -> dict[str, float | None]:
    """The observed numbers of the compared cases: mean with a Wald interval that counts patients, SD, middle nine tenths."""
    seen = np.asarray(found.values, dtype=np.float64)
    spread = float(seen.std(ddof=1)) if len(seen) > 1 else None
    half = None if spread is None else Z * spread / math.sqrt(len(np.unique(found.patients)))
    mean, (low, middle, high) = float(seen.mean()), (float(one) for one in np.quantile(seen, [0.05, 0.5, 0.95]))
    around = {"low": None, "high": None} if half is None else {"low": mean - half, "high": mean + half}
    return {"mean": mean, **around, "sd": spread, "p5": low, "median": middle, "p95": high, "train_mean": train_mean}


def _short(patients: Ints, reason: str) -> bool:
    """Whether the reason is that there are too few patients altogether."""
    return bool(reason) and len(np.unique(patients)) < MIN_PATIENTS


def _known(patient: object) -> str | None:
    return None if patient is None or patient != patient else str(patient)


def _only_network(models: Mapping[str, ModelScores]) -> str:
    networks = [name for name, scores in models.items() if scores.kind == "network"]
    # `network without labs` is the same network with an input hidden.
    networks = [name for name in networks if not any(name.startswith(f"{other} without ") for other in networks)]
    if len(networks) != 1:
        found = f"there are {len(networks)} networks" + (f": {', '.join(networks)}" if networks else "")
        raise RecipeError("comparison.primary.model is not said", "comparison.primary", f"{found}; name one model")
    return networks[0]


def _prevalence(truth: Truth, train_rates: Sequence[float]) -> ModelScores:
    """Says the same of every case: how often it was so in training; regression: the mean there; tags: nothing."""
    rates, cases = np.asarray(train_rates, dtype=np.float64), len(truth.values)
    if truth.kind == "tags":  # no span is the frequent case of every word
        return ModelScores(span_array([[] for _ in range(cases)]), None, "baseline")
    if truth.kind == "regression":
        return ModelScores(np.full(cases, rates[0]), None, "baseline")
    if truth.kind == "binary":
        return ModelScores(np.full(cases, rates[0]), np.full(cases, rates[0] > 0.5), "baseline")
    said = np.tile(rates, (cases, 1))
    if truth.kind == "ordinal":  # the median class, as every ordinal decision
        return ModelScores(said, np.full(cases, min(int((rates.cumsum() < 0.5 * rates.sum()).sum()), len(rates) - 1)), "baseline")
    decided = np.full(cases, rates.argmax()) if truth.kind == "multiclass" else said > 0.5
    return ModelScores(said, decided, "baseline")

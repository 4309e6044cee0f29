"""The models of many folds in, one comparison out: numbers a fold, averaged, with corrected intervals.  Plain JSON values.

The estimate is of the procedure that makes a model, not of one model: what is shipped is fitted on all rows afterwards.  The
JSON has the shape of `compare`, and `folds` besides: each fold's numbers, and the out-of-fold predictions of the first repeat
taken together, with the bootstrap by patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meddx.evaluate.bench import Bench
from meddx.evaluate.bootstrap import MIN_PATIENTS, Interval
from meddx.evaluate.compare import in_order, method, role, target
from meddx.evaluate.fitting import check_metrics, metric_name, metrics_shown
from meddx.evaluate.frame import PREVALENCE, described, frame, labelled, not_averaged, primary_pair
from meddx.evaluate.metrics import LOWER_IS_BETTER, one_weighting, oriented
from meddx.evaluate.multi import numbers_for
from meddx.evaluate.options import ComparisonOptions
from meddx.evaluate.pooling import FoldScores as FoldScores
from meddx.evaluate.pooling import pooled, rates, with_prevalence
from meddx.evaluate.priors import prior_comparisons
from meddx.evaluate.resampled import corrected, judge_folds, within_range
from meddx.evaluate.rows import by_class, figures, row
from meddx.evaluate.types import Floats, ModelScores
from meddx.evaluate.verdict import estimate, plainly
from meddx.evaluate.warn import warnings
from meddx.evaluate.words import absent_sentence, folds_sentence, primary_sentence, too_few_sentence

FOLD_METHOD = (
    "Means of the numbers of each fold; 95 % intervals: t interval over the folds, corrected for their shared training cases "
    "(Nadeau and Bengio 2003)"
)
ON_FOLDS = "the best on these same folds, which flatters it: the comparison is the harder for the model"


@dataclass(frozen=True)
class Measured:
    """{model: {metric: [J]}}, and n_test / n_train averaged over the J folds.

    gone  class to how many folds hold it not at all, or nothing else, so that their averages over classes leave it out
    """

    points: Mapping[str, Mapping[str, Floats]]
    cases: tuple[int, ...]
    ratio: float
    gone: Mapping[str, int]

    def difference(self, metric: str, model: str, other: str) -> Floats:
        """[J]: model - other, turned so that positive is better."""
        turned: Floats = oriented(metric, self.points[model][metric] - self.points[other][metric])
        return turned

    def compared(self, metric: str, model: str, other: str) -> tuple[float, Interval, int]:
        """(mean difference, its corrected interval, folds that define it)."""
        found = self.difference(metric, model, other)
        return *corrected(found, self.ratio), int(np.isfinite(found).sum())

    def cell(self, kind: str, metric: str, model: str) -> dict[str, Any]:
        """A model's mean over the folds; `folds` says of how many where it is not of all."""
        values = self.points[model][metric]
        mean, around = corrected(values, self.ratio)
        used = int(np.isfinite(values).sum())
        shown = estimate(mean, within_range(kind, metric, around))
        return shown if used in (0, len(values)) else {**shown, "folds": used}


def compare_folds(folds: Sequence[FoldScores], options: ComparisonOptions, *, train_rates: Sequence[float] | None = None) -> dict[str, Any]:
    """The comparison of procedures as JSON values (null where undefined, with a `reason`).

    folds        every fold of every repeat, the same models in each; `prevalence` is added where it is not there
    train_rates  as in `compare`; None: each fold's from the other folds of its repeat
    Raises RecipeError and DataError as `compare`, LeakError (a patient held out twice in a repeat), ValueError (folds that do not
    fit together).
    """
    if folds:
        check_metrics(folds[0].truth.kind, folds[0].truth.classes, options)
    folds = with_prevalence(folds, train_rates)
    measured = _measured(folds, options)
    first = [one for one in folds if one.repeat == folds[0].repeat]
    truth, models, patients = pooled(first)
    # All repeats choose the baseline, not the first alone.
    model, against, chosen, on_folds = _pair({**models, **_validated(folds, models)}, measured, options)
    found = frame(truth, models, patients, options.classes)
    bench = Bench(models, found, options)
    cases = {
        **described(truth, models, found, train_rates or rates(truth)),
        "where": "the held-out folds",
        "noun": "held-out case",
    }
    shown, order = metrics_shown(truth.kind, options), in_order(bench.models, model, against)
    rows = [row(bench, name, shown, role(name, model, against)) for name in order]
    out_of_fold = {one["name"]: one["numbers"] for one in rows}
    rows = [{**one, "numbers": {m: measured.cell(truth.kind, m, one["name"]) for m in shown}} for one in rows]
    primary = {**_primary(measured, truth.kind, (model, against, chosen), options), "chosen_on_folds": on_folds}
    return {
        "schema": 1,
        "target": target(truth),
        "metrics": {one: metric_name(truth.kind, one) for one in shown},
        "intervals": {"method": FOLD_METHOD, "resamples": options.bootstrap, "seed": options.seed, "none": None, "none_averaged": None},
        "cases": cases,
        "primary": primary,
        "warnings": warnings(truth, rows[0], cases, options.classes),
        "models": rows,
        "per_class": by_class(bench, order),
        "folds": _block(folds, measured, bench, primary, out_of_fold),
        "secondary": _secondary(measured, order, shown, options.primary.metric),
        "priors": prior_comparisons(models, found, model, options) if truth.kind == "binary" else [],
        "curves": figures(bench, order),
    }


def _measured(folds: Sequence[FoldScores], options: ComparisonOptions) -> Measured:
    """Every number of every model in every fold, on the cases of the fold that all models scored."""
    each, cases, ratios = [], [], []
    gone: Counter[str] = Counter()
    for one in folds:
        rows = frame(one.truth, one.scores, one.patients, options.classes).rows
        ones = one_weighting(None, int(rows.sum()))
        own = {name: scores for name, scores in one.scores.items() if scores.kind != "prior"}
        found = {name: numbers_for(one.truth, scores, rows, options.classes)(ones) for name, scores in own.items()}
        each.append({name: {metric: float(value[0]) for metric, value in numbers.items()} for name, numbers in found.items()})
        gone.update(not_averaged(one.truth, rows, options.classes))
        cases.append(int(rows.sum()))
        ratios.append(int(labelled(one.truth).sum()) / one.n_train)
    points = {name: {metric: np.array([one[name][metric] for one in each]) for metric in each[0][name]} for name in each[0]}
    return Measured(points, tuple(cases), float(np.mean(ratios)), dict(gone))


def _validated(folds: Sequence[FoldScores], models: Mapping[str, ModelScores]) -> dict[str, ModelScores]:
    """The models with the mean of their validate scores over all folds; None where a fold has none."""
    found = {}
    for name, scores in models.items():
        given = [one.scores[name].validate_score for one in folds]
        known = [one for one in given if one is not None]
        found[name] = replace(scores, validate_score=float(np.mean(known)) if len(known) == len(given) else None)
    return found


def _pair(models: Mapping[str, ModelScores], measured: Measured, options: ComparisonOptions) -> tuple[str, str, str, bool]:
    """(model, baseline, how the baseline was chosen, whether by the same folds that compare it)."""
    wanted = options.primary
    baselines = {name: one for name, one in models.items() if one.kind == "baseline" and name not in (PREVALENCE, wanted.model)}
    if wanted.against != "best" or any(one.validate_score is not None for one in baselines.values()):
        model, against, chosen = primary_pair(models, wanted)
        return model, against, chosen.replace("the validate part", "the validate parts inside the folds"), False
    if len(baselines) < 2:
        only = next(iter(baselines), PREVALENCE)
        model, against, _ = primary_pair(models, wanted.model_copy(update={"against": only}))
        return model, against, "the only fitted baseline" if baselines else "the only baseline", False
    means = {name: corrected(measured.points[name][wanted.metric], 0.0)[0] for name in baselines}
    scored = {name: replace(one, validate_score=means[name]) if name in means else one for name, one in models.items()}
    model, against, _ = primary_pair(scored, wanted)
    return model, against, ON_FOLDS, True


def _primary(measured: Measured, kind: str, pair: tuple[str, str, str], options: ComparisonOptions) -> dict[str, Any]:
    """The one difference that has a verdict."""
    (model, against, chosen), metric = pair, options.primary.metric
    value, around, used = measured.compared(metric, model, against)
    useful = options.primary.smallest_useful
    primary = {
        "metric": metric,
        "metric_name": metric_name(kind, metric),
        "lower_is_better": metric in LOWER_IS_BETTER,
        "model": model,
        "against": against,
        "chosen": chosen,
        "model_number": measured.cell(kind, metric, model),
        "against_number": measured.cell(kind, metric, against),
        "difference": estimate(value, around),
        "smallest_useful": useful,
        **judge_folds(value, around, used, useful),
    }
    plain = plainly(model, against, primary["verdict"], around, useful)
    return {**primary, "plain": plain, "sentence": primary_sentence(primary)}


def _secondary(measured: Measured, order: Sequence[str], shown: Sequence[str], primary: str) -> list[dict[str, Any]]:
    """Every other difference, for looking only; `order` starts with the model and what it is compared with."""
    rows = []
    for place, other in enumerate(order[1:]):
        for metric in shown:
            if (place, metric) != (0, primary):
                value, around, _ = measured.compared(metric, order[0], other)
                rows.append({"metric": metric, "model": order[0], "against": other, "difference": estimate(value, around)})
    return rows


def _why_none(bench: Bench) -> str:
    """Why the pooled numbers have no interval; empty where they have."""
    patients = len(np.unique(bench.frame.patients))
    noun = "patient" if bench.frame.unknown_patients < len(bench.frame.patients) else "case"
    return too_few_sentence(patients, noun) if patients < MIN_PATIENTS else bench.frame.no_interval[0]


def _block(
    folds: Sequence[FoldScores], measured: Measured, bench: Bench, primary: Mapping[str, Any], out_of_fold: Mapping[str, Any]
) -> dict[str, Any]:
    """What only folds have: how many, each fold's primary number, and the pooled numbers."""
    metric, model, against = primary["metric"], primary["model"], primary["against"]
    differences = measured.difference(metric, model, against)
    table = [
        {
            "repeat": one.repeat,
            "fold": one.fold,
            "cases": measured.cases[place],
            "n_train": one.n_train,
            "values": {name: estimate(float(measured.points[name][metric][place]), Interval())["value"] for name in bench.models},
            "difference": estimate(float(differences[place]), Interval())["value"],
        }
        for place, one in enumerate(folds)
    ]
    block = {
        "repeats": len({one.repeat for one in folds}),
        "folds": max(sum(other.repeat == one.repeat for other in folds) for one in folds),
        "count": len(folds),
        "used": int(np.isfinite(differences).sum()),
        "n_train": float(np.mean([one.n_train for one in folds])),
        "ratio": measured.ratio,
        "chosen_on_folds": primary["chosen_on_folds"],
        "absent": dict(measured.gone),
        "absent_sentence": absent_sentence(bench.frame.truth.kind, measured.gone, len(folds)),
        "table": table,
        "pooled": {
            "repeat": folds[0].repeat,
            "cases": int(bench.frame.rows.sum()),
            "method": method(list(out_of_fold[model])),
            "none": _why_none(bench) or None,
            "models": out_of_fold,
            "difference": estimate(*bench.difference(metric, model, against)),
        },
    }
    return {**block, "sentence": folds_sentence(block, against)}

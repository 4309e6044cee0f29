"""Predictions of several models and the truth in, one comparison out: table, primary difference, verdict, curves.  Plain JSON values.

One comparison was named before looking; it alone gets a verdict.  All others are listed as secondary, without adjustment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meddx.evaluate.bench import Bench
from meddx.evaluate.fitting import check_metrics, metric_name, metrics_shown
from meddx.evaluate.frame import PREVALENCE, checked, described, frame, primary_pair
from meddx.evaluate.metrics import LOWER_IS_BETTER
from meddx.evaluate.options import ComparisonOptions
from meddx.evaluate.priors import prior_comparisons
from meddx.evaluate.rows import by_class, figures, row
from meddx.evaluate.types import ModelScores, Truth
from meddx.evaluate.verdict import estimate, judge, plainly
from meddx.evaluate.warn import warnings
from meddx.evaluate.words import primary_sentence

METHOD = "95 % intervals: percentile bootstrap by patient, the same resamples for all models"
OF_ECE = " (ECE: reflected, for resampling inflates it)"


def compare(
    models: Mapping[str, ModelScores],
    truth: Truth,
    patients: Sequence[str | None] | None,
    options: ComparisonOptions,
    *,
    train_rates: Sequence[float],
) -> dict[str, Any]:
    """The comparison as JSON values (null where undefined, with a `reason`).

    models       name to scores, all over the same n cases as `truth`, test part only; `prevalence` is added when it is not there
    patients     [n] names, None where unknown; None when no patient is known
    train_rates  binary: [share with the outcome in train]; multiclass, ordinal and multilabel: the share of each class or label;
                 regression: [mean in train]; tags: the share of train cases that hold each label, or nothing where that is not known
    Raises RecipeError (a model that is not there, a metric that does not fit the kind of answer), DataError (nothing to compare),
    ValueError (arrays that do not fit).
    """
    check_metrics(truth.kind, truth.classes, options)
    models = checked(models, truth, train_rates)
    model, against, chosen = primary_pair(models, options.primary)
    found = frame(truth, models, patients, options.classes)
    bench = Bench(models, found, options)
    shown = metrics_shown(truth.kind, options)
    cases = described(truth, models, found, train_rates)
    order = in_order(bench.models, model, against)
    rows = [row(bench, name, shown, role(name, model, against)) for name in order]
    primary = _primary(bench, model, against, chosen, options)
    return {
        "schema": 1,
        "target": target(truth),
        "metrics": {one: metric_name(truth.kind, one) for one in shown},
        "intervals": {
            "method": method(shown),
            "resamples": options.bootstrap,
            "seed": options.seed,
            "none": found.no_interval[0] or None,
            "none_averaged": found.no_interval[1] or None,
        },
        "cases": cases,
        "primary": primary,
        "warnings": warnings(truth, next(one for one in rows if one["name"] == model), cases, options.classes),
        "models": rows,
        "per_class": by_class(bench, order),
        "folds": None,
        "secondary": _secondary(bench, model, against, shown, options.primary.metric),
        "priors": prior_comparisons(models, found, model, options) if truth.kind == "binary" else [],
        "curves": figures(bench, order),
    }


def method(shown: Sequence[str]) -> str:
    """How the intervals of these metrics were made."""
    return METHOD + (OF_ECE if "ece" in shown else "")


def target(truth: Truth) -> dict[str, Any]:
    """What was asked, as JSON values."""
    return {"kind": truth.kind, "classes": list(truth.classes), "column": truth.column, "outcome": truth.outcome}


def role(name: str, model: str, against: str) -> str:
    """What a model is in the primary comparison: `model`, `against`, or neither."""
    return {model: "model", against: "against"}.get(name, "")


def in_order(models: Mapping[str, ModelScores], model: str, against: str) -> list[str]:
    """The model in question, what it is compared with, the others, and prevalence last."""
    return sorted(models, key=lambda name: (name != model, name != against, name == PREVALENCE))


def _primary(bench: Bench, model: str, against: str, chosen: str, options: ComparisonOptions) -> dict[str, Any]:
    metric = options.primary.metric
    value, around = bench.difference(metric, model, against)
    primary = {
        "metric": metric,
        "metric_name": metric_name(bench.frame.truth.kind, metric),
        "lower_is_better": metric in LOWER_IS_BETTER,
        "model": model,
        "against": against,
        "chosen": chosen,
        "model_number": bench.cell(model, metric),
        "against_number": bench.cell(against, metric),
        "difference": estimate(value, around),
        "smallest_useful": options.primary.smallest_useful,
        **judge(value, around, options.primary.smallest_useful),
    }
    plain = plainly(model, against, primary["verdict"], around, options.primary.smallest_useful)
    return {**primary, "plain": plain, "sentence": primary_sentence(primary)}


def _secondary(bench: Bench, model: str, against: str, shown: Sequence[str], primary: str) -> list[dict[str, Any]]:
    """Every other difference, for looking only: intervals are not adjusted for their number, and none is a verdict."""
    rows = []
    for other in in_order(bench.models, model, against)[1:]:
        for metric in shown:
            if (other, metric) != (against, primary):
                rows.append(
                    {"metric": metric, "model": model, "against": other, "difference": estimate(*bench.difference(metric, model, other))}
                )
    return rows

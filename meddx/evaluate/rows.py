"""A bench of models in; rows of the table, and the curves of the figures, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from meddx.evaluate import calibration
from meddx.evaluate.bench import Bench
from meddx.evaluate.bootstrap import Interval
from meddx.evaluate.curves import curves, operating_point
from meddx.evaluate.frame import Frame, one_against_rest, spans_of
from meddx.evaluate.multi import PER_CLASS, MulticlassNumbers, MultilabelNumbers
from meddx.evaluate.regression import RegressionNumbers, against_observed
from meddx.evaluate.types import Floats
from meddx.evaluate.verdict import estimate, number
from meddx.evaluate.warn import reached

MOST_CURVES = 8


def row(bench: Bench, name: str, shown: Sequence[str], role: str) -> dict[str, Any]:
    """One model's row: numbers with intervals, calibration, what its threshold reached, confusion, and its classes."""
    scores, found = bench.models[name], bench.frame
    goal_metrics = ("sensitivity", "specificity", "ppv")
    wanted = [*shown, *goal_metrics] if found.truth.kind == "binary" else shown
    cells = {metric: bench.cell(name, metric) for metric in dict.fromkeys(wanted)}
    decisions = None if scores.decisions is None else np.asarray(scores.decisions)[found.rows]
    goal = None
    if found.truth.kind == "binary":
        goal = reached(scores, found.values, None if decisions is None else decisions.reshape(-1), cells, found.one_case_a_patient)
    return {
        "name": name,
        "kind": scores.kind,
        "role": role,
        "numbers": {metric: cells[metric] for metric in shown},
        "validate_score": scores.validate_score,
        "threshold": dict(scores.threshold) if scores.threshold else None,
        "goal": goal,
        "calibration": _calibration(bench, name),
        "confusion": _confusion(found, decisions),
        "classes": _classes(bench, name),
    }


def _calibration(bench: Bench, name: str) -> dict[str, Any]:
    found = bench.frame
    if found.truth.kind == "tags":
        return {"in_the_large": estimate(float("nan"), Interval(reason="spans are compared without their scores"))}
    value = bench.points[name]["in_the_large"]
    why = found.why_no_interval("in_the_large")
    result: dict[str, Any] = {"in_the_large": number("in_the_large", *bench.pair(name, "in_the_large"), why, "not defined on these cases")}
    if found.truth.kind == "binary" and value == value:
        said = np.asarray(bench.models[name].probabilities, dtype=np.float64).reshape(-1)[found.rows]
        for key, fit in (("slope", calibration.slope), ("intercept", calibration.intercept)):
            fitted, around = fit(found.values, said, found.patients)
            result[key] = estimate(fitted, Interval(reason=why) if why and fitted == fitted else around)
    if found.truth.kind == "regression":
        numbers = bench.numbers[name]
        given = isinstance(numbers, RegressionNumbers) and numbers.has_intervals
        result.update({key: bench.cell(name, key) if given else None for key in ("coverage", "width")})
    return result


def _confusion(found: Frame, decisions: Any) -> list[list[int]] | None:
    """Rows: what is; columns: what was decided; binary (no, yes), multiclass and ordinal."""
    if decisions is None or found.truth.kind in ("multilabel", "regression", "tags"):
        return None
    many = len(found.truth.classes)
    cells = np.bincount(found.values.astype(np.int64) * many + decisions.reshape(-1).astype(np.int64), minlength=many * many)
    return [[int(one) for one in row] for row in cells.reshape(many, many)]


def _classes(bench: Bench, name: str) -> list[dict[str, Any]]:
    """A row for each class or label, with estimates and no intervals; binary has none."""
    numbers, found = bench.numbers[name], bench.frame
    if not isinstance(numbers, MulticlassNumbers | MultilabelNumbers):
        return []
    rows = []
    for j, (label, one) in enumerate(zip(found.truth.classes, numbers.each, strict=True)):
        known = numbers.known[:, j].astype(np.float64)
        values = {metric: estimate(float(v[0]), Interval())["value"] for metric, v in one(known[None, :]).items()}
        entry = {
            "class": label,
            "cases": int((one.labels * known).sum()),
            "of": int(known.sum()),
            "averaged": bool(numbers.usable[j]),
            **{metric: values[metric] for metric in ("rate", "auroc", "auprc", "sensitivity", "specificity", "ppv")},
        }
        if isinstance(numbers, MultilabelNumbers) and bench.draws:
            entry["in_the_large"] = _label_in_the_large(one.probabilities - one.labels, known, found)
        rows.append(entry)
    return rows


def by_class(bench: Bench, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class or label: its cases, and sensitivity, PPV and F1 of each of `names` with bootstrap intervals.

    Binary and regression have none.  A number that no decision defines is null with a reason.  Tags: recall, precision and F1 of exact
    spans stand under the same names; `cases` hold the label, `spans` are how many.
    """
    if bench.frame.truth.kind == "tags":
        return _by_label(bench, names)
    if not names or not isinstance(bench.numbers[names[0]], MulticlassNumbers | MultilabelNumbers):
        return []
    rows = _classes(bench, names[0])
    found = []
    for j, one in enumerate(rows):
        models = {name: {metric: _class_cell(bench, name, metric, j, one) for metric in PER_CLASS} for name in names}
        found.append({**{key: one[key] for key in ("class", "cases", "of", "averaged")}, "models": models})
    return found


def _by_label(bench: Bench, names: Sequence[str]) -> list[dict[str, Any]]:
    positive, _ = one_against_rest(bench.frame.truth, bench.frame.rows)
    found = []
    for j, (label, spans) in enumerate(zip(bench.frame.truth.classes, spans_of(bench.frame), strict=True)):
        models = {name: {metric: bench.cell(name, f"{metric}/{j}") for metric in PER_CLASS} for name in names}
        cases = {"class": label, "cases": int(positive[:, j].sum()), "of": len(positive), "averaged": True, "spans": spans}
        found.append({**cases, "models": models})
    return found


def _class_cell(bench: Bench, name: str, metric: str, j: int, one: dict[str, Any]) -> dict[str, Any]:
    key = f"{metric}/{j}"
    value, draws = bench.pair(name, key)
    if bench.models[name].decisions is None:
        why = "it makes no decisions"
    elif metric == "sensitivity" or one["cases"] == 0:
        why = f"no case is {one['class']}"
    else:
        why = f"no case was decided to be {one['class']}"
    return number(metric, value, draws, bench.frame.why_no_interval(key), why)


def _label_in_the_large(gap: Floats, known: Floats, found: Frame) -> dict[str, Any] | None:
    """Mean probability - rate of one label, with a Wald interval by patient (a ratio of sums over patients)."""
    groups = int(found.patients.max()) + 1
    total = known.sum()
    if total == 0:
        return None
    mean = float((gap * known).sum() / total)
    sums = np.bincount(found.patients, (gap - mean) * known, groups)
    spread = float(np.sqrt((sums**2).sum() * groups / max(1, groups - 1)) / total)
    return estimate(mean, Interval(mean - calibration.Z * spread, mean + calibration.Z * spread, spread))


def figures(bench: Bench, names: Sequence[str]) -> list[dict[str, Any]]:
    """The curves.  Binary and regression: of each model.  Else: of each class of the first of `names`, the most frequent first,
    at most eight."""
    if bench.frame.truth.kind == "regression":
        return [_of_values(bench, name) for name in names]
    if bench.frame.truth.kind == "binary":
        return [_of_model(bench, name) for name in names]
    numbers = bench.numbers[names[0]]
    if not isinstance(numbers, MulticlassNumbers | MultilabelNumbers):
        return []
    sizes = np.array([(one.labels * numbers.known[:, j]).sum() for j, one in enumerate(numbers.each)])
    order = [j for j in np.argsort(-sizes, kind="stable") if numbers.usable[j]][:MOST_CURVES]
    found = []
    for j in order:
        one, known = numbers.each[j], numbers.known[:, j]
        auroc = float(one(known[None, :].astype(np.float64))["auroc"][0])
        found.append(
            {
                "name": bench.frame.truth.classes[j],
                "of": "class",
                "auroc": auroc,
                "point": None,
                **curves(one.labels[known], one.probabilities[known]),
            }
        )
    return found


def _of_model(bench: Bench, name: str) -> dict[str, Any]:
    scores, found = bench.models[name], bench.frame
    said = np.asarray(scores.probabilities, dtype=np.float64).reshape(-1)[found.rows]
    decided = None if scores.decisions is None else np.asarray(scores.decisions).reshape(-1)[found.rows]
    point = None if decided is None else operating_point(found.values, decided)
    auroc = estimate(bench.points[name]["auroc"], Interval())["value"]
    return {"name": name, "of": "model", "auroc": auroc, "point": point, **curves(found.values, said)}


def _of_values(bench: Bench, name: str) -> dict[str, Any]:
    found = bench.frame
    said = np.asarray(bench.models[name].probabilities, dtype=np.float64).reshape(-1)[found.rows]
    return {"name": name, "of": "model", "auroc": None, "point": None, "observed": against_observed(found.values, said)}

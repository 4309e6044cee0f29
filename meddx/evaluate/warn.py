"""Numbers in, plain warnings out: what must stand in the first paragraph because the verdict alone would flatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meddx.evaluate.calibration import wilson
from meddx.evaluate.metrics import NAMES
from meddx.evaluate.types import CLASSED, ModelScores, Truth
from meddx.evaluate.words import MOST_NAMED, count, percent, shown, with_interval

SLOPE_OFF = 0.1
SHARE_OFF = 0.02
RELATIVE_OFF = 0.2
LEFT_OUT = 0.01
MEAN_OFF = 0.1  # of the observed standard deviation


def reached(scores: ModelScores, labels: Any, decisions: Any, numbers: Mapping[str, Any], one_case: bool) -> dict[str, Any] | None:
    """What the threshold was asked for, and what it reached on test: {goal, metric, asked, value, low, high, hits, of, met}.

    None without a goal that names a number.  The interval is Wilson's; with several cases a patient it is the bootstrap's.
    """
    goal = str((scores.threshold or {}).get("goal", ""))
    metric, sign, asked = (part.strip() for part in goal.partition(">="))
    if not sign or decisions is None:
        return None
    truth, decided = np.asarray(labels, dtype=bool), np.asarray(decisions, dtype=bool)
    within, right = {"sensitivity": (truth, decided), "specificity": (~truth, ~decided), "ppv": (decided, truth)}[metric]
    hits, of = int((within & right).sum()), int(within.sum())
    low, high = wilson(hits, of)
    method = "Wilson interval"
    if not one_case and numbers[metric]["low"] is not None:
        low, high, method = numbers[metric]["low"], numbers[metric]["high"], "bootstrap by patient"
    value = hits / of if of else None
    return {
        "goal": goal,
        "metric": metric,
        "asked": float(asked),
        "value": value,
        "low": low if of else None,
        "high": high if of else None,
        "method": method,
        "hits": hits,
        "of": of,
        "met": value is not None and value >= float(asked),
    }


def warnings(truth: Truth, model: Mapping[str, Any], cases: Mapping[str, Any], averaged: Sequence[str] = ()) -> list[str]:
    """The sentences, worst first; `model` is the primary model's row of the table, `averaged` the classes named for the averages."""
    where = cases.get("where", "the test part")
    off = [] if truth.kind == "tags" else _values_off(model, cases) if truth.kind == "regression" else _calibration(truth, model, cases)
    shift = _labels_moved(cases) if truth.kind == "tags" else _shift(cases)
    found = [_goal(model, where), _not_averaged(model, averaged), *off, *shift, _left_out(cases), _patients(cases)]
    return [one for one in found if one]


def _goal(model: Mapping[str, Any], where: str) -> str:
    goal = model["goal"]
    if goal is None or goal["met"]:
        return ""
    metric = NAMES[goal["metric"]]
    start = f"The decisions of {model['name']} miss their goal: {metric} of at least {shown(goal['asked'], 2)} was asked, "
    if goal["value"] is None:
        return start + f"and on {where} it cannot be computed."
    chance = " The interval includes the goal, so this can be chance." if goal["high"] >= goal["asked"] else ""
    return start + f"on {where} it is {with_interval(goal)}: {goal['hits']:,} of {goal['of']:,} ({goal['method']}).{chance}"


def _calibration(truth: Truth, model: Mapping[str, Any], cases: Mapping[str, Any]) -> list[str]:
    large, slope = model["calibration"]["in_the_large"], model["calibration"].get("slope")
    found = []
    if truth.kind == "binary":
        rate = cases["outcomes"][0]["rate"]
        if _off(large, rate):
            side = "high" if large["value"] > 0 else "low"
            found.append(
                f"The probabilities of {model['name']} are too {side} on average: it expects the outcome in "
                f"{percent(rate + large['value'])} of the cases, and {percent(rate)} have it."
            )
        if slope and slope["low"] is not None and not slope["low"] <= 1 <= slope["high"] and abs(slope["value"] - 1) > SLOPE_OFF:
            kind = "too extreme (high ones too high, low ones too low)" if slope["value"] < 1 else "too timid (all too near the average)"
            found.append(f"The probabilities of {model['name']} are {kind}: calibration slope {with_interval(slope)}, 1 is right.")
    elif truth.kind in CLASSED and _off(large, None):
        side = "sure" if large["value"] > 0 else "unsure"
        found.append(f"{model['name']} is too {side} of its first choice, by {percent(abs(large['value']))} on average.")
    else:
        found += _labels_off(model)
    return found


def _values_off(model: Mapping[str, Any], cases: Mapping[str, Any]) -> list[str]:
    """A mean that is off by more than chance and by more than a tenth of the observed spread; and a test part unlike training."""
    large, values = model["calibration"]["in_the_large"], cases["values"]
    spread, found = values["sd"] or 0.0, []
    if _off(large, None, MEAN_OFF * spread):
        side = "high" if large["value"] > 0 else "low"
        found.append(f"The values of {model['name']} are too {side} on average, by {with_interval(large)}.")
    moved = values["mean"] - values["train_mean"]
    if values["low"] is not None and not values["low"] <= values["train_mean"] <= values["high"] and abs(moved) > MEAN_OFF * spread:
        found.append(
            f"The mean of {cases.get('where', 'the test part')} ({shown(values['mean'])}) is {'above' if moved > 0 else 'below'} that of "
            "training "
            f"({shown(values['train_mean'])})."
        )
    return found


def _not_averaged(model: Mapping[str, Any], averaged: Sequence[str]) -> str:
    gone = [one["class"] for one in model["classes"] if one["class"] in averaged and not one["averaged"]]
    if not gone:
        return ""
    return f"The averages leave out {', '.join(gone[:MOST_NAMED])}: the compared cases do not hold it both with and without."


def _labels_off(model: Mapping[str, Any]) -> list[str]:
    off = [one["class"] for one in model["classes"] if one.get("in_the_large") and _off(one["in_the_large"], one["rate"])]
    if not off:
        return []
    more = f" and {len(off) - MOST_NAMED} more" if len(off) > MOST_NAMED else ""
    return [f"The probabilities of {model['name']} are off on average for {', '.join(off[:MOST_NAMED])}{more}."]


def _off(large: Mapping[str, Any], rate: float | None, harmless: float | None = None) -> bool:
    """Whether a mean is off by more than chance and by more than is harmless: 2 points or a fifth of the rarer side, where
    `harmless` does not say otherwise."""
    if large["low"] is None or large["low"] <= 0 <= large["high"]:
        return False
    return _large(large["value"], rate) if harmless is None else abs(large["value"]) > harmless


def _large(gap: float, rate: float | None) -> bool:
    return abs(gap) > SHARE_OFF or (rate is not None and abs(gap) > RELATIVE_OFF * min(rate, 1 - rate))


def _shift(cases: Mapping[str, Any]) -> list[str]:
    moved = [one for one in cases["outcomes"] if one["rate"] is not None and _moved(one)]
    if not moved:
        return []
    if len(cases["outcomes"]) == 1:
        one = moved[0]
        side = "more" if one["rate"] > one["train_rate"] else "less"
        return [
            f"The outcome is {side} frequent in {cases.get('where', 'the test part')} ({percent(one['rate'])}) than it was in training "
            f"({percent(one['train_rate'])})."
        ]
    each = [f"{one['class']} {percent(one['train_rate'])} to {percent(one['rate'])}" for one in moved[:MOST_NAMED]]
    more = f", and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
    start = f"{cases.get('where', 'the test part').capitalize()} {'are' if 'where' in cases else 'is'} made up otherwise"
    return [f"{start} than training was: {', '.join(each)}{more}."]


def _labels_moved(cases: Mapping[str, Any]) -> list[str]:
    """Tags: labels that more or fewer cases hold than in training."""
    moved = [one for one in cases["outcomes"] if one["rate"] is not None and one["train_rate"] is not None and _moved(one)]
    each = [f"{one['class']} in {percent(one['rate'])} of the cases, {percent(one['train_rate'])} in training" for one in moved]
    more = f", and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
    where = cases.get("where", "the test part").capitalize()
    return (
        [f"{where} hold{'' if 'where' in cases else 's'} other spans than training: {', '.join(each[:MOST_NAMED])}{more}."] if moved else []
    )


def _moved(one: Mapping[str, Any]) -> bool:
    beyond_chance = not one["low"] <= one["train_rate"] <= one["high"]
    return beyond_chance and _large(one["rate"] - one["train_rate"], one["rate"])


def _left_out(cases: Mapping[str, Any]) -> str:
    if cases["left_out"] <= LEFT_OUT * cases["labelled"]:
        return ""
    noun = f"labelled {cases.get('noun', 'test case')}"
    text = f"{count(cases['left_out'], noun)} of {cases['labelled']:,} could not be scored by every model and are in no number"
    rates = cases["outcomes"][0] if len(cases["outcomes"]) == 1 and not cases.get("spans") else None
    return f"{text}; {percent(rates['left_out_rate'])} of them have the outcome." if rates else f"{text}."


def _patients(cases: Mapping[str, Any]) -> str:
    if not cases["without_patient"]:
        return ""
    whose = (
        "Which cases belong to one patient is not known"
        if cases["without_patient"] == cases["compared"]
        else (f"The patient of {count(cases['without_patient'], 'case')} is not known")
    )
    return f"{whose}: intervals may be too narrow."

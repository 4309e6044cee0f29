"""A paired difference and its interval in, a verdict out: better, useful, worse, or not shown to be better."""

from __future__ import annotations

from typing import Any

from meddx.evaluate.bootstrap import POWER, Interval, interval
from meddx.evaluate.metrics import oriented
from meddx.evaluate.types import Floats

VERDICTS = {
    "useful": "better, and useful",
    "better": "better, but not shown to be useful",
    "worse": "worse",
    "not_shown": "not shown to be better",
    "none": "no verdict",
}
SAME = 1e-12


def estimate(value: float, found: Interval) -> dict[str, Any]:
    """A number with its interval as JSON values; what is undefined is null."""
    shown = {"value": _plain(value), "low": _plain(found.low), "high": _plain(found.high)}
    return {**shown, "reason": found.reason} if found.reason else shown


def number(metric: str, value: float, draws: Floats | None, why_none: str, why_undefined: str) -> dict[str, Any]:
    """One cell of the table: the estimate, its interval, or the reason why there is none."""
    if value != value:
        return estimate(value, Interval(reason=why_undefined))
    if draws is None or why_none:
        return estimate(value, Interval(reason=why_none))
    found = interval(draws, reflect_at=value if metric == "ece" else None)
    return estimate(value, Interval(max(0.0, found.low), found.high, found.spread, found.reason) if metric == "ece" else found)


def difference(
    metric: str, model: tuple[float, Floats | None], other: tuple[float, Floats | None], why_none: str
) -> tuple[float, Interval]:
    """(model - other, turned so that positive is better; its interval) from (estimate, draws) of both on the same resamples."""
    value = float(oriented(metric, model[0] - other[0]))
    if value != value:
        return value, Interval(reason="one of the two numbers is undefined")
    if why_none or model[1] is None or other[1] is None:
        return value, Interval(reason=why_none)
    return value, interval(oriented(metric, model[1] - other[1]), reflect_at=value if metric == "ece" else None)


def judge(value: float, found: Interval, smallest_useful: float) -> dict[str, Any]:
    """The verdict, in a word for programs and in words for people, with the difference that the cases could have shown.

    detectable: (1.96 + 0.84) x the paired standard error: a true difference of this size is found four times in five.  It comes
    from the spread alone, never from the observed difference.
    """
    if found.reason:
        return {"verdict": "none", "words": f"{VERDICTS['none']}: {found.reason}", "detectable": None}
    if found.spread < SAME and abs(value) < SAME:
        return {"verdict": "not_shown", "words": f"{VERDICTS['not_shown']}: both are the same in every resample", "detectable": None}
    word = _word(found, smallest_useful)
    words = VERDICTS["better"] if word == "better" and smallest_useful > 0 else VERDICTS[word]
    if found.spread < SAME:
        words += " (the difference is the same in every resample, so the interval says little)"
    return {"verdict": word, "words": words, "detectable": POWER * found.spread}


def plainly(model: str, against: str, word: str, found: Interval, smallest_useful: float) -> str:
    """The verdict as one says it to a colleague."""
    if word == "useful":
        return (
            f"{model} is better than {against}, by more than the smallest difference worth having."
            if smallest_useful > 0
            else (f"{model} is better than {against}.")
        )
    if word == "better":
        return f"{model} is better than {against}, though perhaps by less than is worth having."
    if word == "worse":
        return f"{model} is worse than {against}."
    if word == "none":
        return f"These cases do not allow a verdict between {model} and {against}."
    start = f"These cases do not show that {model} is better than {against}"
    if found.high > smallest_useful:
        return f"{start}; nor do they rule it out."
    return f"{start}, and they speak against a difference worth having." if smallest_useful > 0 else f"{start}."


def _word(found: Interval, smallest_useful: float) -> str:
    if found.low > max(0.0, smallest_useful):
        return "useful"
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "not_shown"


def _plain(value: float) -> float | None:
    return float(value) if value == value else None

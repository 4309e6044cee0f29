"""A comparison in, sentences out: what the terminal prints and the page says first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meddx.evaluate.metrics import LOWER_IS_BETTER

MOST_NAMED = 5


def sentences(comparison: Mapping[str, Any], opened: int | None = None) -> list[str]:
    """The verdict, what else must be known before it is believed, and on which cases; `opened` is how often the test part was."""
    primary = comparison["primary"]
    folds = comparison.get("folds")
    how = [folds["sentence"]] if folds else []
    lines = [primary["plain"], primary["sentence"], *how, *comparison["warnings"], cases_sentence(comparison["cases"])]
    return lines if opened is None else [*lines, opened_sentence(opened)]


def primary_sentence(primary: Mapping[str, Any]) -> str:
    """`network AUROC 0.941 (0.920 to 0.960) against logistic 0.911 (...): difference +0.030 (...): better, and useful (...).`"""
    metric = primary["metric"]
    text = str(
        f"{primary['model']} {primary['metric_name']} {with_interval(primary['model_number'])} against {primary['against']} "
        f"{with_interval(primary['against_number'])}: "
    )
    better = primary["difference"]["value"]
    if better is not None:
        turned = ", turned so that + is better" if metric in LOWER_IS_BETTER else ""
        text += f"difference {with_interval(primary['difference'], signed=True)}{turned}: "
    return f"{text}{primary['words']} (smallest useful difference {shown(primary['smallest_useful'])})." + _detectable(primary)


def _detectable(primary: Mapping[str, Any]) -> str:
    if primary["verdict"] not in ("not_shown", "better") or primary["detectable"] is None:
        return ""
    return f" These cases find a true difference of {shown(primary['detectable'])} four times in five, a smaller one less often."


def folds_sentence(folds: Mapping[str, Any], against: str) -> str:
    """What an estimate from folds is of, how it was made, and what to hold against it."""
    times = "" if folds["repeats"] == 1 else f", {folds['repeats']:,} times over"
    text = (
        f"The numbers are means over {count(folds['count'], 'fold')} ({folds['folds']:,}-fold{times}), each fitted without the cases it "
        "is measured on; the estimate is of the procedure, the bundle is refitted on all rows."
    )
    if folds["used"] < folds["count"]:
        text += f" The difference is undefined in {count(folds['count'] - folds['used'], 'fold')}, left out of its mean."
    if folds["chosen_on_folds"]:
        text += f" {against} was taken because it is the best baseline on these same folds, which flatters it."
    return text


def absent_sentence(kind: str, gone: Mapping[str, int], folds: int) -> str:
    """Which classes or labels the averages of how many folds leave out; empty where none is.  `gone`: class to number of folds."""
    if not gone:
        return ""
    what, held = ("labels", "that some of its cases have and others not") if kind == "multilabel" else ("classes", "that its cases hold")
    often = sorted(gone.items(), key=lambda one: -one[1])
    each = [f"{name} in {number:,}" for name, number in often[1:MOST_NAMED]]
    more = [f"{len(often) - MOST_NAMED:,} more {what} in some"] if len(often) > MOST_NAMED else []
    listed = ", ".join([f"{often[0][0]} is left out in {often[0][1]:,} of {count(folds, 'fold')}", *each, *more])
    start = f"Averages over {what} run, in each fold, over the {what} {held}: {listed}"
    return f"{start}; the folds taken together leave out only what no fold holds."


def too_few_sentence(patients: int, noun: str = "patient") -> str:
    return f"{count(patients, noun)}: too few for an interval by resampling"


def cases_sentence(cases: Mapping[str, Any]) -> str:
    """How many cases and patients the numbers rest on, and how many they leave out."""
    noun = cases.get("noun", "test case")
    text = f"Compared on {count(cases['compared'], noun)} of {count(cases['patients'], 'patient')}"
    if cases["without_patient"] == cases["compared"]:
        text = f"Compared on {count(cases['compared'], noun)}; which belong to one patient is not known"
    left = [f"{cases['left_out']:,} without a prediction"] if cases["left_out"] else []
    left += [f"{cases['unlabelled']:,} without a label"] if cases["unlabelled"] else []
    return f"{text}; left out: {', '.join(left)}." if left else f"{text}; none left out."


def opened_sentence(opened: int) -> str:
    if opened == 0:
        return "No test part was opened."
    times = "once" if opened == 1 else f"{opened:,} times"
    return f"The test part was opened {times}." + (" Each look makes chance findings likelier." if opened > 1 else "")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shown(value: float | None, digits: int = 3) -> str:
    """Three digits; more where three would say 0 or 1 and it is not; `-` where it is undefined."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if abs(float(text)) in (0.0, 1.0) and abs(value - float(text)) > 1e-9:
        text = f"{value:.{digits + 1}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(estimate: Mapping[str, Any], signed: bool = False) -> str:
    """`0.941 (0.920 to 0.960)`; only the value where there is no interval."""
    value = shown(estimate["value"])
    if estimate["value"] is None:
        return f"undefined ({estimate['reason']})" if estimate.get("reason") else "undefined"
    if signed and estimate["value"] > 0:
        value = f"+{value}"
    return value if estimate["low"] is None else f"{value} ({shown(estimate['low'])} to {shown(estimate['high'])})"


def percent(share: float | None) -> str:
    """`31 %`, with a decimal below 10."""
    if share is None:
        return "-"
    return f"{100 * share:.1f} %" if abs(share) < 0.0995 else f"{100 * share:.0f} %"

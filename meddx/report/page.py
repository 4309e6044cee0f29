"""A comparison and what is to be said about it in, `report.html` and `comparison.json` out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from meddx.evaluate.metrics import LOWER_IS_BETTER, NEEDS_DECISIONS
from meddx.evaluate.types import CLASSED
from meddx.evaluate.words import cases_sentence, count, opened_sentence, percent, shown, with_interval
from meddx.report import figures
from meddx.report.about import About
from meddx.report.limits import limits
from meddx.storage import StoragePath

PAGE, DATA = "report.html", "comparison.json"
BADGES = {"useful": "Better, and useful", "better": "Better", "worse": "Worse", "not_shown": "Not shown to be better", "none": "No verdict"}
RANKS = ("auroc", "auprc")


def write_page(comparison: Mapping[str, Any], about: About, out: StoragePath) -> StoragePath:
    """Write both files into the folder `out` and return the page's path; each is replaced whole.  `comparison` is from `compare`."""
    data = {**comparison, "about": about.as_dict()}
    (out / DATA).replace((json.dumps(data, indent=1, allow_nan=False) + "\n").encode())
    path = out / PAGE
    path.replace(render(comparison, about).encode())
    return path


def render(comparison: Mapping[str, Any], about: About) -> str:
    """The page as one HTML text without scripts and without any outside address."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        shown=shown, with_interval=with_interval, percent=percent, words=_words, signed=partial(with_interval, signed=True)
    )
    room = files("meddx.report")
    template = environment.from_string(room.joinpath("page.html.j2").read_text("utf-8"))
    css = Markup(room.joinpath("page.css").read_text("utf-8"))  # ours, not the user's
    return template.render(css=css, about=about, badge=BADGES[comparison["primary"]["verdict"]], **comparison, **_view(comparison, about))


def _view(comparison: Mapping[str, Any], about: About) -> dict[str, Any]:
    """What the template shows and does not compute."""
    kind = comparison["target"]["kind"]
    series = comparison["curves"][: 2 if kind == "regression" else len(figures.SERIES)]
    with_histogram = kind == "binary"
    pair = [] if kind in ("regression", "tags") else series[:2] if with_histogram else series
    return {
        "cases_sentence": cases_sentence(comparison["cases"]),
        "opened_sentence": opened_sentence(about.opened),
        "difference_figure": figures.difference(comparison["primary"]),
        "classed": kind in CLASSED,
        "tags": kind == "tags",
        "no_pooled": comparison["folds"]["pooled"]["none"] if comparison["folds"] else comparison["intervals"]["none"],
        "named": any(not one["averaged"] and 0 < one["cases"] < one["of"] for one in comparison["per_class"]),
        "lower_is_better": LOWER_IS_BETTER,
        "observed_figure": figures.observed(series) if kind == "regression" else None,
        "roc_figure": figures.roc(series),
        "pr_figure": figures.precision_recall(series),
        "calibration_figure": figures.calibration(pair, series[0]["histogram"] if with_histogram else None) if pair else None,
        "series": series,
        "calibration_series": pair,
        "swatch": figures.swatch,
        "groups": _groups(kind, comparison["metrics"]),
        "secondary_table": _secondary_table(comparison),
        "decided": [row for row in comparison["models"] if row["confusion"] and (row["role"] or with_histogram)],
        "primary_row": next(row for row in comparison["models"] if row["role"] == "model"),
        "limits": limits(comparison, about),
        "count": count,
    }


def _groups(kind: str, metrics: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The table's blocks of rows; the last of them ends with the calibration."""
    if kind == "regression":
        return [("Errors", dict(metrics))]
    if kind == "tags":
        return [("Exact spans", dict(metrics))]
    parts: dict[str, dict[str, str]] = {"Ranking": {}, "Decisions at the stored threshold": {}, "Probabilities": {}}
    for metric, name in metrics.items():
        part = "Ranking" if metric in RANKS else "Decisions at the stored threshold" if metric in NEEDS_DECISIONS else "Probabilities"
        parts[part][metric] = name
    return [(part, rows) for part, rows in parts.items() if rows or part == "Probabilities"]


def _secondary_table(comparison: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{metric: {baseline: difference}}, in the order of the table of models."""
    rows = comparison["secondary"]
    table = {metric: {row["against"]: row["difference"] for row in rows if row["metric"] == metric} for metric in comparison["metrics"]}
    return {metric: by for metric, by in table.items() if by}


def _words(text: str) -> str:
    """The first letter large, the rest as it is."""
    return text[:1].upper() + text[1:]

"""Curves in, inline SVG out: drawn by matplotlib, coloured by the page, so that light, dark and print look right.

No text of the user enters a drawing: names stand in the page's own legend beside it, which escapes them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

SIDE = 3.4
# Stand-ins that are replaced by CSS variables; any colour that does not occur otherwise would do.
TEXT, LINE = "#0b0b0b", "#0c0c0c"
SERIES = tuple(f"#0a0a{number:02x}" for number in range(1, 9))
DASHES = ("solid", "solid", "dashed", "dashdot", "dotted", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "meddx",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": TEXT,
    "text.color": TEXT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "axes.titlesize": 11,
    "path.simplify": False,
}


def roc(series: Sequence[Mapping[str, Any]]) -> Markup | None:
    """ROC curves, the stored thresholds as dots; None when no curve is defined."""
    return _square("roc", "ROC curve", _areas(series), series, "1 - specificity", "sensitivity", _draw_roc) if _any(series, "roc") else None


def precision_recall(series: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Precision (PPV) against recall (sensitivity), with the share that has the outcome as a line."""
    what = "Precision-recall curve"
    return _square("pr", what, _areas(series), series, "sensitivity (recall)", "PPV (precision)", _draw_pr) if _any(series, "pr") else None


def calibration(series: Sequence[Mapping[str, Any]], histogram: Mapping[str, Sequence[int]] | None) -> Markup:
    """Bins of equal mass: what was said against what was seen, with 95 % intervals, and below how often each probability was said."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(SIDE, SIDE * (1.25 if histogram else 1)), layout="constrained")
        if histogram:
            axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
            _draw_histogram(below, histogram)
            below.set_xlabel("probability")
        else:
            axes = figure.subplots()
            axes.set_xlabel("probability")
        _frame(axes, "", "share with the outcome")
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
        for number, one in enumerate(series):
            _draw_bins(axes, one["calibration"], number, bars=len(series) <= 2)
        return _inline(figure, "calibration", "Calibration", _calibration_text(series))


def observed(series: Sequence[Mapping[str, Any]]) -> Markup:
    """Regression: what was predicted against what was observed, in bins, over a coarse grid of the first model's cases."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(SIDE, SIDE), layout="constrained")
        axes = figure.subplots()
        edges = series[0]["observed"]["edges"]
        _draw_grid(axes, edges, series[0]["observed"]["counts"])
        axes.plot([edges[0], edges[-1]], [edges[0], edges[-1]], color=LINE, linewidth=0.8)
        for number, one in enumerate(series):
            _draw_bins(axes, one["observed"]["bins"], number, bars=number == 0)
        axes.set(xlabel="predicted", ylabel="observed", xlim=(edges[0], edges[-1]), ylim=(edges[0], edges[-1]))
        axes.set_aspect("equal")
        axes.locator_params(nbins=4)
        points = "; ".join(f"predicted {one['said']:.4g}, observed {one['seen']:.4g}" for one in series[0]["observed"]["bins"])
        return _inline(figure, "observed", "Predicted and observed", f"{series[0]['name']}: {points}.")


def difference(primary: Mapping[str, Any]) -> Markup | None:
    """The primary difference with its interval, zero, and the smallest useful difference; None without an interval."""
    from matplotlib.figure import Figure

    found = primary["difference"]
    if found["low"] is None:
        return None
    with _style():
        figure = Figure(figsize=(4.4, 1.25), layout="constrained")
        axes = figure.subplots()
        reach = 1.25 * max(abs(found["low"]), abs(found["high"]), 2 * primary["smallest_useful"], 1e-6)
        axes.axvline(0, color=TEXT, linewidth=1)
        if primary["smallest_useful"] > 0:
            axes.axvline(primary["smallest_useful"], color=TEXT, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot([found["low"], found["high"]], [0, 0], color=SERIES[0], linewidth=4, solid_capstyle="butt")
        axes.plot([found["value"]], [0], "o", color=SERIES[0], markersize=9)
        axes.set(xlim=(-reach, reach), ylim=(-1, 1), yticks=[])
        axes.locator_params(axis="x", nbins=5)
        axes.spines["left"].set_visible(False)
        axes.text(-reach, 0.7, "worse", ha="left")
        axes.text(reach, 0.7, "better", ha="right")
        text = f"Difference {found['value']:.3f}, from {found['low']:.3f} to {found['high']:.3f}."
        text += f" Smallest useful {primary['smallest_useful']:.3f}."
        return _inline(figure, "difference", "The primary difference", text)


def swatch(number: int) -> Markup:
    """A short line in the colour and dashes of a series, for the legend."""
    lengths = ("", "", "5 3", "6 2 2 2", "2 2", "7 2", "4 2 1 2", "1 2")[number % 8]
    return Markup(
        '<svg class="swatch" viewBox="0 0 28 8" width="28" height="8" aria-hidden="true">'
        '<line x1="0" y1="4" x2="28" y2="4" stroke="var(--series-{})" '
        'stroke-width="{}" stroke-dasharray="{}"/></svg>'
    ).format(number % 8 + 1, 3 if number == 0 else 2, lengths)


def _style() -> Any:
    from matplotlib import rc_context

    return rc_context(STYLE)


def _any(series: Sequence[Mapping[str, Any]], curve: str) -> bool:
    return any(curve in one for one in series)


def _areas(series: Sequence[Mapping[str, Any]]) -> str:
    return ". ".join(f"{one['name']}: AUROC {one['auroc']:.3f}" for one in series if one["auroc"] is not None) + "."


def _calibration_text(series: Sequence[Mapping[str, Any]]) -> str:
    first = series[0]
    points = "; ".join(f"said {one['said']:.2f}, seen {one['seen']:.2f}" for one in first["calibration"])
    return f"{first['name']}: {points}."


def _square(name: str, title: str, text: str, series: Sequence[Mapping[str, Any]], across: str, up: str, draw: Any) -> Markup:
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(SIDE, SIDE), layout="constrained")
        axes = figure.subplots()
        _frame(axes, across, up)
        draw(axes, series)
        return _inline(figure, name, title, text)


def _frame(axes: Any, across: str, up: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlabel=across, ylabel=up)
    axes.set_aspect("equal")


def _line(number: int) -> dict[str, Any]:
    return {"color": SERIES[number % 8], "linestyle": DASHES[number % 8], "linewidth": 2.4 if number == 0 else 1.5, "zorder": 10 - number}


def _draw_roc(axes: Any, series: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
    for number, one in enumerate(series):
        if "roc" in one:
            axes.plot(one["roc"]["x"], one["roc"]["y"], **_line(number))
        if one["point"]:
            _dot(axes, one["point"]["false_positive_rate"], one["point"]["sensitivity"], number)


def _draw_pr(axes: Any, series: Sequence[Mapping[str, Any]]) -> None:
    if all(one["of"] == "model" for one in series):
        axes.axhline(series[0]["rate"], color=LINE, linewidth=0.8)
    for number, one in enumerate(series):
        if "pr" in one:
            axes.plot(one["pr"]["x"], one["pr"]["y"], **_line(number))
        if one["point"]:
            _dot(axes, one["point"]["sensitivity"], one["point"]["ppv"], number)


def _dot(axes: Any, across: float, up: float, number: int) -> None:
    axes.plot([across], [up], "o", color=SERIES[number % 8], markersize=8 if number == 0 else 6, zorder=20 - number)


def _draw_bins(axes: Any, bins: Sequence[Mapping[str, float]], number: int, bars: bool) -> None:
    said, seen = [one["said"] for one in bins], [one["seen"] for one in bins]
    axes.plot(said, seen, marker="o", markersize=5 if number == 0 else 4, **_line(number))
    if bars:
        axes.vlines(said, [one["low"] for one in bins], [one["high"] for one in bins], color=SERIES[number % 8], linewidth=1, zorder=5)


def _draw_grid(axes: Any, edges: Sequence[float], counts: Sequence[Sequence[int]]) -> None:
    """A square in each cell that holds cases, the larger the more: area by share of the fullest."""
    fullest, width = max(1, max(max(row) for row in counts)), edges[1] - edges[0]
    for row, line in enumerate(counts):
        for column, cases in enumerate(line):
            if cases:
                side = width * (cases / fullest) ** 0.5
                corner = (edges[column] + (width - side) / 2, edges[row] + (width - side) / 2)
                _square_of(axes, corner, side)


def _square_of(axes: Any, corner: tuple[float, float], side: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, side, side, facecolor=SERIES[0], alpha=0.3, linewidth=0))


def _draw_histogram(axes: Any, histogram: Mapping[str, Sequence[int]]) -> None:
    """Cases with the outcome upwards, those without downwards, each as a share of its own side."""
    count = len(histogram["with"])
    places = [(one + 0.5) / count for one in range(count)]
    for side, sign, colour in (("with", 1, SERIES[0]), ("without", -1, SERIES[1])):
        total = max(1, sum(histogram[side]))
        axes.bar(places, [sign * one / total for one in histogram[side]], width=0.9 / count, color=colour)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.set(yticks=[])
    axes.spines["left"].set_visible(False)


def _inline(figure: Any, name: str, title: str, text: str) -> Markup:
    """The figure as an <svg> element without ids that clash, fixed colours, fonts, size, or any address."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = stream.getvalue()
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    box = re.search(r'viewBox="([^"]+)"', svg)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>fig-{name}-", body.replace("xlink:href", "href"))
    body = re.sub(r"font-family:[^;\"]*;?|font: ([0-9.]+px)[^;\"]*;", lambda m: f"font-size: {m[1]};" if m[1] else "", body)
    for number, colour in enumerate(SERIES, 1):
        body = body.replace(colour, f"var(--series-{number})")
    body = body.replace(TEXT, "currentColor").replace(LINE, "var(--line-strong)")
    head = f'<svg viewBox="{box[1] if box else "0 0 300 300"}" role="img" aria-labelledby="fig-{name}-title fig-{name}-desc">'
    return (
        Markup(head)
        + Markup('<title id="fig-{0}-title">{1}</title><desc id="fig-{0}-desc">{2}</desc>').format(name, escape(title), escape(text))
        + Markup(body)
        + Markup("</svg>")
    )

"""What a night of scoring was, as plain numbers, in; `summary.html`, one page without scripts, out.

It is written at the end of every night, so it is drawn by hand: matplotlib would take longer to import than the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 360.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 12.0, 34.0
MARKS = {0.01: "1 %", 0.1: "10 %", 0.5: "50 %", 0.9: "90 %", 0.99: "99 %"}  # of probability
PARTS = {
    "calibrate": "the calibrate part of the training data, which the model did not learn from",
    "out_of_fold": "the training data, each case answered by a model that had not seen it",
}
WORST = ("large", "some", "chance", "few", "alike")


def render(night: Mapping[str, Any]) -> str:
    """The page as one HTML text without any outside address; `night` is from `meddx.score.summary`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=_percent, number=_number)
    room = files("meddx.report")
    template = environment.from_string(room.joinpath("night.html.j2").read_text("utf-8"))
    css = Markup(room.joinpath("page.css").read_text("utf-8"))  # ours, not the user's
    shown = [_shown(one, night["edges"][one["name"]]) for one in night["answers"]]
    shifts = [one["shift"]["verdict"] for one in night["answers"] if one["shift"]]
    worst = min(shifts, key=WORST.index, default="")
    return template.render(
        **{**night, "answers": shown},
        css=css,
        worst=worst,
        moved=[one["title"] for one in shown if one["shift"] and one["shift"]["verdict"] == worst],
        reference=PARTS.get(night["part"], ""),
        throughput_figure=_throughput(night["throughput"]) if night["throughput"] else None,
    )


def _percent(share: float) -> str:
    """`0 %`, `0.03 %`, `2.5 %`, `97 %`; never rounded to nothing or to all."""
    per = 100 * share
    if per in (0.0, 100.0):
        return f"{per:.0f} %"
    if per < 0.01:
        return "< 0.01 %"
    if per > 99.99:
        return "> 99.99 %"
    digits = 2 if per < 1 or per > 99 else 1
    return f"{per:.{digits}f} %"


def _number(value: float) -> str:
    """`1,234`, `12.3`, `0.041`."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _throughput(page: Mapping[str, Any]) -> Markup:
    """Rows a second as an area of steps; dashed where a pause was cut out."""
    rates = page["rates"]
    top = _round_up(max(rates, default=0.0))
    across, up = _across(len(rates)), _up(top)
    points = " ".join(f"{across(at)},{up(rate)}" for step, rate in enumerate(rates) for at, rate in ((step, rate), (step + 1, rate)))
    area = f"M{across(0)},{up(0)} L{points} L{across(len(rates))},{up(0)} Z"
    body = [_line_of_y(top, _number(top), up), _line_of_y(top / 2, _number(top / 2), up), _line_of_y(0, "0", up)]
    body.append(Markup('<path d="{}" fill="var(--series-1)" fill-opacity="0.75"/>').format(area))
    for one in page["breaks"]:
        place = f"{LEFT + one * (WIDTH - LEFT - RIGHT):.1f}"
        dashes = '<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" stroke="currentColor" stroke-width="1.2" stroke-dasharray="3 3"/>'
        body.append(Markup(dashes).format(place, TOP, HEIGHT - BOTTOM))
    body += [_text(LEFT, HEIGHT - 20, "0", "start"), _text(WIDTH - RIGHT, HEIGHT - 20, page["worked"], "end")]
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "time in which units were at work"))
    said = f"Rows a second over {page['worked']}: at most {_number(max(rates, default=0.0))}."
    return _svg("throughput", "Throughput", said, body)


def _spread(one: Mapping[str, Any], edges: Sequence[float]) -> Markup:
    """Shares by band: this archive filled, the training part beside it in outline."""
    here, reference = _shares(one["here"]), _shares(one["reference"]) if one["reference"] else None
    top = _round_up(100 * max([*here, *(reference or ())], default=0.0)) / 100
    across, up = _across(len(here)), _up(top)
    body = [_line_of_y(level, f"{100 * level:.3g} %", up) for level in (0, top / 2, top)]
    width = (WIDTH - LEFT - RIGHT) / len(here)
    for band, share in enumerate(here):
        bar = 0.4 * width if reference else 0.8 * width
        body.append(_bar(float(across(band)) + 0.1 * width, bar, share, top, 'fill="var(--series-1)"'))
        if reference:
            style = 'fill="var(--series-2)" fill-opacity="0.25" stroke="var(--series-2)" stroke-width="1"'
            body.append(_bar(float(across(band)) + 0.5 * width, bar, reference[band], top, style))
    for place, label in _labels(one["name"], edges):
        body.append(_text(LEFT + place * width, HEIGHT - 20, label))
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, _axis(one["name"])))
    said = "; ".join(f"band {band + 1}: {_percent(share)}" for band, share in enumerate(here) if share)
    return _svg(f"spread-{one['name']}", "Answers by band", f"Shares of this archive by band: {said}.", body)


def _labels(name: str, edges: Sequence[float]) -> list[tuple[float, str]]:
    """(place in bands from the left, text): at the inner edges of probabilities and values, below the bands of numbers."""
    if name == "spans":
        bands = _bands(name, edges)
        return [(place + 0.5, text) for place, text in enumerate(bands) if place % 2 == 0]
    if name == "value":
        return [(place + 1, f"{edge:.3g}") for place, edge in enumerate(edges) if place % 4 == 2]
    marks = [(place + 1, MARKS[edge]) for place, edge in enumerate(edges) if edge in MARKS]
    return [(0, "0"), *marks, (len(edges) + 1, "1")]


def _axis(name: str) -> str:
    if name == "spans":
        return "spans found in a text"
    return "predicted value" if name == "value" else "probability; bands are narrower near 0 and 1"


def _bands(name: str, edges: Sequence[float]) -> list[str]:
    """What each band holds, in words."""
    if name == "spans":
        whole = [0, *(int(one) for one in edges)]
        return [f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in zip(whole, whole[1:], strict=False)] + [f"> {whole[-1] - 1}"]
    shown = [f"{edge:.4g}" if name == "value" else f"{100 * edge:.4g} %" for edge in edges]
    middle = [f"{a} to {b}" for a, b in zip(shown, shown[1:], strict=False)]
    return [f"below {shown[0]}", *middle, f"{shown[-1]} or more"]


def _shown(one: Mapping[str, Any], edges: Sequence[float]) -> dict[str, Any]:
    """A column of answers with its picture and its table; classes by their own names."""
    return {**one, "title": one["name"].removeprefix("p_"), "figure": _spread(one, edges), "rows": _rows(one, edges)}


def _rows(one: Mapping[str, Any], edges: Sequence[float]) -> list[dict[str, Any]]:
    """The same numbers as a table."""
    names = _bands(one["name"], edges)
    sides = [_shares(one[side]) if one[side] else [None] * len(names) for side in ("here", "reference", "learned")]
    cells = zip(names, one["here"], *sides, strict=True)
    return [{"band": name, "count": n, "here": a, "reference": b, "learned": c} for name, n, a, b, c in cells]


def _shares(counts: Sequence[int]) -> list[float]:
    whole = max(1, sum(counts))
    return [one / whole for one in counts]


def _round_up(value: float) -> float:
    """The next 1, 2, 3, 4, 5, 6, 8 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 0.1
    while power > value:
        power /= 10
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10, 20) if step * power >= value * 0.999)


def _across(steps: int) -> Any:
    return lambda step: f"{LEFT + step / steps * (WIDTH - LEFT - RIGHT):.1f}"


def _up(top: float) -> Any:
    return lambda value: f"{HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM):.1f}"


def _bar(left: float, width: float, share: float, top: float, style: str) -> Markup:
    if not share:
        return Markup()
    tall = max(share / top * (HEIGHT - TOP - BOTTOM), 0.8)  # one case of a million is still seen
    place = f'x="{left:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" width="{width:.1f}" height="{tall:.1f}"'
    return Markup(f"<rect {place} {style}/>")


def _line_of_y(level: float, label: str, up: Any) -> Markup:
    ends = '<line x1="{0}" x2="{1}" y1="{2}" y2="{2}" stroke="var(--line)" stroke-width="0.8"/>'
    return Markup(ends).format(LEFT, WIDTH - RIGHT, up(level)) + _text(LEFT - 5, float(up(level)) + 3.5, label, "end")


def _text(x: float, y: float, text: str, anchor: str = "middle") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _svg(name: str, title: str, said: str, body: Sequence[Markup]) -> Markup:
    head = '<svg viewBox="0 0 {0:g} {1:g}" role="img" aria-label="{2}. {3}" font-size="10" fill="currentColor" data-figure="{4}">'
    return Markup(head).format(WIDTH, HEIGHT, title, said, name) + Markup().join(body) + Markup("</svg>")

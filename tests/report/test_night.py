"""The page of a night: whole, without scripts or addresses, and readable whatever the head."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "score"))

import summary_helper as made_up

from meddx.report.night import _percent, _round_up, render

VOID = {"meta", "br", "rect", "path", "line"}
COSTS = {
    "predicted": {"rows": 20_000, "hours": 0.5, "rows_a_second": 11.1, "by": "as the last run had it", "cost": 12.5},
    "actual": {"rows": 10_000, "hours": 0.61, "rows_a_second": 9.7, "cost": 14.91},
}


class Tags(HTMLParser):
    """Whether all that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("kind", ["binary", "multilabel", "regression", "tags"])
@pytest.mark.parametrize("more", [{}, {"known": False}, {"old": 40}, {"shift": 1.0, "more": COSTS}])
def test_it_is_whole_and_small_and_asks_nobody(kind: str, more: dict[str, Any]) -> None:
    text = render(made_up.made(kind, **more))
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and len(text) < 200_000
    assert "<script" not in text and not re.search(r"(src|href)=\"(?!#)", text) and "http" not in text.replace("http-equiv", "")
    assert "Undefined" not in text and "None" not in text and not re.search(r">\s*nan\s*<", text)


def test_names_of_classes_are_text() -> None:
    text = render(made_up.made("multilabel"))
    assert "<b>Erguss" not in text and "&lt;b&gt;Erguss" in text


def test_it_says_where_not_every_class_is_counted() -> None:
    page = made_up.made("multilabel")
    assert "Counted are the first" not in render(page)
    first = page["answers"][0]
    names = [f"{first['name']}{place}" for place in range(page["most_answers"])]
    edges = page["edges"][first["name"]]
    many = {**page, "answers": [{**first, "name": name} for name in names], "edges": dict.fromkeys(names, edges)}
    assert "Counted are the first 16 classes" in render(many)


def test_what_it_says_first() -> None:
    plain = made_up.made("binary")
    plain |= {"exit_code": 0, "not_opened": []}
    assert '<span class="badge">Finished</span>' in render(plain) and "The answers are spread as in training." in render(plain)
    assert "Finished, but too much was rejected" in render(made_up.made("binary"))
    assert "<code>range:crp_max</code>" in render(plain) and "Warnings: scored, but look at them." in render(plain)
    moved = made_up.made("binary", shift=1.5) | {"exit_code": 0}
    assert "Finished, but the answers have shifted" in render(moved) and "Do not rely" in render(moved)
    assert "The books do not balance" in render(plain | {"unbalanced": 2, "exit_code": 4})
    assert "made before answers were counted" in render(made_up.made("binary", known=False))


def test_predicted_stands_beside_actual() -> None:
    text = render(made_up.made("binary", more=COSTS))
    assert "about 12.50" in text and "about 14.91" in text and "37 minutes" in text
    unknown = render(made_up.made("binary", more={"actual": COSTS["actual"], "predicted": {"rows": 1, "hours": None}}))
    assert "unknown: nothing like it had been measured" in unknown


def test_which_cases_the_archive_is_held_against() -> None:
    found = made_up.made("binary")
    assert "the calibrate part of the training data, which the model did not learn from, 900 cases" in render(found)
    assert "each case answered by a model that had not seen it" in render(found | {"part": "out_of_fold"})


def test_drawing_needs_no_matplotlib() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import summary_helper as h; from meddx.report.night import render;"
        "render(h.made('binary', units=2)); print(sorted({'matplotlib', 'torch', 'ray', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    folder = str(Path(made_up.__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1, "100 %"), (0.00001, "< 0.01 %"), (0.99999, "> 99.99 %"), (0.0003, "0.03 %"), (0.25, "25.0 %")]
)
def test_shares_are_never_rounded_to_nothing_or_to_all(share: float, text: str) -> None:
    assert _percent(share) == text


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.013, 0.02), (0.9, 1), (25, 30), (26_000, 30_000), (100, 100), (7.2, 8)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert _round_up(value) == pytest.approx(top)

"""From a difference and its interval to words; the words and the interval never disagree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meddx.evaluate.bootstrap import Interval
from meddx.evaluate.verdict import VERDICTS, difference, judge, number, plainly
from meddx.evaluate.words import cases_sentence, count, opened_sentence, percent, shown, with_interval


@pytest.mark.parametrize(
    ("low", "high", "useful", "word"),
    [
        (0.011, 0.05, 0.01, "useful"),
        (0.001, 0.05, 0.01, "better"),
        (-0.001, 0.05, 0.01, "not_shown"),
        (-0.05, -0.001, 0.01, "worse"),
        (0.0, 0.05, 0.0, "not_shown"),
        (0.001, 0.05, 0.0, "useful"),
    ],
)
def test_words_follow_the_limits(low, high, useful, word):
    assert judge((low + high) / 2, Interval(low, high, 0.01), useful)["verdict"] == word


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_better_only_above_zero(low, width, useful):
    found = judge(low + width / 2, Interval(low, low + width, 0.1), useful)
    assert (found["verdict"] in ("useful", "better")) == (low > 0)
    assert (found["verdict"] == "worse") == (low + width < 0)
    assert plainly("m", "b", found["verdict"], Interval(low, low + width, 0.1), useful)


def test_detectable():
    assert judge(0.5, Interval(0.1, 0.9, 0.01), 0)["detectable"] == pytest.approx(2.8 * 0.01, rel=1e-3)


def test_no_interval_no_verdict():
    found = judge(0.2, Interval(reason="too few patients"), 0.01)
    assert found == {"verdict": "none", "words": "no verdict: too few patients", "detectable": None}


def test_a_difference_without_spread_says_so():
    assert "says little" in judge(0.5, Interval(0.5, 0.5, 0.0), 0.01)["words"]


def test_plainly_tells_a_narrow_miss_from_a_shown_nothing():
    assert "nor do they rule it out" in plainly("m", "b", "not_shown", Interval(-0.01, 0.05), 0.01)
    assert "speak against a difference worth having" in plainly("m", "b", "not_shown", Interval(-0.01, 0.005), 0.01)
    assert set(VERDICTS) == {"useful", "better", "worse", "not_shown", "none"}


def test_paired_difference_by_hand():
    value, found = difference("brier", (0.1, np.full(10, 0.1)), (0.3, np.full(10, 0.25)), "")
    assert value == pytest.approx(0.2) and found.low == pytest.approx(0.15) == found.high
    assert difference("auroc", (float("nan"), None), (0.5, None), "")[1].reason == "one of the two numbers is undefined"
    assert number("ece", 0.01, np.linspace(0.01, 0.05, 100), "", "")["low"] == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9412, "0.941"), (1.0, "1.000"), (0.9996, "0.9996"), (0.0004, "0.0004"), (-0.00001, "0.0000"), (None, "-"), (-0.2, "-0.200")],
)
def test_shown(value, text):
    assert shown(value) == text


def test_small_words():
    assert with_interval({"value": 0.03, "low": 0.01, "high": 0.05}, signed=True) == "+0.030 (0.010 to 0.050)"
    assert with_interval({"value": None, "low": None, "high": None, "reason": "no case"}) == "undefined (no case)"
    assert (count(1, "case"), count(1200, "case")) == ("1 case", "1,200 cases")
    assert (percent(0.031), percent(0.31), percent(None)) == ("3.1 %", "31 %", "-")
    assert opened_sentence(1) == "The test part was opened once." and "3 times" in opened_sentence(3)
    cases = {"compared": 5, "patients": 1, "without_patient": 0, "left_out": 2, "unlabelled": 1}
    assert cases_sentence(cases) == "Compared on 5 test cases of 1 patient; left out: 2 without a prediction, 1 without a label."

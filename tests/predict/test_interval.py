"""meddx.predict.interval: the promised share of new cases lies inside, whatever the distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.dataset.target import Labels
from meddx.errors import DataError
from meddx.predict.interval import half_width
from meddx.predict.options import ThresholdOptions
from meddx.predict.threshold import choose_thresholds


@settings(max_examples=100, deadline=None)
@given(residuals=st.lists(st.integers(-50, 50), min_size=20, max_size=80), coverage=st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_it_is_the_smallest_width_that_holds_enough(residuals: list[int], coverage: float) -> None:
    found = half_width(np.zeros(len(residuals)), np.array(residuals, float), coverage)
    rank = math.ceil(round((len(residuals) + 1) * coverage, 9))
    assert found == sorted(abs(one) for one in residuals)[rank - 1]


@pytest.mark.parametrize("n", [9, 19, 60])
def test_new_cases_are_covered_and_the_twin_without_the_plus_one_is_not_enough(n: int) -> None:
    rng = np.random.default_rng(n)
    inside, naive, rounds = 0, 0, 4000
    for _ in range(rounds):
        residuals = rng.standard_cauchy(n + 1)
        reach = half_width(np.zeros(n), residuals[:n], 0.9)
        inside += abs(residuals[n]) <= reach
        naive += abs(residuals[n]) <= np.sort(np.abs(residuals[:n]))[math.floor(0.9 * n) - 1]
    margin = 3 * math.sqrt(0.09 / rounds)
    assert 0.9 - margin < inside / rounds < 0.9 + 1 / (n + 1) + margin
    assert naive < inside


def test_too_few_cases_say_how_many_are_needed() -> None:
    half_width(np.zeros(9), np.ones(9), 0.9)
    with pytest.raises(DataError, match="needs 9 labelled cases or more, and there are 8"):
        half_width(np.zeros(8), np.ones(8), 0.9)
    with pytest.raises(DataError, match="1 residuals are not finite"):
        half_width(np.zeros(30), np.r_[np.ones(29), np.nan], 0.9)


def test_thresholds_of_the_newer_answers() -> None:
    head = {"kind": "regression", "classes": [], "mean": 0.0, "std": 1.0}
    truth = np.r_[np.arange(1.0, 20.0), np.nan]
    labels = Labels(truth, np.isfinite(truth))
    found = choose_thresholds(ThresholdOptions(coverage=0.8), head, np.zeros((20, 1)), labels)
    assert found == {"coverage": 0.8, "half_width": 16.0}
    ordinal = {"kind": "ordinal", "classes": ["a", "b"]}
    assert choose_thresholds(ThresholdOptions(), ordinal, np.full((4, 2), 0.5), Labels(np.zeros(4, int), np.ones(4, bool))) == {}

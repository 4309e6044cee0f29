"""Two counts of answers in, whether they lie apart out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from meddx.evaluate.stability import _chi_squared_95, shift
from meddx.predict.spread import count_answers


def counts(n: int, rng: np.random.Generator, a: float = 1.0, b: float = 30.0) -> list[int]:
    return count_answers({"probability": rng.beta(a, b, n)})["probability"]


def test_the_formula_on_two_bands() -> None:
    found = shift([600, 400], [500, 500])
    a, e = np.array([600.5, 400.5]) / 1001, np.array([500.5, 500.5]) / 1001
    assert found.index == pytest.approx(float(((a - e) * np.log(a / e)).sum())) and found.verdict == "alike"


def test_a_rare_outcome_is_looked_at_in_narrow_bands() -> None:
    """All answers below 0.2; twice as high is seen, although equal bands of 0.1 would hold nearly all of both in one."""
    rng = np.random.default_rng(0)
    reference = counts(2000, rng)
    assert shift(counts(2000, rng), reference).verdict == "alike"
    assert shift(counts(2000, rng, a=2.0), reference).verdict == "large"
    assert "Do not rely" in shift(counts(2000, rng, a=2.0), reference).words


def test_equal_samples_stay_below_chance_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    above = 0
    for _ in range(400):
        found = shift(counts(800, rng), counts(1000, rng))
        assert found.index is not None
        above += found.index > found.chance
    assert 0.02 < above / 400 < 0.09


def test_a_small_archive_is_not_called_shifted_by_chance() -> None:
    rng = np.random.default_rng(1)
    found = [shift(counts(60, rng), counts(60, rng)) for _ in range(200)]
    crossed = sum(one.index is not None and one.index > 0.1 for one in found)
    assert crossed > 100  # the bands alone would say so
    assert sum(one.verdict in ("some", "large") for one in found) < 30


def test_too_few_cases_say_nothing() -> None:
    found = shift([30, 10], [500, 500])
    assert found.index is None and found.verdict == "few" and "Too few" in found.words
    assert shift([0] * 22, [0] * 22).verdict == "few"


def test_all_answers_in_one_band() -> None:
    assert shift([0, 100, 0], [0, 100, 0]).index == pytest.approx(0)
    assert shift([100, 0, 0], [0, 0, 100]).index is not None


@pytest.mark.parametrize("degrees", [1, 2, 5, 12, 21])
def test_the_quantile_is_good_to_three_in_a_hundred(degrees: int) -> None:
    assert _chi_squared_95(degrees) == pytest.approx(float(chi2.ppf(0.95, degrees)), rel=0.03)

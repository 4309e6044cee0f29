"""Intervals around a beat, and how they compare with the rhythm of their own record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.ingest.signal_rows import LOCAL_BEATS, RATIOS, RR, SECONDS, intervals, schema_of

BEATS = st.lists(st.integers(0, 2000), min_size=0, max_size=60).map(lambda steps: np.cumsum(np.array([5, *steps], np.int64)))


def by_hand(beats: np.ndarray, rate: float, i: int) -> dict[str, float]:
    """The ratios of beat i, said as plainly as can be."""
    steps = [(int(b) - int(a)) / rate for a, b in zip(beats[:-1], beats[1:], strict=True)]
    sides = {"": steps[i - 1] if i > 0 else np.nan, "_after": steps[i] if i < len(steps) else np.nan}
    last = steps[max(0, i - LOCAL_BEATS) : i]
    around = last + steps[i : i + LOCAL_BEATS]
    by = {
        "rr_ratio": np.mean(last) if last else np.nan,
        "rr_ratio_record": np.median(steps) if steps else np.nan,
        "rr_ratio_around": np.median(around) if around else np.nan,
    }
    found = {name + side: value / one if one else np.nan for name, one in by.items() for side, value in sides.items()}
    others = steps[max(0, i - LOCAL_BEATS - 1) : max(0, i - 1)] + steps[i + 1 : i + 1 + LOCAL_BEATS]
    middle = np.median(others) if len(others) > 1 else 0.0
    return {**found, "rr_ratio_spread": np.median(np.abs(np.array(others) - middle)) / middle if middle else np.nan}


@settings(max_examples=60, deadline=None)
@given(BEATS)
def test_each_ratio_is_what_is_said_of_it(beats: np.ndarray) -> None:
    found = intervals(beats, 250.0)
    assert tuple(found) == RR == (*SECONDS, *RATIOS) and all(len(one) == len(beats) for one in found.values())
    for i in range(len(beats)):
        for name, value in by_hand(beats, 250.0, i).items():
            assert found[name][i] == pytest.approx(value, nan_ok=True), (name, i)


@settings(max_examples=40, deadline=None)
@given(BEATS, st.integers(2, 5))
def test_ratios_are_those_of_the_rhythm_whatever_the_heart_rate(beats: np.ndarray, times: int) -> None:
    slow, usual = intervals(beats * times, 250.0), intervals(beats, 250.0)
    for name in RATIOS:
        np.testing.assert_allclose(slow[name], usual[name], rtol=1e-9)
    assert not np.isinf(np.stack(list(slow.values()))).any()


def test_an_early_beat_looks_alike_in_a_fast_and_a_slow_heart_and_not_in_seconds() -> None:
    def early(usual: int) -> dict[str, float]:
        steps = [usual] * 12 + [round(usual * 0.6), round(usual * 1.4)] + [usual] * 12
        return {name: float(values[13]) for name, values in intervals(np.cumsum([0, *steps]), 100.0).items()}

    fast, slow = early(50), early(100)
    assert fast["rr_before"] == 0.3 and slow["rr_before"] == 0.6
    for name in RATIOS:
        assert fast[name] == pytest.approx(slow[name])
    assert fast["rr_ratio_record"] == fast["rr_ratio_around"] == pytest.approx(0.6)
    assert fast["rr_ratio_record_after"] == pytest.approx(1.4)


def test_one_early_beat_does_not_move_what_its_neighbours_are_compared_with() -> None:
    steps = [100] * 12 + [10] + [100] * 12
    found = intervals(np.cumsum([0, *steps]), 100.0)
    assert found["rr_ratio_around"][14] == 1.0 and found["rr_ratio"][14] > 1.05  # the mean is moved, the median is not


def test_an_irregular_heart_is_told_from_a_regular_one_with_an_early_beat() -> None:
    regular = intervals(np.cumsum([0, *[100] * 12, 60, 140, *[100] * 12]), 100.0)["rr_ratio_spread"]
    fibrillating = intervals(np.cumsum([0, *np.random.default_rng(0).integers(60, 140, 26)]), 100.0)["rr_ratio_spread"]
    assert regular[13] == 0 and (fibrillating > 0.05).all()


@pytest.mark.parametrize("beats", [[], [7], [7, 7], [7, 7, 7, 9]])
def test_few_beats_and_beats_at_one_sample_give_nothing_and_no_warning(beats: list[int]) -> None:
    found = intervals(np.array(beats, np.int64), 100.0)
    assert all(len(one) == len(beats) for one in found.values()) and not any(np.isinf(one).any() for one in found.values())


def test_the_columns_are_in_the_schema_of_beats_alone() -> None:
    assert set(RR) <= set(schema_of("beats").names) and not set(RR) & set(schema_of("sliding").names)

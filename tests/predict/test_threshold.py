"""meddx.predict.threshold against a plain search over every cut, in exact fractions."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from meddx.dataset.target import Labels
from meddx.errors import DataError
from meddx.predict.options import ThresholdOptions
from meddx.predict.threshold import candidates, choose_threshold, choose_thresholds, clopper_pearson_lower

CASES = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=40).filter(
    lambda cases: len({truth for _, truth in cases}) == 2
)


def arrays_of(cases: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 12 for score, _ in cases]), np.array([truth for _, truth in cases], float)


def every_cut(scores: np.ndarray, truth: np.ndarray) -> list[dict[str, Fraction]]:
    """All ways to say yes from the top down, from never to always, with exact proportions."""
    found = []
    for cut in [np.inf, *sorted(set(scores), reverse=True)]:
        yes = scores >= cut
        tp, fp = int((yes & (truth == 1)).sum()), int((yes & (truth == 0)).sum())
        positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
        ppv = Fraction(tp, tp + fp) if tp + fp else None
        found.append({
            "tp": tp, "fp": fp, "yes": tp + fp, "positives": positives, "negatives": negatives,
            "sensitivity": Fraction(tp, positives), "specificity": 1 - Fraction(fp, negatives), "ppv": ppv,
            "youden": Fraction(tp, positives) - Fraction(fp, negatives),
            "f1": Fraction(2 * tp, tp + fp + positives),
            "balance": min(Fraction(tp, positives), ppv or Fraction(0)),
        })  # fmt: skip
    return found


@given(cases=CASES)
def test_likeliest_says_yes_from_one_half_on(cases: list[tuple[int, bool]]) -> None:
    scores, truth = arrays_of(cases)
    found = choose_threshold(ThresholdOptions(goal="likeliest"), scores, truth)
    yes = scores >= found["value"]
    assert found["value"] == 0.5 and (yes == (scores >= 0.5)).all()
    reached = found["reached"]["ppv"]
    assert (reached["hits"], reached["of"]) == (int(truth[yes].sum()), int(yes.sum()))


@settings(max_examples=150, deadline=None)
@given(cases=CASES, goal=st.sampled_from(["youden", "f1", "balance"]))
def test_best_of_all_cuts_and_the_lowest_of_equals(cases: list[tuple[int, bool]], goal: str) -> None:
    scores, truth = arrays_of(cases)
    chosen = choose_threshold(ThresholdOptions(goal=goal), scores, truth)
    cuts = every_cut(scores, truth)
    best = max(range(len(cuts)), key=lambda place: (cuts[place][goal], place))
    assert (scores >= chosen["value"]).sum() == cuts[best]["yes"]


@settings(max_examples=200, deadline=None)
@given(cases=CASES, quantity=st.sampled_from(["sensitivity", "specificity", "ppv"]), tenth=st.integers(1, 10), sure=st.booleans())
def test_goal_with_a_number_against_plain_search(cases: list[tuple[int, bool]], quantity: str, tenth: int, sure: bool) -> None:
    scores, truth = arrays_of(cases)
    options = ThresholdOptions(goal=f"{quantity} >= {tenth / 10}", confidence=0.8 if sure else None)
    cuts = every_cut(scores, truth)

    def reaches(cut: dict[str, Fraction]) -> bool:
        if cut[quantity] is None:
            return False
        if not sure:
            return bool(cut[quantity] >= Fraction(tenth, 10))
        of = {"sensitivity": cut["positives"], "specificity": cut["negatives"], "ppv": cut["yes"]}[quantity]
        low = binomtest(int(cut[quantity] * of), int(of), alternative="greater").proportion_ci(0.8, "exact").low
        return bool(low >= tenth / 10 - 1e-9)

    good = [place for place, cut in enumerate(cuts) if reaches(cut)]
    if not good:
        with pytest.raises(DataError, match="best reachable value"):
            choose_threshold(options, scores, truth)
        return
    other = "specificity" if quantity == "sensitivity" else "sensitivity"
    best = max(good, key=lambda place: (cuts[place][other], cuts[place][quantity], place))
    chosen = choose_threshold(options, scores, truth)
    assert (scores >= chosen["value"]).sum() == cuts[best]["yes"]
    assert chosen["reached"]["sensitivity"]["hits"] == cuts[best]["tp"]


@settings(max_examples=60, deadline=None)
@given(cases=CASES)
def test_a_threshold_stands_between_neighbours_so_last_bits_flip_nothing(cases: list[tuple[int, bool]]) -> None:
    scores, truth = arrays_of(cases)
    found = candidates(scores, truth)
    assert len(found.values) == len(set(scores)) + 1
    assert (np.diff(found.values) < 0).all()
    for place, value in enumerate(found.values):
        assert (scores >= value).sum() == found.true[place] + found.false[place]
        inner = scores[(scores > 0) & (scores < 1)]
        nudged = np.nextafter(inner, 1)
        assert ((nudged >= value) == (inner >= value)).all()


def test_neighbours_without_a_number_between_them_and_the_outer_ends() -> None:
    low = 0.3
    high = np.nextafter(low, 1)
    found = candidates(np.array([low, high, 1.0, 0.0]), np.array([0, 1, 1, 0]))
    assert [int((np.array([low, high, 1.0, 0.0]) >= value).sum()) for value in found.values] == [0, 1, 2, 3, 4]


def test_equal_probabilities_stand_on_one_side() -> None:
    chosen = choose_threshold(ThresholdOptions(goal="sensitivity >= 0.5"), np.full(10, 0.3), np.r_[np.ones(4), np.zeros(6)])
    assert chosen["reached"]["sensitivity"]["value"] == 1.0
    assert chosen["reached"]["specificity"]["value"] == 0.0


def test_a_constant_score_meets_a_specificity_goal_by_never_saying_yes() -> None:
    chosen = choose_threshold(ThresholdOptions(goal="specificity >= 0.9"), np.full(10, 0.3), np.r_[np.ones(4), np.zeros(6)])
    assert chosen["value"] > 0.3
    assert chosen["reached"]["ppv"] == {"value": None, "lower": 0.0, "hits": 0, "of": 0}


def test_confidence_asks_for_more_than_the_point_value() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(400) < 0.4).astype(float)
    scores = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(size=400))))
    plain = choose_threshold(ThresholdOptions(goal="sensitivity >= 0.8"), scores, truth)
    sure = choose_threshold(ThresholdOptions(goal="sensitivity >= 0.8", confidence=0.9), scores, truth)
    assert plain["reached"]["sensitivity"]["lower"] < 0.8  # the twin: without confidence the bound misses the goal
    assert sure["reached"]["sensitivity"]["lower"] >= 0.8
    assert sure["value"] < plain["value"]
    assert sure["reached"]["bound_confidence"] == 0.9


def test_unreachable_names_the_best_value() -> None:
    scores, truth = np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 1, 1, 0])
    with pytest.raises(DataError, match=r"best reachable value is 0\.6666 \(2 of 3 cases\)"):
        choose_threshold(ThresholdOptions(goal="ppv >= 0.9"), scores, truth)
    with pytest.raises(DataError, match=r"as lower bound at confidence 0\.9 \(2 of 2 cases\)"):
        choose_threshold(ThresholdOptions(goal="sensitivity >= 0.9", confidence=0.9), scores, truth)


@pytest.mark.parametrize("truth", [np.zeros(3), np.ones(3), np.zeros(0)])
def test_one_answer_only_is_refused_with_counts(truth: np.ndarray) -> None:
    with pytest.raises(DataError, match="needs both answers"):
        choose_threshold(ThresholdOptions(), np.linspace(0, 1, len(truth)), truth)


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="not a number between 0 and 1"):
        choose_threshold(ThresholdOptions(), np.array([0.1, bad]), np.array([0, 1]))


def test_clopper_pearson_is_scipys() -> None:
    hits, of = np.array([0.0, 1, 5, 20]), np.array([20.0, 20, 9, 20])
    theirs = [binomtest(int(k), int(n), alternative="greater").proportion_ci(0.9, "exact").low for k, n in zip(hits, of, strict=True)]
    np.testing.assert_allclose(clopper_pearson_lower(hits, of, 0.9), theirs, atol=1e-12)


def test_inputs_are_not_changed() -> None:
    scores, truth = np.array([0.9, 0.1, 0.5]), np.array([1.0, 0, 1])
    before = scores.copy(), truth.copy()
    choose_threshold(ThresholdOptions(), scores, truth)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(truth, before[1])


@pytest.mark.parametrize("goal", ["youden", "sensitivity >= 0.9", "ppv >= 0.9"])
def test_a_million_rows_in_a_moment(goal: str) -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(1_000_000) < 0.2).astype(float)
    scores = 1 / (1 + np.exp(-(3 * truth - 2 + rng.normal(size=len(truth)))))
    start = time.process_time()
    chosen = choose_threshold(ThresholdOptions(goal=goal, confidence=0.95), scores, truth)
    assert time.process_time() - start < 4  # measured: under 1 s on a free processor
    assert goal == "youden" or chosen["reached"][goal.split()[0]]["lower"] >= 0.9


def test_each_head_gets_its_thresholds() -> None:
    probabilities = np.array([[0.9, 0.2], [0.1, 0.7], [0.8, 0.6], [0.3, 0.4]])
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], np.float32)
    known = np.array([[True, True], [True, True], [True, False], [True, True]])
    multilabel = {"kind": "multilabel", "classes": ["a", "b"]}
    found = choose_thresholds(ThresholdOptions(), multilabel, probabilities, Labels(truth, known))
    assert 0.3 < found["labels"]["a"]["value"] < 0.8
    assert found["labels"]["b"]["reached"]["specificity"]["of"] == 2  # the unknown one is left out
    binary = {"kind": "binary", "classes": ["no", "yes"]}
    assert choose_thresholds(ThresholdOptions(), binary, probabilities[:, :1], Labels(truth[:, 0], known[:, 0])) == found["labels"]["a"]
    multiclass = {"kind": "multiclass", "classes": ["x", "y"]}
    assert choose_thresholds(ThresholdOptions(), multiclass, probabilities, Labels(np.array([0, 1, 0, 1]), known[:, 0])) == {}
    with pytest.raises(DataError, match="answer 'b'"):
        choose_thresholds(ThresholdOptions(), multilabel, probabilities, Labels(np.stack([truth[:, 0], 0 * truth[:, 0]], 1), known))

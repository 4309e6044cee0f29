"""Every number against scikit-learn or a plain loop, with weights, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from meddx.evaluate.metrics import METRICS, BinaryNumbers, binary_numbers, oriented


def example(seed: int, n: int = 200, ties: bool = False):
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.3).astype(float)
    labels[:2] = 0, 1
    said = 1 / (1 + np.exp(-(1.5 * labels - 1 + random.normal(size=n))))
    said = np.round(said, 1) if ties else said
    return labels, said, (said > 0.4).astype(float), random.integers(0, 4, n).astype(float)


def oracle(labels, said, decided, weights=None):
    kept = {"sample_weight": weights}
    return {
        "auroc": sk.roc_auc_score(labels, said, **kept),
        "auprc": sk.average_precision_score(labels, said, **kept),
        "accuracy": sk.accuracy_score(labels, decided, **kept),
        "sensitivity": sk.recall_score(labels, decided, **kept),
        "specificity": sk.recall_score(labels, decided, pos_label=0, **kept),
        "ppv": sk.precision_score(labels, decided, **kept),
        "brier": sk.brier_score_loss(labels, said, **kept),
        "log_loss": sk.log_loss(labels, said, **kept),
        "f1": sk.f1_score(labels, decided, **kept),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed, ties):
    labels, said, decided, weights = example(seed, ties=ties)
    for given_weights in (None, weights):
        found = binary_numbers(labels, said, decided, given_weights)
        for metric, expected in oracle(labels, said, decided, given_weights).items():
            assert found[metric] == pytest.approx(expected, abs=1e-12), metric


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40).filter(lambda rows: len({y for y, _ in rows}) == 2))
@settings(max_examples=150, deadline=None)
def test_ties_as_scikit_learn(rows):
    labels, said = np.array([y for y, _ in rows], float), np.array([s for _, s in rows]) / 6
    found = binary_numbers(labels, said)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(labels, said), abs=1e-12)
    assert found["auprc"] == pytest.approx(sk.average_precision_score(labels, said), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(5, 60), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_weight_is_a_repetition(seed, n, ties):
    labels, said, decided, weights = example(seed, n, ties)
    repeated = np.repeat(np.arange(n), weights.astype(int))
    if len(repeated) == 0:
        return
    found = binary_numbers(labels, said, decided, weights)
    expected = binary_numbers(labels[repeated], said[repeated], decided[repeated])
    for metric in METRICS:
        assert found[metric] == pytest.approx(expected[metric], abs=1e-12, nan_ok=True), metric


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_count(seed, ties):
    labels, said, decided, weights = example(seed, 80, ties)
    order = np.random.default_rng(seed).permutation(80)
    found = binary_numbers(labels, said, decided, weights)
    again = binary_numbers(labels[order], said[order], decided[order], weights[order])
    for metric in METRICS:
        assert found[metric] == pytest.approx(again[metric], abs=1e-12), metric


def test_rank_metrics_do_not_see_a_monotone_change():
    labels, said, _, _ = example(0)
    found, changed = binary_numbers(labels, said), binary_numbers(labels, said**3)
    assert found["auroc"] == changed["auroc"] and found["auprc"] == changed["auprc"]
    assert found["brier"] != changed["brier"]


def test_many_weightings_at_once_are_each_alone():
    labels, said, decided, _ = example(1)
    weights = np.random.default_rng(0).integers(0, 3, (7, 200)).astype(float)
    together = BinaryNumbers(labels, said, decided)(weights)
    for row in range(7):
        alone = binary_numbers(labels, said, decided, weights[row])
        assert all(together[metric][row] == pytest.approx(alone[metric], abs=1e-12) for metric in METRICS)


def test_inputs_are_unchanged():
    arrays = example(2)
    for one in arrays:
        one.setflags(write=False)
    kept = [one.copy() for one in arrays]
    binary_numbers(*arrays)
    assert all((one == before).all() for one, before in zip(arrays, kept, strict=True))


def plain_ece(labels, said, bins):
    """Ten slices of the sorted cases, no ties and a multiple of ten cases."""
    order = np.argsort(-said)
    slices = np.array_split(order, bins)
    return sum(abs((said[one] - labels[one]).sum()) for one in slices) / len(labels)


def test_ece_by_a_plain_loop():
    labels, said, _, _ = example(3)
    assert binary_numbers(labels, said)["ece"] == pytest.approx(plain_ece(labels, said, 10), abs=1e-12)


def test_ece_by_hand():
    assert binary_numbers([0, 1, 0, 1], [0.5] * 4)["ece"] == 0
    assert binary_numbers([0, 0, 0, 1], [0.5] * 4)["ece"] == pytest.approx(0.25)
    assert binary_numbers([0, 1], [0.2, 0.6])["ece"] == pytest.approx((0.2 + 0.4) / 2)


def test_undefined_is_nan_with_a_reason():
    numbers = BinaryNumbers([1, 1, 1], [0.2, 0.5, 0.9], [0, 0, 0])
    found = numbers(np.ones((1, 3)))
    assert np.isnan(found["auroc"][0]) and np.isnan(found["specificity"][0]) and np.isnan(found["ppv"][0])
    assert found["sensitivity"][0] == 0
    assert numbers.why_undefined("auroc") == "every case has the outcome"
    assert numbers.why_undefined("ppv") == "no case was decided to be positive"
    none = BinaryNumbers([0, 0], [0.1, 0.2])
    assert np.isnan(none(np.ones((1, 2)))["auprc"][0]) and none.why_undefined("auprc") == "no case has the outcome"
    assert none.why_undefined("accuracy") == "it makes no decisions"


def test_certain_and_wrong_is_a_finite_loss():
    assert np.isfinite(binary_numbers([0, 1], [1.0, 0.0])["log_loss"])


def test_orientation():
    assert oriented("brier", -0.1) == 0.1 and oriented("auroc", 0.1) == 0.1

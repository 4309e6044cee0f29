import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from meddx.synth.truth import bayes_auroc, logistic, spread_uniform


def every_pair(p: np.ndarray) -> float:
    above = over = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                weight = p[i] * (1 - p[j])
                over += weight
                above += weight * ((p[i] > p[j]) + (p[i] == p[j]) / 2)
    return above / over


def test_is_the_sum_over_all_pairs() -> None:
    p = np.array([0.1, 0.1, 0.4, 0.9, 0.9, 0.75])
    assert bayes_auroc(p) == pytest.approx(every_pair(p), abs=1e-12)


def test_is_what_labels_give_on_average() -> None:
    rng = np.random.default_rng(0)
    p = np.round(rng.random(400), 2)
    seen = [roc_auc_score(rng.random(400) < p, p) for _ in range(200)]
    assert bayes_auroc(p) == pytest.approx(float(np.mean(seen)), abs=0.003)


def test_certain_labels_are_separated_and_equal_ones_are_not() -> None:
    assert bayes_auroc(np.array([0.0, 0.0, 1.0])) == pytest.approx(1.0)
    assert bayes_auroc(np.full(9, 0.3)) == pytest.approx(0.5)
    assert np.isnan(bayes_auroc(np.array([0.3])))


def test_spread_uniform_has_one_number_in_each_share() -> None:
    drawn = spread_uniform(np.random.default_rng(3), 50)
    assert sorted((drawn * 50).astype(int)) == list(range(50))
    assert list(drawn) != sorted(drawn)


def test_logistic() -> None:
    assert logistic(np.array([0.0, 2.0])) == pytest.approx([0.5, 0.8807970779778823])

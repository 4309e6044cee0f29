"""Weights of classes against a plain search, and the decisions that are made of them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from meddx.dataset.target import Labels
from meddx.errors import BundleError, DataError
from meddx.predict.adjust import TAUS, choose_weights, decided
from meddx.predict.manifest import HeadPage, check_threshold
from meddx.predict.options import ThresholdOptions
from meddx.predict.outcome import decide
from meddx.predict.threshold import choose_threshold, choose_thresholds

CLASSES = ("common", "rare", "rarest")


def scene(seed: int = 0, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities of three classes, 90, 8 and 2 in a hundred, and answers drawn from them."""
    random = np.random.default_rng(seed)
    logits = np.log([0.9, 0.08, 0.02]) + 1.5 * random.normal(size=(n, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, np.array([random.choice(3, p=one) for one in probabilities])


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_all_taus(seed: int) -> None:
    probabilities, truth = scene(seed)
    chosen = choose_weights(CLASSES, (), probabilities, truth)
    share = np.bincount(truth) / np.bincount(truth).max()
    worth = [f1_score(truth, (probabilities / share**tau).argmax(1), average="macro") for tau in TAUS]
    assert chosen["tau"] == TAUS[int(np.argmax(worth))] and chosen["reached"]["macro_f1"] == pytest.approx(max(worth))
    assert chosen["reached"]["most_probable"] == pytest.approx(worth[0])
    assert list(chosen["weights"].values()) == pytest.approx(list(share ** -chosen["tau"]))
    fresh, answers = scene(seed + 100)  # cases that chose nothing
    weights = np.array(list(chosen["weights"].values()))
    found = [f1_score(answers, decided(fresh, one), average="macro") for one in (None, weights)]
    assert chosen["tau"] > 0 and found[1] > found[0]


def test_a_class_that_does_not_count_and_one_without_cases_weigh_as_the_most_common() -> None:
    probabilities, truth = scene()
    chosen = choose_weights(CLASSES, ("common", "rare"), probabilities, truth)
    assert chosen["weights"]["rarest"] == 1 and chosen["reached"]["classes"] == ["common", "rare"]
    rows = truth < 2
    assert choose_weights(CLASSES, (), probabilities[rows], truth[rows])["weights"]["rarest"] == 1
    with pytest.raises(DataError, match="F1 counts"):
        choose_weights(CLASSES, ("rarest",), probabilities[rows], truth[rows])


def test_nothing_is_moved_where_the_most_probable_class_is_best() -> None:
    truth = np.arange(90) % 3
    assert choose_weights(CLASSES, (), np.eye(3)[truth] * 0.9 + 0.03, truth)["tau"] == 0


def test_the_bundle_decides_as_its_weights_say() -> None:
    probabilities, truth = scene()
    labels = Labels(truth.astype(float), np.arange(len(truth)) > 50)
    head = HeadPage(kind="multiclass", classes=CLASSES)
    chosen = choose_thresholds(ThresholdOptions(goal="macro_f1"), head.page, probabilities, labels)
    assert chosen == choose_weights(CLASSES, (), probabilities[51:], truth[51:])
    check_threshold(head, chosen)
    weights = np.array(list(chosen["weights"].values()))
    for threshold, expected in ((chosen, probabilities * weights), ({}, probabilities)):
        ((codes, words),) = decide(head, {}, threshold, probabilities)
        assert (np.array(words)[codes] == np.array(CLASSES)[expected.argmax(1)]).all()
    assert choose_thresholds(ThresholdOptions(), head.page, probabilities, labels) == {}


@pytest.mark.parametrize("weights", [{"common": 1.0}, {"common": 1.0, "rare": 0.0, "rarest": 1.0}, [1, 1, 1]])
def test_weights_that_do_not_fit_are_refused(weights: object) -> None:
    with pytest.raises(BundleError, match="does not fit a multiclass"):
        check_threshold(HeadPage(kind="multiclass", classes=CLASSES), {"weights": weights})


def test_the_goal_is_of_several_classes() -> None:
    with pytest.raises(DataError, match="not one of yes and no"):
        choose_threshold(ThresholdOptions(goal="macro_f1"), np.array([0.1, 0.9]), np.array([0, 1]))

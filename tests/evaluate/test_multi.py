"""Averages over classes and labels against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from meddx.evaluate.metrics import METRICS, binary_numbers
from meddx.evaluate.multi import MulticlassNumbers, MultilabelNumbers, metric_name, metrics_of, numbers_for
from meddx.evaluate.types import ModelScores, Truth

NAMES = ("a", "b", "c")


def classes(seed: int = 0, n: int = 300):
    random = np.random.default_rng(seed)
    values = random.choice(3, n, p=[0.2, 0.5, 0.3])
    logits = random.normal(size=(n, 3)) + 1.2 * np.eye(3)[values]
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return values, said, said.argmax(axis=1)


def once(numbers, n):
    return {metric: float(value[0]) for metric, value in numbers(np.ones((1, n))).items()}


@pytest.mark.parametrize("seed", range(3))
def test_multiclass_as_scikit_learn(seed):
    values, said, decided = classes(seed)
    found = once(MulticlassNumbers(values, said, decided, NAMES), 300)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(values, said, multi_class="ovr"), abs=1e-12)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(values, decided), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(values, decided, average="macro"), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(sk.recall_score(values, decided, average="macro"), abs=1e-12)
    assert found["ppv"] == pytest.approx(sk.precision_score(values, decided, average="macro"), abs=1e-12)
    assert found["log_loss"] == pytest.approx(sk.log_loss(values, said), abs=1e-12)
    assert found["brier"] == pytest.approx(((said - np.eye(3)[values]) ** 2).sum(axis=1).mean(), abs=1e-12)
    assert found["auprc"] == pytest.approx(sk.average_precision_score(np.eye(3)[values], said, average="macro"), abs=1e-12)


def test_ece_of_the_first_choice():
    values, said, decided = classes(1)
    found = once(MulticlassNumbers(values, said, decided, NAMES), 300)
    assert found["ece"] == pytest.approx(binary_numbers(decided == values, said.max(axis=1))["ece"], abs=1e-12)
    assert found["in_the_large"] == pytest.approx(said.max(axis=1).mean() - (decided == values).mean(), abs=1e-12)


def test_a_class_that_is_not_there_is_not_averaged():
    values, said, decided = classes(2)
    keep = values != 2
    numbers = MulticlassNumbers(values[keep], said[keep], decided[keep], NAMES)
    found = once(numbers, int(keep.sum()))
    each = [sk.roc_auc_score(values[keep] == j, said[keep, j]) for j in (0, 1)]
    assert numbers.usable.tolist() == [True, True, False]
    assert found["auroc"] == pytest.approx(np.mean(each), abs=1e-12)


def test_a_class_never_chosen_has_no_ppv_and_says_so():
    values, said, _ = classes(0)
    numbers = MulticlassNumbers(values, said, np.ones(300, int), NAMES)
    assert np.isnan(once(numbers, 300)["ppv"]) and numbers.why_undefined("ppv") == "no case was decided to be a"
    silent = MulticlassNumbers(values, said, None, NAMES)
    assert np.isnan(once(silent, 300)["accuracy"]) and silent.why_undefined("accuracy") == "it makes no decisions"
    one = MulticlassNumbers(np.zeros(4, int), said[:4], None, NAMES)
    assert np.isnan(once(one, 4)["auroc"]) and one.why_undefined("auroc") == "no class is seen both with and without"


def test_multilabel_leaves_unknown_labels_out():
    random = np.random.default_rng(0)
    values, said = (random.random((200, 3)) < 0.3).astype(float), random.random((200, 3))
    known = random.random((200, 3)) < 0.8
    spoiled = np.where(known, values, np.nan)
    found = once(MultilabelNumbers(spoiled, known, said, said > 0.5, NAMES), 200)
    for metric in METRICS:
        each = [binary_numbers(values[known[:, j], j], said[known[:, j], j], said[known[:, j], j] > 0.5)[metric] for j in range(3)]
        assert found[metric] == pytest.approx(np.mean(each), abs=1e-12), metric


def test_numbers_for_takes_only_the_chosen_rows():
    values, said, decided = classes(0)
    rows = np.arange(300) < 200
    spoiled = said.copy()
    spoiled[~rows] = np.nan
    truth = Truth("multiclass", NAMES, values, np.ones(300, bool))
    found = once(numbers_for(truth, ModelScores(spoiled, decided), rows), 200)
    assert found == once(MulticlassNumbers(values[:200], said[:200], decided[:200], NAMES), 200)
    columns = ModelScores(said[:, :1], (said[:, :1] > 0.5))
    binary = numbers_for(Truth("binary", ("no", "yes"), values == 1, np.ones(300, bool)), columns, rows)
    assert once(binary, 200)["auroc"] == pytest.approx(sk.roc_auc_score(values[:200] == 1, said[:200, 0]), abs=1e-12)


def test_names():
    assert metric_name("binary", "auroc") == "AUROC" and metric_name("multiclass", "auroc") == "macro AUROC"
    assert metric_name("multiclass", "brier") == "Brier score" and metric_name("multilabel", "brier") == "macro Brier score"
    assert "macro_f1" in metrics_of("multiclass") and "macro_f1" not in metrics_of("binary")

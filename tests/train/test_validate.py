from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from meddx.dataset.target import Labels
from meddx.errors import DataError
from meddx.models.heads import Head
from meddx.train.batches import Loader
from meddx.train.machine import Machine
from meddx.train.validate import auroc, check_labels, gathered_logits, scores

HEAD = Head("binary", ("no", "yes"))


@pytest.mark.parametrize("decimals", [1, 8])  # with many ties, and with none
def test_auroc_is_scikit_learns(decimals: int) -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.3
    score = np.round(rng.normal(size=300) + positive, decimals)
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


def test_binary_scores() -> None:
    rng = np.random.default_rng(1)
    logits, values = rng.normal(size=(200, 1)), (rng.random(200) < 0.4).astype(np.float32)
    measured = scores(Head("binary", ("no", "yes")), logits, Labels(values, np.ones(200, bool)))
    probability = 1 / (1 + np.exp(-logits[:, 0]))
    assert measured["log_loss"] == pytest.approx(log_loss(values, probability), abs=1e-12)
    assert measured["auroc"] == pytest.approx(roc_auc_score(values, probability), abs=1e-12)


def test_multiclass_scores() -> None:
    rng = np.random.default_rng(2)
    logits, values = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    head = Head("multiclass", ("a", "b", "c"))
    measured = scores(head, logits, Labels(values, np.ones(200, bool)))
    assert measured["log_loss"] == pytest.approx(log_loss(values, head.probabilities(logits)), abs=1e-12)
    assert measured["auroc"] == pytest.approx(roc_auc_score(values, head.probabilities(logits), multi_class="ovr"), abs=1e-12)


def test_multilabel_scores_leave_out_unknown_labels_and_empty_columns() -> None:
    rng = np.random.default_rng(3)
    logits, known = rng.normal(size=(200, 3)), rng.random((200, 3)) < 0.5
    values = (rng.random((200, 3)) < [0.3, 0.6, 0.0]).astype(np.float32)  # the third label has no positive
    measured = scores(Head("multilabel", ("x", "y", "z")), logits, Labels(values, known))
    areas = [roc_auc_score(values[known[:, k], k], logits[known[:, k], k]) for k in (0, 1)]
    assert measured["auroc"] == pytest.approx(np.mean(areas), abs=1e-12)
    spoiled = np.where(known, values, 1 - values)
    assert scores(Head("multilabel", ("x", "y", "z")), logits, Labels(spoiled, known)) == measured


class Counting(torch.nn.Module):
    """Answers with the row's own number, and remembers every shape that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[int] = set()

    def forward(self, batch: Any) -> torch.Tensor:
        self.shapes.add(len(batch["x"]["v"]))
        return torch.as_tensor(batch["x"]["v"])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("cases", [1, 7, 8, 23])
def test_every_case_is_counted_once_and_every_forward_has_one_shape(world: int, cases: int, in_lockstep: Any) -> None:
    model = Counting()
    values = np.arange(cases, dtype=np.float32)[:, None] + 1
    labels = Labels(np.zeros(cases, np.float32), np.ones(cases, bool))
    loader = Loader({"x": {"v": values}}, labels, {}, Machine("cpu", 1, "fp32"))
    for logits in in_lockstep(world, lambda communicator: gathered_logits(model, loader, communicator, 1, 4)):
        assert logits.tolist() == values.tolist()
    assert model.shapes == {4}


def test_a_part_that_cannot_choose_an_epoch_is_refused() -> None:
    with pytest.raises(DataError, match="no labelled case"):
        check_labels(Labels(np.zeros(3, np.float32), np.zeros(3, bool)), "log_loss", HEAD)
    one_class = Labels(np.ones(3, np.float32), np.ones(3, bool))
    check_labels(one_class, "log_loss", HEAD)
    with pytest.raises(DataError, match="only one class"):
        check_labels(one_class, "auroc", HEAD)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meddx.dataset.target import Labels
from meddx.errors import RecipeError
from meddx.models.heads import Head, make_head
from meddx.train.imbalance import Imbalance, settle
from meddx.train.options import TrainingOptions

BINARY, MULTI = Head("binary", ["no", "yes"]), Head("multiclass", ["a", "b", "c"])
RARE = Labels(np.array([0, 0, 1, 0, 0, 0, 0, 1, 0, 0, np.nan], np.float32), np.array([True] * 10 + [False]))


def options(imbalance: str, **more: Any) -> TrainingOptions:
    return TrainingOptions.model_validate({"imbalance": imbalance, **more})


def test_none_is_nothing() -> None:
    assert settle(options("none"), BINARY, RARE) == Imbalance()


def test_class_weights_and_sampling_have_the_same_offset() -> None:
    weighted, sampled = (settle(options(kind), BINARY, RARE) for kind in ("class_weights", "balanced_sampling"))
    assert weighted.offset == pytest.approx([-np.log(4)]) == sampled.offset  # one in five: the odds were multiplied by 4
    assert weighted.class_weights is not None and not weighted.members
    assert sampled.class_weights is None and [rows.tolist() for rows in sampled.members] == [[0, 1, 3, 4, 5, 6, 8, 9], [2, 7]]
    assert "class weights 0.625, 2.5" in weighted.words and "moved by -1.39, back to unweighted cases" in weighted.words
    assert "drawn equally often, 0.625, 2.5 times" in sampled.words


def test_a_class_that_train_lacks_is_never_drawn() -> None:
    sampled = settle(options("balanced_sampling"), MULTI, Labels(np.array([0, 2, 2, 2]), np.ones(4, bool)))
    assert [rows.tolist() for rows in sampled.members] == [[0], [1, 2, 3]]
    assert sampled.offset == pytest.approx([-np.log(2), 0, -np.log(2 / 3)])


def test_focal_has_a_power_and_no_offset() -> None:
    focal = settle(options("focal", focal=1.5), BINARY, RARE)
    assert (focal.focal, focal.offset, focal.class_weights, focal.members) == (1.5, None, None, ())
    assert "no known offset" in focal.words


@pytest.mark.parametrize(
    ("kind", "imbalance"),
    [
        ("multilabel", "balanced_sampling"),
        ("ordinal", "balanced_sampling"),
        ("ordinal", "class_weights"),
        ("regression", "balanced_sampling"),
        ("regression", "class_weights"),
        ("regression", "focal"),
    ],
)
def test_what_a_kind_cannot_have_is_refused(kind: str, imbalance: str) -> None:
    head = make_head({"kind": kind, "classes": ["a", "b", "c"], "mean": 0.0, "std": 1.0})
    shape = (4, 3) if kind == "multilabel" else (4,)
    with pytest.raises(RecipeError) as caught:
        settle(options(imbalance), head, Labels(np.zeros(shape, int if kind == "ordinal" else np.float32), np.ones(shape, bool)))
    assert "training.imbalance" in str(caught.value)

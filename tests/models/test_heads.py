from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from meddx.errors import RecipeError
from meddx.models.heads import Head

BINARY, MULTI, LABELS = Head("binary", ["no", "yes"]), Head("multiclass", ["a", "b", "c"]), Head("multilabel", ["x", "y"])


def drawn(head: Head, rows: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(rows, head.n_outputs, dtype=torch.float64, requires_grad=True)
    if head.kind == "multiclass":
        return logits, torch.randint(0, 3, (rows,)), torch.ones(rows, dtype=torch.bool)
    shape = (rows,) if head.kind == "binary" else (rows, 2)
    return logits, torch.randint(0, 2, shape).double(), torch.ones(shape, dtype=torch.bool)


def test_losses_are_the_known_ones() -> None:
    logits, labels, known = drawn(BINARY)
    total, count = BINARY.loss(logits, labels, known)
    assert total.item() == pytest.approx(functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="sum").item())
    assert count.item() == 12
    logits, labels, known = drawn(MULTI)
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    total, count = MULTI.loss(logits, labels, known, weights)
    assert (total / count).item() == pytest.approx(functional.cross_entropy(logits, labels, weights).item())
    logits, labels, known = drawn(LABELS)
    assert LABELS.loss(logits, labels, known)[1].item() == 24


@pytest.mark.parametrize("head", [BINARY, MULTI, LABELS])
@pytest.mark.parametrize("weighted", [False, True])
def test_shards_add_up_to_the_whole(head: Head, weighted: bool) -> None:
    logits, labels, known = drawn(head)
    weights = torch.rand({"binary": (2,), "multiclass": (3,), "multilabel": (2, 2)}[head.kind]) + 0.5 if weighted else None
    whole = head.loss(logits, labels, known, weights)
    parts = [head.loss(logits[cut], labels[cut], known[cut], weights) for cut in (slice(0, 5), slice(5, 12))]
    for place in (0, 1):
        assert whole[place].item() == pytest.approx(parts[0][place].item() + parts[1][place].item(), rel=1e-12)


@pytest.mark.parametrize("head", [BINARY, MULTI, LABELS])
def test_unknown_labels_count_for_nothing_whatever_stands_there(head: Head) -> None:
    logits, labels, known = drawn(head)
    known[3:] = False
    spoiled = labels.clone()
    spoiled[3:] = -7 if head.kind == "multiclass" else float("nan")
    total, count = head.loss(logits, spoiled, known)
    total.backward()
    expected = head.loss(logits[:3].detach(), labels[:3], known[:3])
    assert (total.item(), count.item()) == pytest.approx((expected[0].item(), expected[1].item()))
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and not logits.grad[3:].any() and logits.grad[:3].any()
    nothing = head.loss(logits, spoiled, torch.zeros_like(known))
    assert nothing[0].item() == nothing[1].item() == 0


def test_class_weights_follow_the_class() -> None:
    logits, known = torch.zeros(3, 1), torch.ones(3, dtype=torch.bool)
    total, count = BINARY.loss(logits, torch.tensor([0.0, 0.0, 1.0]), known, torch.tensor([1.0, 10.0]))
    assert count.item() == 12 and total.item() == pytest.approx(12 * np.log(2))


def test_balanced_weights_make_classes_equal() -> None:
    np.testing.assert_allclose(BINARY.balanced_weights(np.array([0, 0, 0, 1, 1.0]), np.array([True] * 4 + [False])), [4 / 6, 2.0])
    assert MULTI.balanced_weights(np.array([0, 0, 1]), np.ones(3, bool)).tolist() == [0.5, 1.0, 1.0]
    values, known = np.array([[0, 1], [1, np.nan], [1, 1.0]]), np.array([[True, True], [True, False], [True, True]])
    np.testing.assert_allclose(LABELS.balanced_weights(values, known), [[1.5, 0.75], [1.0, 0.5]])


def test_bfloat16_logits_are_summed_in_float32() -> None:
    total, count = BINARY.loss(torch.zeros(4, 1, dtype=torch.bfloat16), torch.ones(4), torch.ones(4, dtype=torch.bool))
    assert total.dtype == count.dtype == torch.float32


def test_probabilities_are_float64_and_safe() -> None:
    assert BINARY.probabilities(np.array([[0.0], [800.0], [-800.0]], np.float32)).tolist() == [[0.5], [1.0], [0.0]]
    chances = MULTI.probabilities(np.array([[1000.0, 0.0, -1000.0], [0, 0, 0]]))
    assert chances.dtype == np.float64 and chances.sum(1).tolist() == [1.0, 1.0]
    assert LABELS.probabilities(np.zeros((2, 2))).tolist() == [[0.5, 0.5]] * 2


@pytest.mark.parametrize(
    ("kind", "classes"), [("binary", ["a"]), ("binary", ["a", "b", "c"]), ("multiclass", ["a"]), ("multilabel", []), ("tags", ["a", "b"])]
)
def test_impossible_heads_are_refused(kind: str, classes: list[str]) -> None:
    with pytest.raises(RecipeError):
        Head(kind, classes)

"""Ordinal and regression, focal loss, offsets and the numbers that training watches."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error, precision_recall_curve

from meddx.errors import RecipeError
from meddx.models.heads import Head, make_head
from meddx.models.heads.measures import best_f1, macro_f1, quadratic_kappa

PAGES: dict[str, dict[str, Any]] = {
    "binary": {"kind": "binary", "classes": ["no", "yes"]},
    "multiclass": {"kind": "multiclass", "classes": ["a", "b", "c"]},
    "multilabel": {"kind": "multilabel", "classes": ["x", "y"]},
    "ordinal": {"kind": "ordinal", "classes": ["0", "1", "2", "3"]},
    "regression": {"kind": "regression", "classes": [], "mean": 50.0, "std": 4.0},
}
HEADS = {kind: make_head(page) for kind, page in PAGES.items()}
ORDINAL, REGRESSION = HEADS["ordinal"], HEADS["regression"]


def drawn(kind: str, rows: int = 14) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    head = HEADS[kind]
    logits = 2 * torch.randn(rows, head.n_outputs, dtype=torch.float64, generator=generator)
    logits = logits.sort(1, descending=True)[0] if kind == "ordinal" else logits
    shape = (rows, 2) if kind == "multilabel" else (rows,)
    if kind == "regression":
        labels = 50 + 4 * torch.randn(shape, dtype=torch.float64, generator=generator)
    else:
        labels = torch.randint(0, {"multiclass": 3, "ordinal": 4}.get(kind, 2), shape, generator=generator)
        labels = labels if kind in ("multiclass", "ordinal") else labels.double()
    known = torch.ones(shape, dtype=torch.bool)
    known[2] = False
    return logits.requires_grad_(), labels, known


@pytest.mark.parametrize("kind", PAGES)
def test_shards_add_up_and_the_denominator_needs_no_logits(kind: str) -> None:
    head, (logits, labels, known) = HEADS[kind], drawn(kind)
    whole = head.loss(logits, labels, known)
    parts = [head.loss(logits[cut], labels[cut], known[cut]) for cut in (slice(0, 5), slice(5, 14))]
    for place in (0, 1):
        assert whole[place].item() == pytest.approx(parts[0][place].item() + parts[1][place].item(), rel=1e-12)
    assert head.denominator(labels, known).item() == whole[1].item() == known.sum().item()
    assert head.denominator(labels, known).dtype == torch.float64


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("focal", [0.0, 0.5, 2.0])
def test_unknown_labels_count_for_nothing_in_every_kind(kind: str, focal: float) -> None:
    if kind == "regression" and focal:
        return
    head, (logits, labels, known) = HEADS[kind], drawn(kind)
    expected = head.loss(logits, labels, known, None, focal)[0].item()
    spoiled = labels.clone()
    spoiled[2] = -7 if labels.dtype == torch.int64 else float("nan")
    total, _ = head.loss(logits, spoiled, known, None, focal)
    total.backward()
    assert total.item() == expected
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and not logits.grad[2].any() and logits.grad[3].any()


@pytest.mark.parametrize("kind", [kind for kind in PAGES if kind != "regression"])
def test_focal_is_the_papers_formula_over_the_number_of_labels(kind: str) -> None:
    head, (logits, labels, known) = HEADS[kind], drawn(kind)
    chances = head.probabilities(logits.detach().numpy())
    truth = labels.numpy()
    if kind in ("multiclass", "ordinal"):
        own = np.take_along_axis(chances, truth[:, None].astype(int), 1)[:, 0]
    else:
        chances = chances[:, 0] if kind == "binary" else chances
        own = np.where(truth > 0.5, chances, 1 - chances)
    mask = known.numpy()
    total, count = head.loss(logits, labels, known, None, 2.0)
    assert total.item() == pytest.approx((-((1 - own) ** 2) * np.log(own))[mask].sum(), rel=1e-10)
    assert count.item() == mask.sum()
    assert head.loss(logits, labels, known, None, 0.0)[0].item() == pytest.approx(-np.log(own)[mask].sum(), rel=1e-10)


def test_focal_of_a_certain_and_right_answer_has_a_finite_slope() -> None:
    logits = torch.tensor([[90.0], [-90.0]], requires_grad=True)
    HEADS["binary"].loss(logits, torch.tensor([1.0, 0.0]), torch.ones(2, dtype=torch.bool), None, 0.5)[0].backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_ordinal_loss_is_the_negative_log_of_its_probability_also_far_out() -> None:
    logits = torch.tensor([[60.0, 55.0, 50.0], [-50.0, -55.0, -60.0], [3.0, 0.0, -2.0]], dtype=torch.float64).repeat_interleave(4, 0)
    labels = torch.arange(4).repeat(3)
    chances = ORDINAL.probabilities(logits.numpy())
    for row, label in enumerate(labels):
        one = ORDINAL.loss(logits[row : row + 1], labels[row : row + 1], torch.ones(1, dtype=torch.bool))[0].item()
        assert one == pytest.approx(-np.log(chances[row, label]), rel=1e-9)
    assert chances.min() > 0 and np.allclose(chances.sum(1), 1, atol=1e-14)
    above = expit(logits.numpy()[8])  # by plain differences, where they are exact
    assert chances[8] == pytest.approx([1 - above[0], above[0] - above[1], above[1] - above[2], above[2]], abs=1e-14)


def test_ordinal_logits_out_of_order_still_give_chances() -> None:
    chances = ORDINAL.probabilities(np.array([[0.0, 1.0, -1.0]]))
    assert (chances >= 0).all() and chances.sum() == pytest.approx(1) and chances[0, 1] == 0


def test_the_ordinal_answer_is_ordered_by_construction_and_learns() -> None:
    torch.manual_seed(0)
    layer = ORDINAL.answer(5)
    with torch.no_grad():
        layer.gaps.copy_(torch.tensor([-9.0, 4.0]))  # type: ignore[operator]
    logits = layer(torch.randn(50, 5))
    assert logits.shape == (50, 3) and (logits.diff(dim=1) < 0).all()
    assert {name for name, _ in layer.named_parameters()} == {"score.weight", "score.bias", "gaps"}
    assert Head("ordinal", ["a", "b"]).answer(5)(torch.randn(2, 5)).shape == (2, 1)  # two classes: no gap
    features = torch.randn(400, 5)
    labels = torch.bucketize(features[:, 0] + 0.3 * torch.randn(400), torch.tensor([-1.0, 0.0, 1.0]))
    known, optimizer = torch.ones(400, dtype=torch.bool), torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (ORDINAL.loss(layer(features), labels, known)[0] / 400).backward()
        optimizer.step()
    found = ORDINAL.monitor(layer(features).detach().numpy(), labels.numpy(), known.numpy())
    assert found["kappa"] > 0.8 and found["log_loss"] < 0.7


def test_answers_of_the_old_kinds_are_the_linear_layer() -> None:
    for kind in ("binary", "multiclass", "multilabel", "regression"):
        torch.manual_seed(0)
        layer = HEADS[kind].answer(7)
        torch.manual_seed(0)
        linear = torch.nn.Linear(7, HEADS[kind].n_outputs)
        assert layer.state_dict().keys() == {"weight", "bias"}
        assert torch.equal(layer.state_dict()["weight"], linear.weight)


def test_regression_counts_in_trains_deviations_and_answers_in_units() -> None:
    logits, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([54.0, 50.0], dtype=torch.float64)
    total, count = REGRESSION.loss(logits, labels, torch.ones(2, dtype=torch.bool))
    assert (total.item(), count.item()) == (1.0, 2.0) and total.dtype == torch.float32
    assert REGRESSION.probabilities(logits.numpy()).tolist() == [[50.0], [54.0]]
    assert REGRESSION.monitor(logits.numpy(), labels.numpy(), np.array([True, False])) == {"log_loss": 0.5, "mae": 4.0}
    with pytest.raises(RecipeError, match="deviation above 0"):
        make_head({"kind": "regression", "mean": 1.0, "std": 0.0})
    with pytest.raises(RecipeError, match="needs classes"):
        REGRESSION.loss(logits, labels, torch.ones(2, dtype=torch.bool), None, 2.0)


@pytest.mark.parametrize("kind", ["ordinal", "regression"])
def test_kinds_without_class_weights_say_so(kind: str) -> None:
    logits, labels, known = drawn(kind)
    for call in (
        lambda: HEADS[kind].balanced_weights(labels.numpy(), known.numpy()),
        lambda: HEADS[kind].offset(np.ones(4)),
        lambda: HEADS[kind].loss(logits, labels, known, torch.ones(4)),
    ):
        with pytest.raises(RecipeError, match="no class weights"):
            call()


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_offset_brings_weighted_training_back_to_unweighted_cases(kind: str) -> None:
    """With features that say which of 5 groups a case is in, both fits are the groups' frequencies, so equality is exact."""
    rng, head = np.random.default_rng(0), HEADS[kind]
    classes = len(head.classes)
    groups = rng.integers(0, 5, 6000)
    values = (rng.random(6000) ** 3 * (classes - 0.5) + 0.15 * groups / 5).astype(int).clip(max=classes - 1)
    weights = head.balanced_weights(values, np.ones(6000, bool))
    fitted = LogisticRegression(C=1e6, tol=1e-8, max_iter=2000).fit(np.eye(5)[groups], values, sample_weight=weights[values])
    logits = fitted.decision_function(np.eye(5)).reshape(5, -1) + head.offset(weights)
    frequency = np.stack([np.bincount(values[groups == g], minlength=classes) / (groups == g).sum() for g in range(5)])
    assert head.probabilities(logits) == pytest.approx(frequency[:, 1:] if kind == "binary" else frequency, abs=2e-3)
    assert not np.allclose(head.offset(weights), 0, atol=0.3)


def test_multilabel_has_an_offset_a_label() -> None:
    assert HEADS["multilabel"].offset(np.array([[1.0, 4.0], [2.0, 1.0]])) == pytest.approx([-np.log(4), np.log(2)])


def test_measures_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    truth, decided = rng.integers(0, 4, 300), rng.integers(0, 5, 300).clip(max=3)
    assert quadratic_kappa(truth, decided) == pytest.approx(cohen_kappa_score(truth, decided, weights="quadratic"), abs=1e-12)
    assert macro_f1(truth, decided) == pytest.approx(f1_score(truth, decided, average="macro"), abs=1e-12)
    assert np.isnan(quadratic_kappa(np.ones(5), np.arange(5)))
    score = np.round(rng.normal(size=300), 1)
    positive = rng.random(300) < expit(score - 1)
    precision, recall, _ = precision_recall_curve(positive, score)
    assert best_f1(score, positive) == pytest.approx((2 * precision * recall / (precision + recall).clip(1e-9)).max(), abs=1e-12)
    assert np.isnan(best_f1(score, np.zeros(300, bool)))


@pytest.mark.parametrize("kind", PAGES)
def test_monitor_looks_at_known_labels_only(kind: str) -> None:
    head, (logits, labels, known) = HEADS[kind], drawn(kind)
    found = head.monitor(logits.detach().numpy(), labels.numpy(), known.numpy())
    total, count = head.loss(logits, labels, known)
    assert found["log_loss"] == (total / count).item()
    spoiled = labels.clone()
    spoiled[2] = 0 if labels.dtype == torch.int64 else float("nan")
    assert head.monitor(logits.detach().numpy(), spoiled.numpy(), known.numpy()) == found
    wanted = {"ordinal": {"kappa", "f1", "mae"}, "regression": {"mae"}}.get(kind, {"auroc", "f1"})
    assert found.keys() == {"log_loss"} | wanted and all(np.isfinite(list(found.values())))


def test_ordinal_monitor_decides_by_the_median() -> None:
    logits = np.array([[-1.0, -2.0, -3.0], [2.0, 0.5, -0.1], [3.0, 2.0, 1.0], [1.0, -1.0, -2.0]])
    truth = np.array([0, 3, 3, 2])
    found = ORDINAL.monitor(logits, truth, np.ones(4, bool))
    decided = (ORDINAL.probabilities(logits).cumsum(1) < 0.5).sum(1)
    assert decided.tolist() == [0, 2, 3, 1]
    assert found["mae"] == mean_absolute_error(truth, decided)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(truth, decided, weights="quadratic"))


@pytest.mark.parametrize("kind", PAGES)
def test_heads_are_frozen_values_that_travel(kind: str) -> None:
    head = HEADS[kind]
    again = pickle.loads(pickle.dumps(head))
    assert again == head and hash(again) == hash(head) and type(again) is type(head) and isinstance(again, Head)
    assert head != HEADS["binary" if kind != "binary" else "ordinal"]
    with pytest.raises(AttributeError, match="does not change"):
        head.kind = "binary"
    assert make_head({**PAGES[kind], "unit": "mmHg"}) == head  # further keys are left alone

"""The conditional random field and its entities, against all tags written out one by one."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from meddx.dataset.target import Labels
from meddx.errors import DataError, RecipeError
from meddx.models.heads import Head, crf, decode, make_head
from meddx.models.heads.bio import entities, f1, forbidden
from meddx.models.heads.tags import Tags
from meddx.train.imbalance import settle
from meddx.train.options import TrainingOptions
from meddx.train.validate import check_labels, scores


def head_of(labels: int, tokens: int) -> Tags:
    head = make_head({"kind": "tags", "classes": [f"x{j}" for j in range(labels)], "tokens": tokens, "unit": "further keys are left alone"})
    assert isinstance(head, Tags)
    return head


def logits_of(head: Tags, lengths: list[int], seed: int = 0, strength: float = 1.5) -> np.ndarray:
    """Random rows, the network's layout; each row has its own transitions."""
    rng = np.random.default_rng(seed)
    emissions = strength * rng.normal(size=(len(lengths), head.tokens, head.n_tags))
    emissions[np.arange(head.tokens)[None, :] >= np.array(lengths)[:, None]] = -1e9
    chain = strength * rng.normal(size=(len(lengths), head.n_tags * (head.n_tags + 2)))
    return np.concatenate([emissions.reshape(len(lengths), -1), chain], axis=1)


def known_of(head: Tags, lengths: list[int]) -> np.ndarray:
    return np.arange(head.tokens)[None, :] < np.array(lengths)[:, None]


def legal(tags: tuple[int, ...]) -> bool:
    """Written apart from the code: an inside has its own begin or inside before it."""
    return all(tag % 2 == 1 or tag == 0 or (place > 0 and tags[place - 1] in (tag, tag - 1)) for place, tag in enumerate(tags))


def written_out(head: Tags, row: np.ndarray, length: int) -> dict[tuple[int, ...], float]:
    """Every legal sequence of tags and its score."""
    t = head.n_tags
    emissions = row[: head.tokens * t].reshape(head.tokens, t)
    transitions = row[head.tokens * t :][: t * t].reshape(t, t)
    start, end = row[-2 * t : -t], row[-t:]
    return {
        tags: float(
            start[tags[0]]
            + end[tags[-1]]
            + sum(emissions[place, tag] for place, tag in enumerate(tags))
            + sum(transitions[one, two] for one, two in itertools.pairwise(tags))
        )
        for tags in itertools.product(range(t), repeat=length)
        if legal(tags)
    }


def legal_tags(head: Tags, lengths: list[int], seed: int = 1) -> np.ndarray:
    rng, values = np.random.default_rng(seed), np.zeros((len(lengths), head.tokens), np.int64)
    for row, length in enumerate(lengths):
        all_tags = [tags for tags in itertools.product(range(head.n_tags), repeat=length) if legal(tags)]
        values[row, :length] = all_tags[rng.integers(len(all_tags))]
    return values


CASES = [(1, [1, 4, 3, 5, 2]), (2, [3, 1, 4, 2])]


@pytest.mark.parametrize(("labels", "lengths"), CASES)
def test_the_loss_is_the_one_of_all_tags_written_out(labels: int, lengths: list[int]) -> None:
    head = head_of(labels, max(lengths) + 1)
    logits, values, known = logits_of(head, lengths), legal_tags(head, lengths), known_of(head, lengths)
    each = crf.negative_log_likelihood(torch.from_numpy(logits), torch.from_numpy(values), torch.from_numpy(known), head.n_tags)
    for row, length in enumerate(lengths):
        scored = written_out(head, logits[row], length)
        assert each[row].item() == pytest.approx(logsumexp(list(scored.values())) - scored[tuple(values[row, :length])], abs=1e-10)
    total, count = head.loss(torch.from_numpy(logits), torch.from_numpy(values), torch.from_numpy(known))
    assert total.item() == pytest.approx(each.sum().item()) and count.item() == sum(lengths)
    assert np.concatenate([decode.log_partition(chain) for _, chain in decode.chains(logits, head.tokens, head.n_tags)]) == pytest.approx(
        [logsumexp(list(written_out(head, logits[row], length).values())) for row, length in enumerate(lengths)], abs=1e-10
    )


@pytest.mark.parametrize(("labels", "lengths"), CASES)
def test_gradients_are_exact(labels: int, lengths: list[int]) -> None:
    head = head_of(labels, max(lengths) + 1)
    values, known = torch.from_numpy(legal_tags(head, lengths)), torch.from_numpy(known_of(head, lengths))
    logits = torch.from_numpy(logits_of(head, lengths)).requires_grad_()
    inside = known[:, :, None].expand(-1, -1, head.n_tags).flatten(1)

    def loss(some: torch.Tensor) -> torch.Tensor:
        """The pads stand still: a step of 1e-6 is lost beside -1e9."""
        own = torch.cat(
            [torch.where(inside, some[:, : inside.shape[1]], logits.detach()[:, : inside.shape[1]]), some[:, inside.shape[1] :]], 1
        )
        return head.loss(own, values, known)[0]

    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-6, atol=1e-7)
    (slope,) = torch.autograd.grad(head.loss(logits, values, known)[0], logits)
    into = torch.from_numpy(forbidden(head.n_tags)[0]).flatten()
    pads = slope[:, : inside.shape[1]][~inside]
    assert not pads.any() and not slope[:, inside.shape[1] :][:, : len(into)][:, into].any() and slope.isfinite().all()


@pytest.mark.parametrize(("labels", "lengths"), CASES)
def test_entities_are_the_likeliest_and_their_scores_add_up_over_all_tags(labels: int, lengths: list[int]) -> None:
    head = head_of(labels, max(lengths))
    several = 0
    for seed in range(8):
        logits = logits_of(head, lengths, seed)
        for row, (found, length) in enumerate(zip(head.spans(logits), lengths, strict=True)):
            scored = written_out(head, logits[row], length)
            best = max(scored, key=lambda tags: scored[tags])
            whole = logsumexp(list(scored.values()))

            def spans(tags: tuple[int, ...]) -> set[tuple[int, ...]]:
                return {tuple(one[1:]) for one in entities(np.array([tags]), np.array([len(tags)])).tolist()}

            assert {one[:3] for one in found} == spans(best) and [one[:2] for one in found] == sorted(one[:2] for one in found)
            for *span, score in found:
                chance = sum(np.exp(value - whole) for tags, value in scored.items() if tuple(span) in spans(tags))
                assert score == pytest.approx(chance, abs=1e-10)
            several += len(found) > 1
    assert several > 3


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.1, 3.0, 300.0, 1e6]),
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
)
def test_whatever_the_logits_entities_are_legal(seed: int, labels: int, strength: float, lengths: list[int]) -> None:
    head = head_of(labels, 9)
    for found, length in zip(head.spans(logits_of(head, lengths, seed, strength)), lengths, strict=True):
        places = [place for first, last, _, _ in found for place in range(first, last + 1)]
        assert len(set(places)) == len(places) and all(0 <= place < length for place in places)
        assert all(0 <= label < labels and 0 <= score <= 1 for _, _, label, score in found)


def test_without_the_rule_an_inside_would_follow_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(1, 3)
    logits = np.zeros((1, head.n_outputs))
    logits[0, 2] = logits[0, 8] = 1e6  # an inside at the first and at the last word, however strongly
    logits[0, 3] = 1e6  # and O between them
    logits[0, 6] = 5.0
    (chain,) = [chain for _, chain in decode.chains(logits, 3, 3)]
    assert legal(tuple(decode.viterbi(chain)[0].tolist()))
    values, known = torch.tensor([[0, 0, 0]]), torch.ones(1, 3, dtype=torch.bool)
    calm = torch.from_numpy(logits / 1e6)
    with_rule = head.loss(calm, values, known)[0]
    nothing = (np.zeros((3, 3), bool), np.zeros(3, bool))
    monkeypatch.setattr(decode, "forbidden", lambda count: nothing)
    monkeypatch.setattr(crf, "forbidden", lambda count: nothing)
    (chain,) = [chain for _, chain in decode.chains(logits, 3, 3)]
    assert decode.viterbi(chain)[0].tolist() == [2, 0, 2]
    assert head.loss(calm, values, known)[0] > with_rule + 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_changes_nothing(dtype: torch.dtype) -> None:
    short, long, lengths = head_of(2, 20), head_of(2, 50), [20, 7, 1, 0]
    logits = logits_of(short, lengths)
    values = np.zeros((4, 20), np.int64)
    values[:, 3:6], values[0, 18:], values[1, 1] = [1, 2, 2], [3, 4], 3
    known = known_of(short, lengths)
    cut = short.tokens * short.n_tags
    wide = np.concatenate([np.pad(logits[:, :cut], ((0, 0), (0, 30 * short.n_tags)), constant_values=-1e9), logits[:, cut:]], axis=1)
    pads = ((0, 0), (0, 30))
    one = short.loss(torch.from_numpy(logits).to(dtype), torch.from_numpy(values), torch.from_numpy(known))
    two = long.loss(
        torch.from_numpy(wide).to(dtype), torch.from_numpy(np.pad(values, pads, constant_values=4)), torch.from_numpy(np.pad(known, pads))
    )
    assert one[0].dtype == dtype and torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]) and one[1].item() == 28
    assert short.spans(logits) == long.spans(wide) and short.spans(logits)[3] == []
    assert short.monitor(logits, values, known) == long.monitor(wide, np.pad(values, pads), np.pad(known, pads))


def test_what_stands_in_unknown_places_counts_for_nothing_and_an_unlabelled_text_has_no_loss() -> None:
    head, lengths = head_of(1, 5), [5, 3, 4]
    logits, values, known = logits_of(head, lengths), legal_tags(head, lengths), known_of(head, lengths)
    known[2] = False
    spoiled = np.where(known, values, 77)
    found = [head.loss(torch.from_numpy(logits), torch.from_numpy(one), torch.from_numpy(known)) for one in (values, spoiled)]
    assert torch.equal(found[0][0], found[1][0]) and found[0][1].item() == 8
    none = head.loss(torch.from_numpy(logits).requires_grad_(), torch.from_numpy(values), torch.zeros(3, 5, dtype=torch.bool))
    assert (none[0].item(), none[1].item()) == (0, 0)
    assert head.monitor(logits, values, known) == head.monitor(logits, spoiled, known)


def test_shards_add_up_and_half_precision_is_made_single() -> None:
    head, lengths = head_of(2, 4), [4, 1, 3, 2, 4]
    logits, values, known = (
        torch.from_numpy(one) for one in (logits_of(head, lengths), legal_tags(head, lengths), known_of(head, lengths))
    )
    whole = head.loss(logits, values, known)
    parts = [head.loss(logits[cut], values[cut], known[cut]) for cut in (slice(0, 2), slice(2, 5))]
    for place in (0, 1):
        assert whole[place].item() == pytest.approx(sum(part[place].item() for part in parts), rel=1e-12)
    assert head.denominator(values, known).item() == whole[1].item() and head.denominator(values, known).dtype == torch.float64
    half = head.loss(logits.bfloat16(), values, known)[0]
    assert half.dtype == torch.float32 and half.item() == pytest.approx(whole[0].item(), rel=0.05)


def test_a_row_alone_is_as_among_others_bit_by_bit_and_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    head, lengths = head_of(2, 30), [30, 3, 0, 17, 29, 8, 1]
    logits = logits_of(head, lengths)
    together = head.spans(logits)
    assert sum(map(len, together)) > 10
    assert [head.spans(logits[row : row + 1])[0] for row in range(7)] == together
    monkeypatch.setattr(decode, "_NUMBERS", 2 * 30 * 5)
    assert len(list(decode.chains(logits, 30, 5))) > 2 and head.spans(logits) == together
    assert head.spans(logits[:0]) == []


def test_entities_and_their_f1_by_hand() -> None:
    tags = np.array([[1, 2, 0, 1, 1, 3, 4, 2], [2, 2, 4, 0, 0, 1, 2, 2], [0, 0, 0, 0, 0, 0, 0, 1]])
    found = entities(tags, np.array([8, 7, 7]))
    first = [[0, 0, 1, 0], [0, 3, 3, 0], [0, 4, 4, 0], [0, 5, 6, 1], [0, 7, 7, 0]]
    assert found.tolist() == [*first, [1, 0, 1, 0], [1, 2, 2, 1], [1, 5, 6, 0]]
    assert f1(found[:4], found[2:]) == pytest.approx(2 * 2 / 10)
    assert f1(found, found) == 1 and f1(found[:0], found) == 0 and np.isnan(f1(found[:0], found[:0]))
    assert entities(np.zeros((0, 4), np.int64), np.zeros(0)).shape == (0, 4)


def test_the_monitor_says_loss_a_word_and_exact_f1() -> None:
    head, lengths = head_of(2, 6), [6, 4, 5]
    logits, known = logits_of(head, lengths), known_of(head, lengths)
    values = np.zeros((3, 6), np.int64)
    spans = head.spans(logits)
    for row, found in enumerate(spans):
        for first, last, label, _ in found:
            values[row, first], values[row, first + 1 : last + 1] = 1 + 2 * label, 2 + 2 * label
    assert sum(map(len, spans)) > 2
    assert head.monitor(logits, values, known)["f1"] == 1.0
    row = next(row for row, found in enumerate(spans) if found)
    values[row, spans[row][0][0]] = 0  # one entity loses its first word, or is gone
    total, count = head.loss(torch.from_numpy(logits), torch.from_numpy(values), torch.from_numpy(known))
    found = head.monitor(logits, values, known)
    assert found["log_loss"] == (total / count).item() and 0 < found["f1"] < 1
    known[row] = False
    assert head.monitor(logits, values, known)["f1"] == 1.0  # only known texts count


def test_a_validate_part_can_stop_on_f1_and_not_on_auroc() -> None:
    head, lengths = head_of(1, 4), [4, 2]
    labels = Labels(np.array([[0, 1, 2, 0], [0, 0, 0, 0]]), known_of(head, lengths))
    check_labels(labels, "f1", head)
    assert scores(head, np.zeros((2, head.n_outputs)), labels)["f1"] == 0
    with pytest.raises(RecipeError, match="a tags target has no auroc"):
        check_labels(labels, "auroc", head)
    with pytest.raises(DataError, match="not defined"):
        check_labels(Labels(np.zeros((2, 4), np.int64), labels.known), "f1", head)


@pytest.mark.parametrize("imbalance", ["class_weights", "balanced_sampling"])
def test_weights_and_sampling_are_refused(imbalance: Any) -> None:
    head = head_of(1, 4)
    labels = Labels(np.zeros((2, 4), np.int64), np.ones((2, 4), bool))
    with pytest.raises(RecipeError, match="tags"):
        settle(TrainingOptions(imbalance=imbalance), head, labels)
    with pytest.raises(RecipeError, match="no class weights"):
        head.denominator(torch.from_numpy(labels.values), torch.from_numpy(labels.known), torch.ones(3))
    with pytest.raises(RecipeError, match="focal"):
        head.loss(torch.zeros(2, head.n_outputs), torch.from_numpy(labels.values), torch.from_numpy(labels.known), None, 2.0)


def test_the_head_is_a_frozen_value_that_travels() -> None:
    head = head_of(2, 7)
    again = pickle.loads(pickle.dumps(head))
    assert again == head and hash(again) == hash(head) and isinstance(again, Head) and (again.tokens, again.n_tags) == (7, 5)
    assert head != head_of(2, 8) and head.n_outputs == 7 * 5 + 25 + 10
    logits = logits_of(head, [3])
    assert np.array_equal(head.probabilities(logits), logits)
    for page in ({"classes": [], "tokens": 4}, {"classes": ["a"], "tokens": 0}):
        with pytest.raises(RecipeError, match="tags target"):
            make_head({"kind": "tags", **page})


def test_the_answer_marks_what_is_no_word() -> None:
    head = head_of(1, 6)
    layer = head.answer(4)
    logits = layer(torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]]))
    assert logits.shape == (2, head.n_outputs)
    assert (logits[:, :18].view(2, 6, 3).amax(2) > -1e8).sum(1).tolist() == [2, 1]
    assert torch.equal(logits[0, 18:], logits[1, 18:])
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)).dtype == torch.float32

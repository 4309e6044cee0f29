from __future__ import annotations

from typing import Any

import pytest
import torch
from nets_helper import events_spec, random_inputs, signal_spec, text_spec
from torch import nn

from meddx.errors import RecipeError
from meddx.models.build import SEQUENCE_ENCODERS
from meddx.models.convolution import MaskedGroupNorm
from meddx.models.recurrent import turn
from meddx.models.sequence import POOLS, Pool, valid_steps

SPECS = {"signal": signal_spec(), "events": events_spec(), "text": text_spec()}
ALL = [(kind, name) for kind in SPECS for name in SEQUENCE_ENCODERS]
WIDTH = {"rnn": {"units": 8}, "lstm": {"units": 8, "layers": 2}, "gru": {"units": 8}, "conv": {"width": 8}, "attention": {"d_model": 8}}


def made(kind: str, name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(5)
    return SEQUENCE_ENCODERS[name](SPECS[kind], **{**WIDTH[name], "dropout": 0.0, **settings})


def inputs(kind: str, rows: int = 6) -> dict[str, torch.Tensor]:
    """Random arrays; events also with lengths, so that they have padding too."""
    arrays = random_inputs(SPECS[kind], rows)
    if kind == "events":
        arrays["length"] = torch.tensor([0, SPECS[kind]["steps"], 1, 5, 7, 3])[:rows]
    return arrays


def padded(arrays: dict[str, torch.Tensor], more: int) -> dict[str, torch.Tensor]:
    """`more` steps of garbage at the right (words: of another word)."""

    def longer(name: str, value: torch.Tensor) -> torch.Tensor:
        if name == "length":
            return value
        if name == "tokens":
            return nn.functional.pad(value, (0, more), value=7)
        return nn.functional.pad(value, (0, more) if name == "samples" else (0, 0, 0, more), value=99.0)

    return {name: longer(name, value) for name, value in arrays.items()}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_padding_changes_nothing(kind: str, name: str, pool: str) -> None:
    arrays = inputs(kind)
    for dtype, near in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        network = made(kind, name, pool=pool).to(dtype).eval()
        plain = network(**arrays)
        assert plain.dtype == dtype
        for more in (1, 16, 37):
            torch.testing.assert_close(network(**padded(arrays, more)), plain, atol=near, rtol=0)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_padding_changes_nothing_in_training_with_dropout_either(kind: str, name: str) -> None:
    network, arrays = made(kind, name, dropout=0.5).double().train(), inputs(kind)

    def run(arrays: dict[str, torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(1)
        return network(**arrays)

    torch.testing.assert_close(run(padded(arrays, 17)), run(arrays), atol=1e-12, rtol=0)
    assert not torch.equal(run(arrays), network(**arrays))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_what_stands_in_the_padding_changes_nothing_and_what_is_valid_counts(kind: str, name: str) -> None:
    network, arrays = made(kind, name, pool="mean").double().eval(), inputs(kind)
    plain = network(**arrays)
    key = {"signal": "samples", "events": "values", "text": "tokens"}[kind]
    along = 2 if kind == "signal" else 1
    for row in range(2, 6):
        length = int(arrays["length"][row])
        other = {**arrays, key: arrays[key].clone()}
        other[key][row].narrow(along - 1, length, other[key].shape[along] - length).fill_(3)
        torch.testing.assert_close(network(**other), plain, atol=1e-12, rtol=0)
        other[key][row].narrow(along - 1, length - 1, 1).add_(1)  # the twin: the last valid step
        assert (network(**other) != plain).any(1).tolist() == [place == row for place in range(6)]


@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize("train", [False, True])
def test_a_case_alone_is_as_among_others(kind: str, name: str, train: bool) -> None:
    network, arrays = made(kind, name).double().train(train), inputs(kind)
    alone = torch.cat([network(**{key: value[row : row + 1] for key, value in arrays.items()}) for row in range(6)])
    torch.testing.assert_close(alone, network(**arrays), atol=1e-12, rtol=0)
    assert not dict(network.named_buffers())


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_row_of_no_steps_is_zeros_and_its_gradient_is_finite(kind: str, name: str, pool: str) -> None:
    network, arrays = made(kind, name, pool=pool), inputs(kind)
    out = network(**arrays)
    assert torch.equal(out[0], torch.zeros_like(out[0])) and out[1:].abs().sum(1).gt(0).all()
    out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())
    nothing = network(**{key: value[:1] for key, value in arrays.items()})
    assert torch.equal(nothing, torch.zeros_like(nothing))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_gradients_reach_every_weight(kind: str, name: str) -> None:
    network = made(kind, name, pool="attention")
    (network(**inputs(kind)) ** 3).sum().backward()
    flat = [name for name, weight in network.named_parameters() if not weight.grad.any()]
    assert flat == []


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_steps_are_as_many_as_were_given_with_zeros_where_nothing_is(kind: str, name: str, train: bool) -> None:
    network, arrays = made(kind, name).train(train), inputs(kind)
    some = {key: value[2:] for key, value in arrays.items()}  # none of the whole length
    for one in (arrays, some):
        steps, mask = network.steps(**one)
        whole = {"events": 12, "text": 20, "signal": 4 if name == "conv" else 50}[kind]
        rows = len(one["length"])
        assert steps.shape == (rows, whole, network.out_features) and mask.shape == (rows, whole) and mask.dtype == torch.bool
        together = 16 if (kind, name) == ("signal", "conv") else 1
        assert mask.sum(1).tolist() == [-(-int(length) // together) for length in one["length"]]
        assert not steps[~mask].any()


def test_a_network_in_one_direction_is_torchs_own_over_the_valid_steps() -> None:
    network, arrays = made("text", "lstm", bidirectional=False, layers=1).eval(), inputs("text")
    assert network.out_features == 8
    for row in range(1, 6):
        words = network.front.embedding(arrays["tokens"][row, : int(arrays["length"][row])].long())
        last = network.body.forwards[0](words[None])[1][0][0]
        torch.testing.assert_close(network(**arrays)[row : row + 1], last, atol=1e-6, rtol=0)


def test_both_directions_are_torchs_own_over_packed_steps() -> None:
    network, arrays = made("text", "gru").eval(), {key: value[1:] for key, value in inputs("text").items()}
    twin = nn.GRU(64, 8, batch_first=True, bidirectional=True)
    mine = {f"{key}_reverse": value for key, value in network.body.backwards[0].state_dict().items()}
    twin.load_state_dict({**network.body.forwards[0].state_dict(), **mine})
    words, _ = network.front(**arrays)
    packed = nn.utils.rnn.pack_padded_sequence(words, arrays["length"], batch_first=True, enforce_sorted=False)
    states, last = twin(packed)
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=words.shape[1])
    torch.testing.assert_close(network.steps(**arrays)[0], unpacked, atol=1e-6, rtol=0)
    torch.testing.assert_close(network(**arrays), torch.cat([last[0], last[1]], 1), atol=1e-6, rtol=0)


def test_turning_about_is_its_own_inverse() -> None:
    mask = valid_steps(torch.tensor([0, 1, 3, 4]), 4)
    assert turn(mask).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 1, 0]]


def test_the_norm_is_torchs_over_the_valid_steps_of_each_case() -> None:
    torch.manual_seed(0)
    norm, twin = MaskedGroupNorm(2, 6).double(), nn.GroupNorm(2, 6).double()
    x, length = torch.randn(3, 6, 9, dtype=torch.float64) + 4, torch.tensor([9, 4, 1])
    out = norm(x, valid_steps(length, 9))
    for row, count in enumerate(length.tolist()):
        torch.testing.assert_close(out[row : row + 1, :, :count], twin(x[row : row + 1, :, :count]), atol=1e-12, rtol=0)
        assert not out[row, :, count:].any()


def test_pools_by_hand() -> None:
    steps = torch.tensor([[[1.0, 5.0], [3.0, -2.0], [90.0, 90.0]], [[90.0, 90.0]] * 3])
    mask = valid_steps(torch.tensor([2, 0]), 3)
    assert Pool("mean", 2)(steps, mask).tolist() == [[2.0, 1.5], [0.0, 0.0]]
    assert Pool("max", 2)(steps, mask).tolist() == [[3.0, 5.0], [0.0, 0.0]]
    assert Pool("last", 2)(steps, mask).tolist() == [[3.0, -2.0], [0.0, 0.0]]
    assert Pool("last", 2, backward=1)(steps, mask).tolist() == [[3.0, 5.0], [0.0, 0.0]]
    pool = Pool("attention", 2)
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[torch.log(torch.tensor(3.0)) / 2, 0.0]]))
    torch.testing.assert_close(pool(steps, mask), torch.tensor([[2.5, -0.25], [0.0, 0.0]]))


@pytest.mark.parametrize(("kind", "name"), [("text", "lstm"), ("events", "attention"), ("signal", "conv")])
def test_the_order_of_steps_counts(kind: str, name: str) -> None:
    network, arrays = made(kind, name).double().eval(), inputs(kind)
    key, along = {"signal": ("samples", 2), "events": ("values", 1), "text": ("tokens", 1)}[kind]
    assert not torch.allclose(network(**arrays)[1], network(**{**arrays, key: arrays[key].flip(along)})[1], atol=1e-6)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_attention_without_places_would_not_see_the_order(positions: str) -> None:
    network, arrays = made("text", "attention", positions=positions).double().eval(), inputs("text")
    turned = {**arrays, "tokens": arrays["tokens"].flip(1)}
    assert not torch.allclose(network(**arrays)[1], network(**turned)[1], atol=1e-6)
    with torch.no_grad():
        network.body.positions.weight.zero_()
    torch.testing.assert_close(network(**arrays)[1], network(**turned)[1], atol=1e-12, rtol=0)


def test_learned_places_end() -> None:
    network, arrays = made("text", "attention", positions="learned").eval(), inputs("text")
    with pytest.raises(ValueError, match="20 were learned"):
        network(**padded(arrays, 1))


@pytest.mark.parametrize(("steps", "patch", "found"), [(50, 0, 50), (256, 0, 64), (5000, 0, 64), (256, 16, 16), (3, 16, 1)])
def test_signals_are_patched(steps: int, patch: int, found: int) -> None:
    spec = signal_spec(steps=steps)
    torch.manual_seed(0)
    network = SEQUENCE_ENCODERS["gru"](spec, units=4, patch=patch)
    assert network.steps(**random_inputs(spec, 3))[0].shape == (3, found, 8)


@pytest.mark.parametrize("name", SEQUENCE_ENCODERS)
@pytest.mark.parametrize("kind", SPECS)
def test_bfloat16_is_near(kind: str, name: str) -> None:
    network, arrays = made(kind, name), inputs(kind)
    plain = network(**arrays)
    with torch.autocast("cpu", torch.bfloat16):
        near = network(**arrays)
    torch.testing.assert_close(near.float(), plain, atol=0.15, rtol=0)
    near.float().square().sum().backward()


@pytest.mark.parametrize(
    ("kind", "name", "settings", "said"),
    [
        ("text", "lstm", {"units": 0}, "units"),
        ("text", "gru", {"pool": "sum"}, "pool is last"),
        ("text", "rnn", {"patch": 4}, "patch"),
        ("events", "gru", {"embedding": 0}, "wide"),
        ("signal", "conv", {"kernel": 4}, "odd"),
        ("signal", "conv", {"patch": -1}, "patch"),
        ("text", "attention", {"heads": 3}, "heads divide"),
        ("text", "attention", {"positions": "none"}, "sinusoidal or learned"),
        ("text", "attention", {"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_settings_are_recipe_errors(kind: str, name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        made(kind, name, **settings)

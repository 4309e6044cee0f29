from __future__ import annotations

import math

import pytest
import torch
from nets_helper import HEAD, random_inputs, text_spec

from meddx.errors import RecipeError
from meddx.models.bag import bag, mixed
from meddx.models.build import build_encoder, build_model
from meddx.models.options import EncoderOptions, ModelOptions

PAIRS = 64
WORDS = text_spec()["words"]


def text(*tokens: int) -> dict[str, torch.Tensor]:
    return {"tokens": torch.tensor([tokens], dtype=torch.int32), "length": torch.tensor([len(tokens)], dtype=torch.int32)}


def test_a_word_counts_by_how_often_it_stands_there_and_how_rare_it_is_in_train() -> None:
    out = bag(text_spec(), scale=3.0)(**text(2, 5, 5, 5, 1))
    common, rare = 1.0, (1 + math.log(3)) * (1 + math.log(4))  # the first and the fourth word by number
    long = math.hypot(common, rare)
    expected = torch.zeros(1, WORDS + 1)
    expected[0, 2], expected[0, 5] = 3 * common / long, 3 * rare / long  # nothing of the unknown word
    expected[0, -1] = math.log(5) - 4  # four words that are known
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("train", [False, True])
def test_padding_and_what_stands_in_it_change_nothing(train: bool) -> None:
    network, arrays = bag(text_spec(), pairs=PAIRS).train(train), random_inputs(text_spec(), 6)
    longer = {**arrays, "tokens": torch.nn.functional.pad(arrays["tokens"], (0, 9), value=7)}
    shorter = {key: value[2:] for key, value in arrays.items()}
    most = int(shorter["length"].max())
    assert torch.equal(network(**longer), network(**arrays))
    assert torch.equal(network(tokens=shorter["tokens"][:, :most], length=shorter["length"]), network(**arrays)[2:])
    twin = {**longer, "length": longer["length"] + 1}  # the twin: what is valid counts
    assert (network(**twin) != network(**arrays)).any(1).any()


def test_a_case_alone_is_as_among_others_and_one_without_words_is_zeros() -> None:
    network, arrays = bag(text_spec(), pairs=PAIRS), random_inputs(text_spec(), 6)
    out = network(**arrays)
    alone = torch.cat([network(**{key: value[row : row + 1] for key, value in arrays.items()}) for row in range(6)])
    torch.testing.assert_close(alone, out)
    assert out.shape == (6, WORDS + PAIRS + 1) == (6, network.out_features)
    assert not out[0].any() and out.isfinite().all()
    sizes = torch.stack([out[1:, :WORDS].norm(dim=1), out[1:, WORDS:-1].norm(dim=1)])
    assert all(any(abs(one - size) < 1e-5 for size in (0.0, 4.0)) for one in sizes.flatten().tolist())
    assert not network(**text(1, 1)).any()


def test_words_have_no_order_and_pairs_have_one() -> None:
    network = bag(text_spec(), pairs=PAIRS)
    one, other = network(**text(2, 3, 4)), network(**text(4, 3, 2))
    torch.testing.assert_close(one[:, :WORDS], other[:, :WORDS])
    assert not torch.equal(one[:, WORDS:-1], other[:, WORDS:-1])
    apart = network(**text(2, 1, 3))[0, WORDS:-1]  # an unknown word parts its neighbours
    assert not apart.any()


def test_the_hash_is_what_it_was_and_spreads() -> None:
    first, second = torch.meshgrid(torch.arange(2, 202), torch.arange(2, 202), indexing="ij")
    found = mixed(first.flatten(), second.flatten(), 4096)
    assert found.min() >= 0 and found.max() < 4096
    count = torch.bincount(found, minlength=4096)
    assert count.max() < 40 and (count > 0).all()  # 40,000 pairs: 10 a column
    large = torch.tensor([2**31 - 1])
    assert 0 <= int(mixed(large, large, 1000)) < 1000
    assert found[:3].tolist() == KEPT


KEPT = [2255, 3765, 1304]


def test_it_learns_nothing_itself_and_leaves_nothing_in_a_bundle() -> None:
    network = bag(text_spec(), pairs=PAIRS)
    assert not list(network.parameters()) and not network.state_dict()
    model = build_model(ModelOptions(), {"note": EncoderOptions(kind="bag")}, {"note": text_spec()}, HEAD)
    model({"note": random_inputs(text_spec(), 6)}).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("settings", [{"pairs": -1}, {"scale": 0.0}, {"scale": -1}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="bag"):
        build_encoder("note", EncoderOptions(kind="bag", settings=settings), text_spec())


def test_it_is_for_texts() -> None:
    with pytest.raises(RecipeError, match="not a network for a events"):
        build_encoder("labs", EncoderOptions(kind="bag"), {"kind": "events"})

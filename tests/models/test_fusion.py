from __future__ import annotations

from typing import Any

import pytest
import torch
from nets_helper import HEAD, events_spec, image_spec, random_inputs, signal_spec, table_spec, text_spec
from torch import Tensor

from meddx.errors import RecipeError
from meddx.models.build import DiagnosticModel, build_encoder, build_model
from meddx.models.fusion import Fusion, fusion_of
from meddx.models.options import EncoderOptions, FusionOptions, ModelOptions

KINDS = ("concat", "gated", "attention")
SIZES = {"a": 5, "b": 3, "c": 4}


def made(kind: str, optional: frozenset[str] = frozenset("bc"), drop: float = 0.0) -> Fusion:
    torch.manual_seed(2)
    fusion = fusion_of(FusionOptions(kind=kind, width=8, drop_inputs=drop), SIZES, optional).double()
    for vector in getattr(fusion, "absent", []):
        torch.nn.init.normal_(vector)
    return fusion


def features(rows: int = 6, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(rows, size, generator=draw, dtype=torch.float64) for name, size in SIZES.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_input_contributes_nothing_not_even_nan(kind: str) -> None:
    fusion, parts = made(kind), features()
    present = {"b": torch.tensor([True, False] * 3), "c": torch.tensor([True, True, False] * 2)}
    plain = fusion(parts, present)
    assert plain.shape == (6, fusion.out_features)
    other = {
        **parts,
        "b": parts["b"].masked_fill(~present["b"][:, None], torch.nan),
        "c": parts["c"].masked_fill(~present["c"][:, None], 9e9),
    }
    assert torch.equal(fusion(other, present), plain)
    moved = fusion({**parts, "b": parts["b"] + 1}, present)
    assert (moved != plain).any(1).tolist() == present["b"].tolist()
    fusion(other, present).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in fusion.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_input_is_not_an_input_of_zeros_and_other_cases_do_not_matter(kind: str) -> None:
    fusion, parts = made(kind), features()
    parts["b"] = torch.zeros_like(parts["b"])
    there, gone = fusion(parts, {}), fusion(parts, {"b": torch.tensor([False] + [True] * 5)})
    assert (there != gone).any(1).tolist() == [True] + [False] * 5
    alone = fusion({name: part[:1] for name, part in parts.items()}, {"b": torch.tensor([False])})
    torch.testing.assert_close(alone, gone[:1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_without_any_input_is_finite(kind: str) -> None:
    fusion = made(kind, frozenset(SIZES))
    out = fusion(features(), dict.fromkeys(SIZES, torch.zeros(6, dtype=torch.bool)))
    assert out.isfinite().all() and (out == out[0]).all()
    assert kind != "gated" or not out.any()


def test_gates_of_one_present_input_are_open() -> None:
    fusion, parts = made("gated", frozenset("bc")), features()
    gone = torch.zeros(6, dtype=torch.bool)
    torch.testing.assert_close(fusion(parts, {"b": gone, "c": gone}), torch.relu(fusion.project[0](parts["a"])), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_needed_input_is_there_whatever_is_said(kind: str) -> None:
    fusion, parts = made(kind), features()
    assert torch.equal(fusion(parts, {"a": torch.zeros(6, dtype=torch.bool)}), fusion(parts, {}))


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_hidden_in_training_only_and_from_torchs_generator(kind: str) -> None:
    fusion, parts = made(kind, drop=0.4), features(200)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return fusion(parts, {})

    plain = fusion.eval()(parts, {})
    fusion.train()
    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    touched = (run(1) != plain).any(1).double().mean().item()
    assert 0.52 < touched < 0.76  # 1 - 0.6 squared = 0.64
    assert torch.equal(made(kind, drop=0.0).train()(parts, {}), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_cases_goes_along(kind: str) -> None:
    fusion, parts, order = made(kind), features(), torch.tensor([3, 1, 0, 5, 4, 2])
    moved = fusion({name: part[order] for name, part in parts.items()}, {})
    torch.testing.assert_close(moved, fusion(parts, {})[order], atol=1e-12, rtol=0)


ALL = {"t": table_spec(), "s": signal_spec(optional=True), "e": events_spec(optional=True), "n": text_spec(optional=True)}


def whole(kind: str) -> DiagnosticModel:
    torch.manual_seed(0)
    return build_model(ModelOptions(fusion={"kind": kind, "width": 16}), {}, ALL, HEAD)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_input_in_one_model_with_the_default_networks(kind: str) -> None:
    model = whole(kind).eval()
    batch = {name: random_inputs(spec, 5) for name, spec in ALL.items()}
    batch["n"]["present"] = torch.tensor([False, True, True, True, True])
    logits, hidden = model(batch), model.embed(batch)
    assert logits.shape == (5, 1) and hidden.shape == (5, 128)
    assert torch.equal(model.answer(hidden), logits) and isinstance(model.answer, torch.nn.Linear)
    other = whole(kind)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other.eval()(batch), logits)


def test_an_input_that_no_network_takes_by_name_is_refused() -> None:
    with pytest.raises(RecipeError, match="is not a network for a mesh"):
        build_encoder("x", EncoderOptions(kind="lstm"), {"kind": "mesh"})


def many_spec(fold: str) -> dict[str, Any]:
    return {**image_spec(16, optional=True), "many": fold}


def pictures(rows: int = 4, places: int = 3) -> dict[str, Tensor]:
    pixels = torch.randint(0, 256, (rows, places, 1, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return {"pixels": pixels, "items": torch.tensor([[True] * 3, [True, False, False], [True, True, False], [False] * 3])[:rows, :places]}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("fold", ["mean", "max", "attention"])
def test_places_without_a_picture_change_nothing_batchnorm_included(fold: str, train: bool) -> None:
    torch.manual_seed(0)
    network, batch = build_encoder("film", EncoderOptions(kind="cnn"), many_spec(fold)).train(train), pictures()
    plain = network(**batch)
    assert plain.shape == (4, network.out_features) and not plain[3].any() and plain[:3].any()
    more = {
        "pixels": torch.cat([batch["pixels"], torch.full((4, 2, 1, 16, 16), 200, dtype=torch.uint8)], 1),
        "items": torch.nn.functional.pad(batch["items"], (0, 2)),
    }
    torch.testing.assert_close(network(**more), plain, atol=1e-5, rtol=0)
    more["items"][1, 4] = True  # the twin: a picture more
    assert not torch.allclose(network(**more)[1], plain[1], atol=1e-5)


def test_folding_by_hand_and_training_without_any_picture() -> None:
    torch.manual_seed(0)
    network, batch = build_encoder("film", EncoderOptions(kind="cnn"), many_spec("mean")).eval(), pictures()
    each = network.encoder(batch["pixels"].flatten(0, 1)).unflatten(0, (4, 3))
    torch.testing.assert_close(network(**batch)[2], each[2, :2].mean(0), atol=1e-6, rtol=0)
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    out = network(batch["pixels"], torch.zeros(4, 3, dtype=torch.bool))
    assert out.shape == (4, network.out_features) and not out.any()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("fold", [None, "latest", "first"])
def test_one_picture_a_case_needs_no_folding(fold: str | None) -> None:
    assert not hasattr(build_encoder("film", EncoderOptions(kind="cnn"), {**image_spec(16), "many": fold}), "encoder")

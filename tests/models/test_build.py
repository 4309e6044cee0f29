from __future__ import annotations

from typing import Any

import pytest
import torch
from nets_helper import HEAD, image_spec, random_inputs, table_spec

from meddx.errors import RecipeError
from meddx.models.build import DiagnosticModel, build_model
from meddx.models.heads import Head
from meddx.models.options import EncoderOptions, ModelOptions


def made(specs: dict[str, dict[str, Any]], head: dict[str, Any] | None = None, seed: int = 0, **options: Any) -> DiagnosticModel:
    torch.manual_seed(seed)
    model = ModelOptions(**options)
    return build_model(model, model.encoders, specs, head or HEAD)


BOTH = {"film": image_spec(), "keys": table_spec(optional=True)}  # `keys`: a name that a ModuleDict would refuse


def both(rows: int) -> dict[str, dict[str, torch.Tensor]]:
    return {name: random_inputs(spec, rows) for name, spec in BOTH.items()}


@pytest.mark.parametrize(
    ("head", "outputs"),
    [(HEAD, 1), ({"kind": "multiclass", "classes": ["a", "b", "c"]}, 3), ({"kind": "multilabel", "classes": ["x", "y"]}, 2)],
)
def test_logits_have_the_heads_width(head: dict[str, Any], outputs: int) -> None:
    assert made(BOTH, head)(both(4)).shape == (4, outputs)


def test_the_same_seed_gives_the_same_weights_and_the_state_is_plain_tensors() -> None:
    one, two, other = made(BOTH).state_dict(), made(BOTH).state_dict(), made(BOTH, seed=1).state_dict()
    assert all(type(value) is torch.Tensor for value in one.values())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_state_carries_the_whole_answer() -> None:
    source, target = made(BOTH).eval(), made(BOTH, seed=1).eval()
    target.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(source(both(5)), target(both(5)))


def test_batch_size_and_row_order_change_nothing_in_eval() -> None:
    model, batch = made(BOTH).eval(), both(12)
    with torch.no_grad():
        whole = model(batch)
        ones = torch.cat(
            [model({name: {key: value[row : row + 1] for key, value in one.items()} for name, one in batch.items()}) for row in range(12)]
        )
        order = torch.randperm(12)
        moved = model({name: {key: value[order] for key, value in one.items()} for name, one in batch.items()})
    torch.testing.assert_close(whole, ones, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole[order], moved, atol=1e-6, rtol=0)


def test_gradients_reach_every_weight() -> None:
    model, batch = made(BOTH), both(8)
    batch["keys"]["present"] = torch.tensor([True, False] * 4)
    total, count = model.head.loss(model(batch), torch.tensor([0.0, 1.0] * 4), torch.ones(8, dtype=torch.bool))
    (total / count).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_an_absent_input_is_a_learned_vector_whatever_its_arrays_hold() -> None:
    model, batch = made(BOTH).eval(), both(4)
    batch["keys"]["present"] = torch.tensor([True, False, True, False])
    first = model(batch)
    batch["keys"]["numbers"] = batch["keys"]["numbers"] + torch.tensor([[0.0], [99.0], [0.0], [99.0]])
    assert torch.equal(first, model(batch))
    with torch.no_grad():
        model.fusion.absent[0].fill_(3.0)
    assert (model(batch) != first)[:, 0].tolist() == [False, True, False, True]


def test_the_twin_a_needed_input_has_no_such_vector() -> None:
    model = made({"film": image_spec(), "keys": table_spec()}).eval()
    batch = both(2)
    shown = model(batch)
    batch["keys"]["present"] = torch.tensor([False, False])
    assert torch.equal(shown, model(batch)) and len(model.fusion.absent) == 0


def test_hidden_inputs_are_drawn_from_torchs_generator_in_training_only() -> None:
    model, batch = made(BOTH, fusion={"kind": "concat", "drop_inputs": 0.5}, dropout=0.0), both(64)
    for module in model.encoders:
        module.eval()

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(batch)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    hidden = (run(1) != model.eval()(batch)).float().mean().item()
    assert 0.3 < hidden < 0.7
    assert torch.equal(run(1), run(2))


def test_a_case_never_loses_its_last_input() -> None:
    specs = {"a": table_spec(optional=True), "b": table_spec(optional=True)}
    fusion = made(specs, fusion={"kind": "concat", "drop_inputs": 0.9}).fusion
    present = {"a": torch.tensor([True, True, False] * 50), "b": torch.tensor([True, False, False] * 50)}
    features = {name: torch.ones(150, 64) for name in specs}
    shown = torch.stack(list(fusion._shown(features, present).values()))
    assert shown.any(0).tolist() == [True, True, False] * 50
    assert not (shown.all(0)).all()


def test_float64_and_channels_last_are_fine() -> None:
    model = made(BOTH).eval()
    plain = model(both(3))
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(both(3)), plain, atol=1e-5, rtol=0)
    wide = model.double()(both(3))
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), plain, atol=1e-5, rtol=0)


def test_bfloat16_is_near() -> None:
    model = made(BOTH).eval()
    plain = model(both(3))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(both(3)).float(), plain, atol=0.05, rtol=0)


def test_a_dotted_path_is_called_with_spec_and_settings() -> None:
    model = made({"film": image_spec()}, encoders={"film": {"kind": "nets_helper:own", "settings": {"width": 7}}})
    assert model.fusion.out_features == 7 and model({"film": random_inputs(image_spec(), 2)}).shape == (2, 1)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"kind": "nets_helper:own", "settings": {"widht": 7}}, "width"),
        ({"kind": "nets_helper:own_needs"}, "width"),
        ({"kind": "nets_helper:no_width"}, "out_features"),
        ({"kind": "nets_helper:no_module"}, "Module"),
        ({"kind": "nets_helper:nothing"}, "nothing"),
        ({"kind": "nets_helper:NOT_CALLABLE"}, "no function"),
        ({"kind": "no_such_package_here:net"}, "cannot import"),
        ({"kind": ":net"}, "package.module:function"),
        ({"kind": "mlp"}, "not a network for a image"),
        ({"kind": "cnn", "settings": {"chanels": [8]}}, "channels"),
        ({"kind": "cnn", "settings": {"norm": 3}}, "norm"),
        ({"kind": "cnn", "settings": {"norm": "group"}}, "batch or none"),
        ({"kind": "cnn", "settings": {"channels": [8, 8, 8, 8, 8, 8]}}, "leave nothing"),
        ({"kind": "cnn", "settings": {"channels": []}}, "above 0"),
        ({"kind": "cnn", "settings": {"grid": True}}, "grid"),
        ({"kind": "vit", "settings": {"patch": 5}}, "do not divide"),
        ({"kind": "resnet18", "settings": {"pretrained": True}}, "pretrained"),
    ],
)
def test_wrong_networks_and_settings_are_recipe_errors(encoder: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        made({"film": image_spec()}, encoders={"film": encoder})


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.5}, {"layers": [8]}])
def test_wrong_settings_of_the_mlp_are_recipe_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        made({"t": table_spec()}, encoders={"t": {"kind": "mlp", "settings": settings}})


def test_hiding_inputs_where_none_is_optional_is_refused() -> None:
    with pytest.raises(RecipeError, match="optional"):
        made({"film": image_spec()}, fusion={"kind": "concat", "drop_inputs": 0.1})


def test_encoders_are_given_apart_from_the_model() -> None:
    model = build_model(
        ModelOptions(), {"film": EncoderOptions(kind="cnn", settings={"channels": [4], "grid": 2})}, {"film": image_spec()}, HEAD
    )
    assert model.fusion.out_features == 16 and model.head == Head("binary", ["no", "yes"])

"""Networks of volumes: sizes, seeds, neighbours, what they learn, and what a baseline sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from meddx.errors import RecipeError
from meddx.inputs.types import Prepared
from meddx.models.build import build_encoder, build_model
from meddx.models.features import CELLS, QUANTILES, category_places, feature_matrix, features_of
from meddx.models.options import FITTING, EncoderOptions, ModelOptions
from meddx.models.volume import VOLUME_ENCODERS, patch_side
from meddx.predict.engine import EnginePlan, elements_of, network_logits, plan_for


def volume_spec(*size: int, optional: bool = False) -> dict[str, Any]:
    return {"kind": "volume", "optional": optional, "size": list(size), "channels": 1, "max": 1.0}


def volumes(rows: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((rows, 1, *size), generator=torch.Generator().manual_seed(seed))


def made(kind: str, spec: dict[str, Any], **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_encoder("ct", EncoderOptions(kind=kind, settings=settings), spec)


def test_every_name_for_a_volume_has_a_network() -> None:
    assert set(VOLUME_ENCODERS) == set(FITTING["volume"])


@pytest.mark.parametrize("size", [(16, 16, 16), (5, 24, 20), (1, 16, 16)])
@pytest.mark.parametrize(("kind", "settings"), [("cnn", {}), ("cnn", {"grid": 2, "norm": "none"}), ("slices", {}), ("resnet10", {})])
def test_networks_take_every_shape(kind: str, settings: dict[str, Any], size: tuple[int, int, int]) -> None:
    network = made(kind, volume_spec(*size), **settings).eval()
    with torch.no_grad():
        features = network(pixels=volumes(2, *size))
    assert features.shape == (2, network.out_features) and torch.isfinite(features).all()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", sorted(set(VOLUME_ENCODERS) - {"cnn", "slices"}))
def test_networks_of_monai_take_volumes_and_learn(kind: str) -> None:
    network = made(kind, volume_spec(8, 32, 32))
    features = network(pixels=volumes(2, 8, 32, 32))
    assert features.shape == (2, network.out_features)
    features.square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize(("kind", "settings"), [("cnn", {}), ("slices", {}), ("slices", {"pool": "max"}), ("vit", {"layers": 1})])
def test_a_case_is_read_alike_in_any_company(kind: str, settings: dict[str, Any]) -> None:
    network = made(kind, volume_spec(8, 16, 16), **settings).eval()
    pixels = volumes(5, 8, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels=pixels)[3:4], network(pixels=pixels[3:4]), atol=1e-6, rtol=1e-5)
        other = torch.cat([pixels[:1] * 100, pixels[1:]])
        assert torch.equal(network(pixels=pixels)[1:], network(pixels=other)[1:])


@pytest.mark.parametrize("kind", ["cnn", "slices"])
def test_scored_in_one_planned_shape_the_bits_are_the_same(kind: str) -> None:
    torch.manual_seed(0)
    spec = volume_spec(8, 16, 16)
    model = build_model(ModelOptions(), {"ct": EncoderOptions(kind=kind)}, {"ct": spec}, {"kind": "binary", "classes": ["no", "yes"]})
    pixels = volumes(7, 8, 16, 16).numpy()
    whole = network_logits(model, {"ct": Prepared({"pixels": pixels}, np.ones(7, bool))}, EnginePlan(batch_rows=4))
    alone = network_logits(model, {"ct": Prepared({"pixels": pixels[5:6]}, np.ones(1, bool))}, EnginePlan(batch_rows=4))
    np.testing.assert_array_equal(whole[5:6], alone)


def test_the_plan_is_small_where_volumes_are_large() -> None:
    assert elements_of(volume_spec(8, 16, 16)) == 2048
    assert plan_for({"ct": volume_spec(16, 32, 32)}).batch_rows == 16
    assert plan_for({"ct": volume_spec(128, 128, 128)}).batch_rows == 1


def test_the_order_of_slices_is_nothing_to_a_pool_and_their_content_is() -> None:
    pixels = volumes(2, 6, 16, 16)
    for pool in ("mean", "max", "attention"):
        network = made("slices", volume_spec(6, 16, 16), pool=pool).eval()
        with torch.no_grad():
            plain = network(pixels=pixels)
            torch.testing.assert_close(network(pixels=pixels.flip(2)), plain, atol=1e-5, rtol=1e-4)
            changed = pixels.clone()
            changed[0, 0, 3] = 0
            assert (network(pixels=changed) != plain).any(1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("kind", "settings", "size", "words"),
    [
        ("cnn", {"norm": "group"}, (8, 8, 8), "batch or none"),
        ("cnn", {"channels": [0]}, (8, 8, 8), "above 0"),
        ("cnn", {"channels": [4, 4, 4, 4]}, (8, 8, 8), "leave nothing"),
        ("slices", {"net": "mlp"}, (8, 8, 8), "net is one of"),
        ("slices", {"pool": "last"}, (8, 8, 8), "pool is mean"),
        ("slices", {"net": "resnet10"}, (4, 8, 16), "square"),
        ("vit", {"patch": 3}, (8, 8, 8), "do not divide"),
        ("vit", {}, (8, 8, 127), "127"),
        ("gru", {}, (8, 8, 8), "not a network for a volume"),
    ],
)
def test_what_cannot_be_is_refused_in_words(kind: str, settings: dict[str, Any], size: tuple[int, int, int], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        made(kind, volume_spec(*size), **settings)


@pytest.mark.parametrize(("side", "patch"), [(1, 1), (8, 1), (16, 2), (28, 4), (64, 8), (96, 12), (128, 16)])
def test_patches_divide_an_axis(side: int, patch: int) -> None:
    assert patch_side(side) == patch


def spheres(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise [n, 1, 12, 16, 16]; in half of them a sphere of radius 3 somewhere, a little brighter than the noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0.4, 0.15, (rows, 1, 12, 16, 16)).astype(np.float32)
    there = rng.random(rows) < 0.5
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in (12, 16, 16)), indexing="ij"))
    for row in np.flatnonzero(there):
        middle = rng.uniform(3, [8, 12, 12])[:, None, None, None]
        pixels[row, 0][((grid - middle) ** 2).sum(0) <= 9] += 0.3
    return pixels, there


def learned(kind: str, pixels: np.ndarray, there: np.ndarray, steps: int = 60, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    encoder = made(kind, volume_spec(12, 16, 16), **settings)
    model = nn.Sequential(encoder, nn.Linear(encoder.out_features, 1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    draw = np.random.default_rng(0)
    for _ in range(steps):
        rows = draw.choice(len(pixels), 32)
        loss = nn.functional.binary_cross_entropy_with_logits(
            model(torch.from_numpy(pixels[rows]))[:, 0], torch.from_numpy(there[rows]).float()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize(("kind", "settings"), [("cnn", {"channels": [8, 16, 32]}), ("slices", {"channels": [8, 16, 32]})])
def test_a_sphere_is_found_wherever_it_is(kind: str, settings: dict[str, Any]) -> None:
    model = learned(kind, *spheres(200, 1), **settings)
    pixels, there = spheres(200, 2)
    with torch.no_grad():
        score = model(torch.from_numpy(pixels))[:, 0].numpy()
    assert roc_auc_score(there, score) > 0.9
    shuffled = np.random.default_rng(0).permutation(there)
    assert roc_auc_score(shuffled, score) < 0.7  # the twin: no skill where there is nothing to learn


def test_a_baseline_sees_block_means_and_quantiles() -> None:
    spec = volume_spec(12, 18, 4, optional=True)
    pixels = volumes(3, 12, 18, 4).numpy()
    found = feature_matrix({"ct": spec}, {"ct": Prepared({"pixels": pixels}, np.array([True, False, True]))})
    blocks = CELLS * CELLS * 4
    assert found.shape == (3, blocks + len(QUANTILES)) and np.isnan(found[1]).all()
    np.testing.assert_allclose(found[0, 0], pixels[0, 0, :2, :3, 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(found[2, blocks - 1], pixels[2, 0, -2:, -3:, -1].mean(), rtol=1e-5)
    np.testing.assert_allclose(found[2, blocks + 3], np.median(pixels[2]), rtol=1e-5)


def test_a_volume_stands_beside_other_inputs_in_the_order_of_the_specs() -> None:
    table = {"kind": "table", "numbers": 1, "categories": [5]}
    prepared = {
        "ct": Prepared({"pixels": np.full((2, 1, 2, 2, 2), 0.5, np.float32)}, np.ones(2, bool)),
        "t": Prepared({"numbers": np.ones((2, 1)), "missing": np.zeros((2, 1)), "codes": np.full((2, 1), 3)}, np.ones(2, bool)),
    }
    specs = {"ct": volume_spec(2, 2, 2), "t": table}
    seen = features_of(specs, prepared)
    assert category_places(specs) == {8 + len(QUANTILES) + 1: 5} and seen.dense[:, -1].tolist() == [3, 3]
    assert (seen.dense[:, : 8 + len(QUANTILES)] == 0.5).all() and seen.raw == ()

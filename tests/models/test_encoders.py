from __future__ import annotations

import pytest
import torch
from nets_helper import image_spec, random_inputs, table_spec

from meddx.errors import RecipeError
from meddx.models.build import SEQUENCE_ENCODERS
from meddx.models.image import IMAGE_ENCODERS, Normalise, cnn, patch_side
from meddx.models.options import ENCODERS
from meddx.models.summary import SUMMARY_ENCODERS
from meddx.models.table import TABLE_ENCODERS, embedding_size, mlp
from meddx.models.volume import VOLUME_ENCODERS

pytestmark = pytest.mark.slow


def test_every_name_in_the_recipe_has_a_network() -> None:
    named = {*IMAGE_ENCODERS, *TABLE_ENCODERS, *SEQUENCE_ENCODERS, *SUMMARY_ENCODERS, *VOLUME_ENCODERS}
    assert set(ENCODERS) == named | {"bag", "pretrained"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [28, 64, 224])
@pytest.mark.parametrize("name", sorted(IMAGE_ENCODERS))
def test_every_image_network_takes_every_size(name: str, size: int) -> None:
    spec = image_spec(size, channels=3 if size == 64 else 1)
    network = IMAGE_ENCODERS[name](spec).eval()
    with torch.no_grad():
        features = network(**random_inputs(spec, 1))
    assert features.shape == (1, network.out_features) and torch.isfinite(features).all()


@pytest.mark.parametrize("name", ["resnet10", "densenet121", "efficientnet-b0", "vit"])
def test_networks_of_monai_learn_and_are_the_same_for_a_seed(name: str) -> None:
    spec = image_spec(28)
    torch.manual_seed(3)
    one = IMAGE_ENCODERS[name](spec)
    torch.manual_seed(3)
    two = IMAGE_ENCODERS[name](spec)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    one(**random_inputs(spec, 4)).square().sum().backward()
    assert all(weight.grad is not None for weight in one.parameters())


def test_the_small_cnn_keeps_three_by_three_at_28_and_is_the_same_size_above() -> None:
    sizes = {size: sum(weight.numel() for weight in cnn(image_spec(size)).parameters()) for size in (28, 64, 256)}
    assert len(set(sizes.values())) == 1
    assert cnn(image_spec(28)).out_features == 128 * 9
    assert cnn(image_spec(8)).out_features == 128


@pytest.mark.parametrize(("pool", "seen"), [(2, 22), (4, 106)])
def test_larger_pooling_lets_the_cnn_see_more_at_once(pool: int, seen: int) -> None:
    size, grid = 112, 112 // pool**3
    network = cnn(image_spec(size), norm="none", grid=grid, pool=pool)
    pixels = torch.randn(1, 1, size, size, requires_grad=True)  # no ties: max pooling would choose the first of them
    middle = network(pixels).reshape(1, -1, grid, grid)[0, :, grid // 2, grid // 2]
    (reached,) = torch.autograd.grad(middle.square().sum(), pixels)
    rows = reached[0, 0].abs().sum(1).nonzero().flatten()
    assert seen // 2 < len(rows) and int(rows[-1] - rows[0]) < seen


def test_a_picture_too_small_for_the_pooling_is_refused() -> None:
    cnn(image_spec(64), pool=4)
    with pytest.raises(RecipeError, match="3 poolings by 4 leave nothing of 32 pixels"):
        cnn(image_spec(32), pool=4)
    with pytest.raises(RecipeError, match="pool above 1"):
        cnn(image_spec(64), pool=1)


def test_a_residual_net_for_small_pictures_keeps_their_pixels_at_the_start() -> None:
    spec = image_spec(32, channels=3)
    usual = IMAGE_ENCODERS["resnet18"](spec)
    small = IMAGE_ENCODERS["resnet18"](spec, conv1_size=3, no_max_pool=True)
    sides = []
    for encoder in (usual, small):
        last = encoder.get_submodule("network.layer4")
        last.register_forward_hook(lambda _, __, features: sides.append(features.shape[-1]))
        encoder.eval()(**random_inputs(spec, 1))
    assert sides == [2, 4]
    assert small.get_submodule("network.conv1").kernel_size == (3, 3)


def test_the_cnn_without_norm_treats_each_case_alone_in_training() -> None:
    network = cnn(image_spec(28), norm="none").train()
    pixels = random_inputs(image_spec(28), 6)["pixels"]
    torch.testing.assert_close(network(pixels)[:2], network(pixels[:2]), atol=1e-6, rtol=0)
    twin = cnn(image_spec(28), norm="batch").train()
    assert not torch.allclose(twin(pixels)[:2], twin(pixels[:2]), atol=1e-3)


def test_pixels_are_normalised_alike_in_8_and_16_bit_and_as_floats() -> None:
    pixels = random_inputs(image_spec(8), 2)["pixels"]
    narrow = Normalise(image_spec(8))(pixels)
    torch.testing.assert_close(narrow, (pixels.float() / 255 - 0.5) / 0.25)
    wide = Normalise(image_spec(8, full=65535))((pixels.int() * 257).to(torch.uint16))
    torch.testing.assert_close(wide, narrow, atol=1e-5, rtol=0)
    torch.testing.assert_close(Normalise(image_spec(8))(pixels.float()), narrow)
    assert Normalise(image_spec(8)).state_dict() == {}


def test_sixteen_bit_pixels_keep_their_precision_in_bfloat16() -> None:
    spec = {**image_spec(8, full=65535), "mean": [0.5], "std": [0.001]}
    pixels = torch.full((1, 1, 8, 8), 32800, dtype=torch.int32).to(torch.uint16)
    exact = Normalise(spec)(pixels)
    torch.testing.assert_close(
        Normalise(spec).bfloat16()(pixels).float(), exact, rtol=0, atol=0.02
    )  # 32,800 itself would become 32,768: 0.5 off


@pytest.mark.parametrize(("size", "side"), [(28, 4), (64, 8), (96, 12), (224, 14), (256, 16)])
def test_patches_divide_the_picture(size: int, side: int) -> None:
    assert patch_side(size) == side


def test_a_prime_size_has_no_patches() -> None:
    with pytest.raises(RecipeError, match="127"):
        patch_side(127)


def test_the_mlp_takes_numbers_mask_and_categories() -> None:
    torch.manual_seed(0)
    network = mlp(table_spec(), hidden=32, layers=3, dropout=0.0)
    assert network.out_features == 8
    rows = random_inputs(table_spec(), 4)
    plain = network(**rows)
    assert plain.shape == (4, 8)
    for name in ("numbers", "missing", "codes"):
        changed = {**rows, name: rows[name].clone()}
        changed[name][0, 0] = (changed[name][0, 0] + 1) % 4
        moved = (network(**changed) != plain).any(1)
        assert moved.tolist() == [True, False, False, False]


def test_embeddings_are_half_as_wide_as_levels_and_at_most_fifty() -> None:
    assert [embedding_size(levels) for levels in (2, 3, 99, 254)] == [1, 2, 50, 50]

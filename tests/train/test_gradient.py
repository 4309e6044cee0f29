"""1 = 2 = 3 = 4 workers; and each rule that makes it so, switched off, makes it fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meddx.errors import RecipeError
from meddx.storage import StoragePath
from meddx.train import gradient
from meddx.train.batches import Loader
from meddx.train.checkpoint import CheckpointStore
from meddx.train.communicate import Alone
from meddx.train.gradient import FlatGradient, GradientStep, SharedBuffers
from meddx.train.loop import RankRun
from meddx.train.machine import Machine
from meddx.train.task import Task, TrainData
from meddx.train.transfer import Start, public_name
from meddx.train.validate import gathered_logits

STEPS = 4  # 80 rows of two epochs in batches of 24: the second step spans two epochs, the fourth is short


@pytest.fixture
def trace(in_lockstep: Any, tmp_path: Path) -> Callable[..., dict[str, torch.Tensor]]:
    """The gradients of every step, the losses, and the weights and buffers at the end, by rank 0 of `world` ranks."""

    def run(task: Task, data: TrainData, world: int, precision: Any = "fp64") -> dict[str, torch.Tensor]:
        def job(communicator: Any) -> dict[str, torch.Tensor]:
            store = CheckpointStore(StoragePath.of(tmp_path), "f")
            rank = RankRun(task, data, communicator, store, Machine("cpu", 1, precision), print)
            seen = {}
            for step in range(STEPS):
                rank.one_step()
                seen[f"gradient {step}"] = rank.gradient.flat.vector.clone()
            return {**seen, **{name: tensor.clone() for name, tensor in rank.model.state_dict().items()}}

        ranks = in_lockstep(world, job)
        for other in ranks[1:]:
            assert all(torch.equal(tensor, other[name]) for name, tensor in ranks[0].items())
        return dict(ranks[0])

    return run


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], tolerance: float = 1e-9) -> None:
    for name, tensor in one.items():
        worst = float((tensor.double() - two[name].double()).abs().max() / tensor.double().abs().max().clamp(min=1e-3))
        assert worst <= tolerance, f"{name}: {worst}"


@pytest.mark.parametrize(("kind", "worlds"), [("binary", (2, 3, 4)), ("multiclass", (3,)), ("multilabel", (3,))])
def test_the_number_of_workers_changes_nothing(kind: str, worlds: tuple[int, ...], toy_task: Any, toy_data: Any, trace: Any) -> None:
    task, data = toy_task(kind, imbalance="class_weights"), toy_data(kind)
    alone = trace(task, data, 1)
    for world in worlds:
        assert_equal(trace(task, data, world), alone)
    counters = [int(tensor) for name, tensor in alone.items() if name.endswith("num_batches_tracked")]
    assert counters == [STEPS] * 3  # a step is one batch for BatchNorm, whatever the number of shards


EACH: dict[str, tuple[str, dict[str, Any]]] = {
    "balanced_sampling": ("binary", {"imbalance": "balanced_sampling"}),
    "balanced_multiclass": ("multiclass", {"imbalance": "balanced_sampling"}),
    "focal": ("multilabel", {"imbalance": "focal"}),
    "ordinal": ("ordinal", {}),
    "regression": ("regression", {}),
    "clip": ("binary", {"clip": 0.05}),
    "freeze": ("binary", {"freeze": ["film.*"]}),
}


@pytest.mark.parametrize("what", EACH)
def test_the_number_of_workers_changes_nothing_with_each_option(what: str, toy_task: Any, toy_data: Any, trace: Any) -> None:
    kind, options = EACH[what]
    task, data = toy_task(kind, **options), toy_data(kind)
    alone = trace(task, data, 1)
    for world in (2, 3, 4):
        assert_equal(trace(task, data, world), alone)
    if what not in ("ordinal", "regression"):
        plain = trace(toy_task(kind), data, 1)
        assert any(not torch.allclose(alone[name], plain[name]) for name in alone if alone[name].shape == plain[name].shape)


def test_started_from_elsewhere_the_number_of_workers_changes_nothing(toy_task: Any, toy_data: Any, trace: Any) -> None:
    task = toy_task(freeze=["table.*"])
    donor = {public_name(name, ("film", "table")): tensor for name, tensor in task.network().state_dict().items()}
    donor.pop("answer.weight")
    data = replace(toy_data(), start=Start("the bundle a", donor))
    alone = trace(task, data, 1)
    for world in (2, 3):
        assert_equal(trace(task, data, world), alone)
    kept = [name for name in alone if name.startswith("encoders.1.") and "running" not in name and "num_batches" not in name]
    assert kept and all(torch.equal(alone[name], donor[public_name(name, ("film", "table"))].double()) for name in kept)


def test_a_frozen_encoder_keeps_every_bit_its_running_statistics_too(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    store = CheckpointStore(StoragePath.of(tmp_path), "f")
    run = RankRun(toy_task(freeze=["film.*"]), toy_data(), Alone(), store, Machine("cpu", 1, "fp32"), print)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for _ in range(2):
        run.one_step()
        gathered_logits(run.model, run.validate, Alone(), 1, 24)  # puts the model into evaluation and back
    changed = {name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("encoders.1.") for name in changed) and "answer.weight" in changed
    assert not {name for name in changed if name.startswith("encoders.0.")}
    assert run.model.training and run.gradient.flat.vector.numel() == 1 + sum(
        parameter.numel() for name, parameter in run.model.named_parameters() if not name.startswith("encoders.0.")
    )


def test_clip_shortens_the_whole_gradient_and_keeps_its_direction_and_the_loss(toy_task: Any, toy_data: Any) -> None:
    whole, _ = sharded_gradient(toy_task("binary", PLAIN, augment={}), toy_data())
    norm = float(whole.norm())
    for largest in (norm / 7, 2 * norm):
        cut, _ = sharded_gradient(toy_task("binary", PLAIN, augment={}, clip=largest), toy_data())
        assert torch.allclose(cut, whole * min(1, largest / norm), rtol=1e-9)
    model = torch.nn.Linear(2, 1)
    model_gradient = FlatGradient(model)
    model_gradient.vector.copy_(torch.tensor([3.0, 0.0, 4.0, 9.0]))
    model_gradient.clip(1.0)
    assert model_gradient.vector.tolist() == pytest.approx([0.6, 0.0, 0.8, 9.0])
    assert model.bias.grad is not None and model.bias.grad.item() == pytest.approx(0.8)


def test_more_workers_than_shards_in_a_short_batch(toy_task: Any, toy_data: Any, trace: Any) -> None:
    task, data = toy_task(shards=4, batch=13, epochs=1), toy_data(cases=42)  # the last batch: three rows, one shard
    assert_equal(trace(task, data, 4), trace(task, data, 1))


def test_fp32_is_equal_to_rounding(toy_task: Any, toy_data: Any, trace: Any) -> None:
    task, data = toy_task(model={"hidden": 16}), toy_data()
    one, three = trace(task, data, 1, "fp32"), trace(task, data, 3, "fp32")
    assert_equal({"gradient 0": one["gradient 0"]}, three, 1e-5)


def test_twin_seed_by_rank(toy_task: Any, toy_data: Any, trace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "seed_of", lambda *words: int(threading.current_thread().name[-1]))
    with pytest.raises(AssertionError, match="gradient"):
        assert_equal(trace(toy_task(), toy_data(), 2), trace(toy_task(), toy_data(), 1))


def test_twin_buffers_not_reset(toy_task: Any, toy_data: Any, trace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedBuffers, "reset", lambda self: None)
    with pytest.raises(AssertionError, match="running_mean|num_batches"):
        assert_equal(trace(toy_task(), toy_data(), 2), trace(toy_task(), toy_data(), 1))


def test_twin_buffers_not_shared(toy_task: Any, toy_data: Any, trace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedBuffers, "publish", lambda self, communicator, pieces: None)
    with pytest.raises(AssertionError):
        assert_equal(trace(toy_task(), toy_data(), 2), trace(toy_task(), toy_data(), 1))


PLAIN: dict[str, Any] = {  # nothing random, no BatchNorm
    "dropout": 0.0,
    "fusion": {"kind": "concat"},
    "encoders": {
        "film": {"kind": "cnn", "settings": {"norm": "none", "channels": [4, 8]}},
        "table": {"kind": "mlp", "settings": {"dropout": 0.0}},
    },
}


def plain_gradient(task: Task, data: TrainData, rows: np.ndarray) -> torch.Tensor:
    """What a reader would write: the mean loss over the known labels of the whole batch, in one forward."""
    torch.manual_seed(0)
    model = task.network().double()
    loader = Loader(data.train, data.train_labels, task.specs, Machine("cpu", 1, "fp64"))
    labels, known = loader.targets(rows)
    each = torch.nn.functional.binary_cross_entropy_with_logits(model(loader.inputs(rows)), labels, reduction="none")
    each[known].mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def sharded_gradient(task: Task, data: TrainData) -> tuple[torch.Tensor, np.ndarray]:
    torch.manual_seed(0)
    model = task.network().double()
    flat = FlatGradient(model)
    loader = Loader(data.train, data.train_labels, task.specs, Machine("cpu", 1, "fp64"))
    stream = gradient.Stream(len(loader), task.options.batch, task.options.epochs, 0)
    GradientStep(task, model, loader, data.train_ids, stream, Alone(), flat, SharedBuffers(model), None)(0)
    return flat.vector[:-1], stream.rows(0)[0]


@pytest.mark.parametrize("pieces", [1, 5, 12])
def test_shards_add_up_to_the_plain_gradient(pieces: int, toy_task: Any, toy_data: Any) -> None:
    task, data = toy_task("multilabel", PLAIN, shards=pieces, augment={}), toy_data("multilabel")  # 40 % of the labels unknown
    sharded, rows = sharded_gradient(task, data)
    assert torch.allclose(sharded, plain_gradient(task, data, rows), rtol=1e-9, atol=1e-12)


def test_twin_mean_of_shard_means(toy_task: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, data = toy_task("multilabel", PLAIN, augment={}), toy_data("multilabel")
    whole = GradientStep._shard

    def own_mean(self: GradientStep, step: int, piece: int, rows: np.ndarray, epochs: np.ndarray, total: torch.Tensor) -> None:
        own = gradient.denominator(task.head, *self.loader.targets(rows), None)
        whole(self, step, piece, rows, epochs, own * 12)

    monkeypatch.setattr(GradientStep, "_shard", own_mean)
    sharded, rows = sharded_gradient(task, data)
    assert not torch.allclose(sharded, plain_gradient(task, data, rows), rtol=1e-3, atol=1e-6)


def test_a_batch_without_a_known_label_has_no_gradient(toy_task: Any, toy_data: Any) -> None:
    task, data = toy_task("multilabel", shards=2), toy_data("multilabel")
    data.train_labels.known[:] = False
    sharded, _ = sharded_gradient(task, data)
    assert torch.equal(sharded, torch.zeros_like(sharded))


def test_buffers_that_no_shard_changes_keep_every_bit() -> None:
    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("third", torch.tensor([1 / 3, float("inf"), float("-inf")]))
            self.register_buffer("flag", torch.tensor([True, False]))

    model = Constant()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    buffers = SharedBuffers(model)
    buffers.remember()
    for _ in range(3):
        buffers.reset()
        buffers.collect()
    buffers.publish(Alone(), 3)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_gradients_are_views_in_the_parameters_layout() -> None:
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    flat = FlatGradient(model)
    model(torch.rand(2, 3, 5, 5)).sum().backward()
    assert model.weight.grad is not None and model.weight.grad.stride() == model.weight.stride()
    assert model.weight.grad.data_ptr() == flat.vector.data_ptr()
    assert flat.vector[:-1].abs().sum() > 0 and flat.loss == 0


def test_parameters_of_two_types_are_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1).double())
    with pytest.raises(RecipeError, match="2 types"):
        FlatGradient(model)

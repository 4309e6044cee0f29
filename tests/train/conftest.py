"""A small task with everything that could tell workers apart, and ranks that run in lockstep in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from meddx.dataset.target import Labels
from meddx.models.heads import make_head
from meddx.models.options import ModelOptions
from meddx.train.options import TrainingOptions
from meddx.train.run import build_network
from meddx.train.task import Task, TrainData

TOY_SPECS: dict[str, dict[str, Any]] = {
    "film": {"kind": "image", "channels": 1, "size": 12, "max": 255, "mean": [0.5], "std": [0.3], "optional": True},
    "table": {"kind": "table", "numbers": 3, "categories": [4], "names": ["a", "b", "c"], "category_names": ["d"]},
}
TOY_HEADS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "binary", "classes": ["no", "yes"]},
    "multiclass": {"kind": "multiclass", "classes": ["a", "b", "c"]},
    "multilabel": {"kind": "multilabel", "classes": ["x", "y"]},
    "ordinal": {"kind": "ordinal", "classes": ["none", "mild", "severe"]},
    "regression": {"kind": "regression", "classes": [], "mean": 50.0, "std": 4.0},
}


class Lockstep:
    """`world` ranks as threads of which one runs at a time, from one collective to the next: torch's generator is global."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.barrier = threading.Barrier(world)
        self.turn = threading.Lock()
        self.slots: list[torch.Tensor] = [torch.empty(0)] * world

    def meet(self) -> None:
        self.turn.release()
        try:
            self.barrier.wait(60)
        finally:
            self.turn.acquire()


class LockstepRank:
    def __init__(self, group: Lockstep, rank: int) -> None:
        self.group, self.rank, self.world = group, rank, group.world

    def sum(self, tensor: torch.Tensor) -> None:
        self._exchange(tensor, lambda slots: torch.stack(slots).sum(0))

    def copy_first(self, tensor: torch.Tensor) -> None:
        self._exchange(tensor, lambda slots: slots[0])

    def _exchange(self, tensor: torch.Tensor, combine: Callable[[list[torch.Tensor]], torch.Tensor]) -> None:
        self.group.slots[self.rank] = tensor.clone()
        self.group.meet()
        tensor.copy_(combine(self.group.slots))
        self.group.meet()


@pytest.fixture
def in_lockstep() -> Callable[[int, Callable[[Any], Any]], list[Any]]:
    """run(world, job): job(communicator) on each rank; what each returned."""

    def run(world: int, job: Callable[[Any], Any]) -> list[Any]:
        group, results, errors = Lockstep(world), [None] * world, []

        def rank_main(rank: int) -> None:
            with group.turn:
                try:
                    results[rank] = job(LockstepRank(group, rank))
                except BaseException as error:
                    errors.append(error)
                    group.barrier.abort()

        ranks = [threading.Thread(target=rank_main, args=(rank,), name=f"rank-{rank}") for rank in range(world)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        if errors:
            raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
        return results

    return run


def _part(rng: np.random.Generator, cases: int, kind: str) -> tuple[Mapping[str, Mapping[str, np.ndarray]], Labels]:
    signal = rng.normal(size=cases)
    numbers = np.stack([signal + rng.normal(size=cases), rng.normal(size=cases), rng.normal(size=cases)], 1).astype(np.float32)
    pixels = np.clip(128 + 20 * signal[:, None, None, None] + 30 * rng.normal(size=(cases, 1, 12, 12)), 0, 255).astype(np.uint8)
    arrays = {
        "film": {"pixels": pixels, "present": rng.random(cases) < 0.8},
        "table": {
            "numbers": numbers,
            "missing": np.zeros_like(numbers),
            "codes": rng.integers(0, 4, size=(cases, 1)),
            "present": np.ones(cases, bool),
        },
    }
    if kind == "regression":
        return arrays, Labels(50 + 4 * signal, rng.random(cases) < 0.9)
    if kind in ("multiclass", "ordinal"):
        return arrays, Labels(np.digitize(signal, [-0.5, 0.8]).astype(np.int64), np.ones(cases, bool))
    if kind == "multilabel":
        values = np.stack([signal > 0, signal > 1], 1).astype(np.float32)
        return arrays, Labels(values, rng.random((cases, 2)) < 0.6)
    return arrays, Labels((signal > 0.4).astype(np.float32), np.ones(cases, bool))


@pytest.fixture
def toy_data() -> Callable[..., TrainData]:
    """make(kind, cases): 40 cases to train and 23 to validate, by default; row numbers with gaps as in a real split."""

    def make(kind: str = "binary", cases: int = 40) -> TrainData:
        rng = np.random.default_rng(7)
        (train, labels), (validate, validate_labels) = _part(rng, cases, kind), _part(rng, 23, kind)
        return TrainData(train, labels, np.arange(cases, dtype=np.int64) * 3 + 5, validate, validate_labels)

    return make


@pytest.fixture
def toy_task() -> Callable[..., Task]:
    """make(kind, **training options): a CNN with BatchNorm beside an MLP, dropout, hidden inputs, augmentation."""

    def make(kind: str = "binary", model: dict[str, Any] | None = None, **options: Any) -> Task:
        augment = {"flip": True, "rotate": 20, "shift": 0.1, "zoom": 0.1, "crop": 0.1, "intensity": 0.2}
        small = {"film": {"kind": "cnn", "settings": {"channels": [4, 8, 8]}}}
        settings = {"batch": 24, "epochs": 2, "shards": 12, "augment": augment, "precision": "fp32", **options}
        network = ModelOptions.model_validate(
            {"dropout": 0.3, "hidden": 16, "encoders": small, "fusion": {"kind": "concat", "drop_inputs": 0.2}, **(model or {})}
        )
        head = TOY_HEADS[kind]
        return Task(
            network=partial(build_network, network, dict(network.encoders), TOY_SPECS, head),
            head=make_head(head),
            specs=TOY_SPECS,
            options=TrainingOptions.model_validate(settings),
        )

    return make

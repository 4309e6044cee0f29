"""Training in this process, without Ray: laptops, tests, trials of a search."""

from __future__ import annotations

from collections.abc import Callable

from meddx.train.checkpoint import CheckpointStore
from meddx.train.machine import available_cpus
from meddx.train.task import Task, TrainData


def train_here(task: Task, data: TrainData, store: CheckpointStore, log: Callable[[str], None]) -> None:
    """Run the whole training with all CPUs of this process; the caller's random state stays as it was."""
    import torch

    from meddx.train.communicate import Alone
    from meddx.train.loop import fit

    gpus = [0] if task.options.gpu and torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus):
        fit(task, data, Alone(), store, cpus=available_cpus(), log=log)

"""Training on real Ray workers: slow to start, so few tests, each of what only Ray can show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meddx.errors import ClusterError, DataError, RecipeError
from meddx.storage import StoragePath
from meddx.train.run import train_task

pytestmark = pytest.mark.ray


def test_two_workers_take_the_same_first_step_as_one(ray_cluster: None, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    from meddx.train.on_ray import run_on_workers

    task, data = toy_task(shards=2), toy_data()

    def first_gradient(communicator: Any, payload: Any, cpus: int) -> dict[str, Any]:
        import os

        from meddx.storage import StoragePath
        from meddx.train.checkpoint import CheckpointStore
        from meddx.train.loop import RankRun
        from meddx.train.machine import Machine

        run = RankRun(task, payload, communicator, CheckpointStore(StoragePath.of("/nowhere"), "f"), Machine("cpu", cpus, "fp32"), print)
        run.one_step()
        return {
            "gradient": run.gradient.flat.vector.numpy().copy(),
            "world": communicator.world,
            "cpus": cpus,
            "interface": os.environ["GLOO_SOCKET_IFNAME"],
            "shared": not payload.train["film"]["pixels"].flags.writeable,  # a view of the object store, not a copy
        }

    answers = {}
    for workers in (1, 2):
        folder = StoragePath.of(tmp_path / str(workers))
        answers[workers] = run_on_workers(first_gradient, data, workers=workers, folder=folder, name=f"first-{workers}")
        assert answers[workers]["world"] == workers and answers[workers]["cpus"] == 2 // workers
        assert answers[workers]["interface"] and answers[workers]["shared"]
    one, two = answers[1]["gradient"], answers[2]["gradient"]
    assert np.abs(one - two).max() <= 1e-6 * np.abs(one).max()


def test_two_workers_have_the_same_losses_over_twenty_steps_as_none(
    ray_cluster: None, toy_task: Any, toy_data: Any, tmp_path: Path
) -> None:
    losses, lines = {}, {}
    data = toy_data()
    for workers in (0, 2):
        # 41 rows a step of the 40 there are: every step ends an epoch, so the history has every step's loss.
        task = toy_task(shards=2, workers=workers, batch=40, epochs=20)
        lines[workers] = list[str]()
        folder = StoragePath.of(tmp_path / str(workers))
        trained = train_task(task, data, run_dir=folder, fingerprint="f", fresh=False, log=lines[workers].append)
        losses[workers] = [entry["train_loss"] for entry in trained.history]
    assert len(losses[0]) == len(losses[2]) == 20
    assert np.abs(np.subtract(losses[0], losses[2])).max() <= 1e-5
    assert [line.split("  ")[0] for line in lines[2]] == [f"epoch {epoch}/20" for epoch in range(1, 21)]  # the driver heard each epoch


def test_a_killed_worker_costs_at_most_an_epoch(ray_cluster: None, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    """The second rank dies without a word (as from SIGKILL) in the middle of the run, once."""
    task, data = toy_task(shards=2, workers=2, epochs=4), toy_data()
    whole = train_task(replace(task, options=task.options.model_copy(update={"workers": 0})), data,
                       run_dir=StoragePath.of(tmp_path / "whole"), fingerprint="f", fresh=False, log=print)  # fmt: skip
    marker, network = tmp_path / "died", task.network

    def dying_network() -> Any:
        import os

        import torch

        model = network()

        def die(module: Any, inputs: Any) -> None:
            done = len(list((tmp_path / "run" / "checkpoints").glob("step-*.json")))
            if done >= 2 and torch.distributed.get_rank() == 1 and not marker.exists():
                marker.touch()
                os._exit(9)

        model.register_forward_pre_hook(die)
        return model

    lines: list[str] = []
    run_dir = StoragePath.of(tmp_path / "run")
    trained = train_task(replace(task, network=dying_network), data, run_dir=run_dir, fingerprint="f", fresh=False, log=lines.append)
    assert marker.exists()
    assert any("resumed after epoch" in line for line in lines)
    losses = [[entry["train_loss"] for entry in run.history] for run in (whole, trained)]
    assert np.abs(np.subtract(*losses)).max() <= 1e-5


@pytest.mark.parametrize("error", [DataError, RecipeError])
def test_what_is_wrong_with_the_data_or_the_recipe_is_not_retried(
    error: type[Exception], ray_cluster: None, toy_task: Any, toy_data: Any, tmp_path: Path
) -> None:
    from meddx.train.on_ray import run_on_workers

    def refuse(communicator: Any, payload: Any, cpus: int) -> None:
        from pathlib import Path

        (Path(payload) / f"try-{len(list(Path(payload).iterdir()))}").touch()
        raise error("diverged", "training.lr", "lower it")

    tries = tmp_path / "tries"
    tries.mkdir()
    with pytest.raises(error, match="diverged"):
        run_on_workers(refuse, str(tries), workers=1, folder=StoragePath.of(tmp_path), name="refuse")
    assert len(list(tries.iterdir())) == 1


def test_more_workers_than_cpus_are_refused_before_anything_starts(ray_cluster: None, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="9 workers need 9 CPUs"):
        train_task(toy_task(workers=9), toy_data(), run_dir=StoragePath.of(tmp_path), fingerprint="f", fresh=False, log=print)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meddx.errors import ClusterError, DataError
from meddx.storage import StoragePath
from meddx.train import loop
from meddx.train.checkpoint import CheckpointStore
from meddx.train.communicate import Alone, agree
from meddx.train.loop import fit, progress_line
from meddx.train.task import Task, TrainData


class Killed(Exception):
    pass


def make_store(folder: Path) -> CheckpointStore:
    store = CheckpointStore(StoragePath.of(folder), "mine")
    store.claim()
    return store


def outcome(store: CheckpointStore) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """History without the clock, and every tensor at the end."""
    last, _ = store.newest()
    assert last is not None and last.state["finished"]
    history = [{key: value for key, value in entry.items() if key != "seconds"} for entry in last.state["history"]]
    return history, last.tensors


def killed_after(step: int) -> Callable[[int, float], None]:
    def on_step(done: int, loss: float) -> None:
        if done == step:
            raise Killed

    return on_step


def run(task: Task, data: TrainData, store: CheckpointStore, **more: Any) -> list[str]:
    lines: list[str] = []
    fit(task, data, Alone(), store, cpus=1, log=lines.append, **more)
    return lines


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_killed_and_resumed_equals_undisturbed_bit_for_bit(step: int, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30), toy_data()  # epochs end after steps 2, 3 and 4
    run(task, data, make_store(tmp_path / "whole"))
    store = make_store(tmp_path / "killed")
    with pytest.raises(Killed):
        run(task, data, store, on_step=killed_after(step))
    torch.manual_seed(99)  # whatever happened in between
    lines = run(task, data, store)
    assert any("resumed after epoch" in line for line in lines) == (step > 2)
    assert not any("rounding" in line for line in lines)
    (history, tensors), (again, same) = outcome(make_store(tmp_path / "whole")), outcome(store)
    assert history == again
    assert tensors.keys() == same.keys() and all(torch.equal(tensor, same[name]) for name, tensor in tensors.items())


def test_twin_without_the_optimisers_state(toy_task: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30), toy_data()
    run(task, data, make_store(tmp_path / "whole"))
    store = make_store(tmp_path / "killed")
    with pytest.raises(Killed):
        run(task, data, store, on_step=killed_after(3))
    monkeypatch.setattr(loop, "restore_optimizer", lambda model, optimizer, tensors: None)
    run(task, data, store)
    assert outcome(make_store(tmp_path / "whole"))[0] != outcome(store)[0]


def test_other_threads_workers_or_shards_are_said_and_kept(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30), toy_data()
    store = make_store(tmp_path)
    with pytest.raises(Killed):
        fit(task, data, Alone(), store, cpus=2, on_step=killed_after(3))
    lines = run(task, data, store)  # one CPU now
    assert "equal to rounding only, threads 1 instead of 2" in lines[0]
    assert store.progress()["notes"] == [lines[0]]


def test_a_checkpoint_decides_threads_and_precision(toy_task: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30, precision="auto"), toy_data()
    store = make_store(tmp_path)
    monkeypatch.setattr(loop, "native_bf16", lambda device: False)
    with pytest.raises(Killed):
        run(task, data, store, on_step=killed_after(3))
    monkeypatch.setattr(loop, "native_bf16", lambda device: True)
    fit(task, data, Alone(), store, cpus=2, log=lambda line: None)
    exact = store.progress()["exact"]
    assert (exact["precision"], exact["threads"]) == ("fp32", 1)


def test_a_torn_newest_checkpoint_costs_one_epoch(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30), toy_data()
    run(task, data, make_store(tmp_path / "whole"))
    store = make_store(tmp_path / "torn")
    with pytest.raises(Killed):
        run(task, data, store, on_step=killed_after(4))  # epochs 1 and 2 are saved, at steps 2 and 3
    newest = tmp_path / "torn" / "step-00000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    lines = run(task, data, store)
    assert "step 3" in lines[0] and "damaged" in lines[0] and "resumed after epoch 1" in lines[2]
    assert outcome(store)[0] == outcome(make_store(tmp_path / "whole"))[0]


def test_bf16_trains(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    run(toy_task(precision="bf16", epochs=1, shards=1), toy_data(), store)
    assert np.isfinite(store.progress()["history"][0]["train_loss"])
    last, _ = store.newest()
    assert last is not None and {tensor.dtype for tensor in last.tensors.values() if tensor.is_floating_point()} == {torch.float32}


def test_the_network_learns(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    quiet = {"augment": {}, "epochs": 15, "batch": 20, "shards": 1, "lr": 0.01}
    run(toy_task(model={"dropout": 0.0}, **quiet), toy_data(cases=200), store)
    history = store.progress()["history"]
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert max(entry["auroc"] for entry in history) > 0.8


def test_the_best_epoch_is_the_one_of_the_number_asked(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    for stop_on, best in (("log_loss", min), ("auroc", max)):
        store = make_store(tmp_path / stop_on)
        run(toy_task(stop_on=stop_on, epochs=6, batch=20, shards=1, lr=0.03), toy_data(), store)
        state = store.progress()
        values = [entry[stop_on] for entry in state["history"]]
        assert state["best_epoch"] == values.index(best(values)) + 1
        assert state["best_step"] in store.steps()


def test_patience_stops_early(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    run(toy_task(epochs=40, batch=20, shards=1, lr=0.05, patience=2), toy_data(), store)
    state = store.progress()
    assert state["finished"] and state["epoch"] == state["best_epoch"] + 2 < 40


def test_a_diverging_run_is_refused_in_words(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    data = toy_data()
    numbers = data.train["table"]["numbers"].copy()
    numbers[3, 0] = np.inf
    broken = {**data.train, "table": {**data.train["table"], "numbers": numbers}}
    with pytest.raises(DataError, match="diverged in epoch 1"):
        run(toy_task(), replace(data, train=broken), make_store(tmp_path))


def test_class_weights_reach_the_loss(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    data = toy_data()
    first: dict[str, float] = {}
    for imbalance in ("none", "class_weights"):
        with pytest.raises(Killed):
            run(toy_task(imbalance=imbalance), data, make_store(tmp_path / imbalance), on_step=partial(_keep, first, imbalance))
    assert first["none"] != first["class_weights"]
    weights = loop._class_weights(toy_task(imbalance="class_weights"), data, loop.Machine("cpu", 1, "fp64"))
    assert weights is not None
    values = data.train_labels.values.astype(int)
    assert float(weights[values].mean()) == pytest.approx(1)  # mean 1 over the cases
    assert float(weights[1] / weights[0]) == pytest.approx((values == 0).sum() / (values == 1).sum())  # inverse frequency


def _keep(losses: dict[str, float], of: str, step: int, loss: float) -> None:
    losses[of] = loss
    raise Killed


def test_ranks_that_see_different_stores_are_refused(toy_task: Any, toy_data: Any, tmp_path: Path, in_lockstep: Any) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30), toy_data()
    with pytest.raises(Killed):
        run(task, data, make_store(tmp_path / "0"), on_step=killed_after(3))
    make_store(tmp_path / "1")

    def job(communicator: Any) -> None:
        fit(task, data, communicator, make_store(tmp_path / str(communicator.rank)), cpus=1)

    with pytest.raises(ClusterError, match="different checkpoints"):
        in_lockstep(2, job)


def test_agree(in_lockstep: Any) -> None:
    assert in_lockstep(3, lambda communicator: agree(communicator, 7, "cpu")) == [True] * 3
    assert in_lockstep(3, lambda communicator: agree(communicator, communicator.rank, "cpu")) == [False] * 3
    assert agree(Alone(), -1, "cpu")


def test_progress_line() -> None:
    entry = {"epoch": 2, "step": 40, "train_loss": 0.5, "log_loss": 0.25, "auroc": None, "seconds": 3.2}
    assert progress_line(entry, 9, best=True) == "epoch 2/9  step 40  loss 0.5000  validate: log_loss 0.2500  3 s  best"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meddx.dataset.target import Labels
from meddx.errors import ClusterError, DataError, RecipeError
from meddx.storage import StoragePath
from meddx.train import loop
from meddx.train.batches import Loader
from meddx.train.checkpoint import CheckpointStore
from meddx.train.communicate import Alone, agree
from meddx.train.imbalance import settle
from meddx.train.loop import fit, progress_line
from meddx.train.machine import Machine
from meddx.train.task import Task, TrainData
from meddx.train.transfer import Start, public_name
from meddx.train.validate import gathered_logits


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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("binary", {"imbalance": "balanced_sampling"}),
        ("multiclass", {"imbalance": "class_weights", "stop_on": "f1"}),
        ("multilabel", {"imbalance": "focal", "stop_on": "last"}),
        ("ordinal", {"stop_on": "kappa", "clip": 0.1}),
        ("regression", {"freeze": ["film.*", "dense.*"]}),
    ],
)
def test_resumed_equals_undisturbed_with_each_option(kind: str, options: Any, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    task, data = toy_task(kind, epochs=3, shards=3, batch=30, **options), toy_data(kind)
    lines = run(task, data, make_store(tmp_path / "whole"))
    store = make_store(tmp_path / "killed")
    with pytest.raises(Killed):
        run(task, data, store, on_step=killed_after(3))
    again = run(task, data, store)
    assert "resumed after epoch 1" in again[0] and "rounding" not in again[0]
    (history, tensors), (history_again, same) = outcome(make_store(tmp_path / "whole")), outcome(store)
    assert history == history_again
    assert tensors.keys() == same.keys() and all(torch.equal(tensor, same[name]) for name, tensor in tensors.items())
    whole, killed = make_store(tmp_path / "whole").progress(), store.progress()
    assert whole["offset"] == killed["offset"] and whole["made"] == killed["made"] == lines[: len(whole["made"])]
    assert (whole["offset"] is not None) == (options.get("imbalance") in ("balanced_sampling", "class_weights"))


def test_a_start_matters_once_and_not_on_resuming(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    task, data = toy_task(epochs=3, shards=3, batch=30, precision="fp32"), toy_data()
    donor = {public_name(name, ("film", "table")): tensor for name, tensor in task.network().state_dict().items()}
    other = {name: torch.zeros_like(tensor) for name, tensor in donor.items()}
    lines = run(task, replace(data, start=Start("the bundle a", donor)), make_store(tmp_path / "whole"))
    assert lines[0].startswith("started from the bundle a: ")
    store = make_store(tmp_path / "killed")
    with pytest.raises(Killed):
        run(task, replace(data, start=Start("the bundle a", donor)), store, on_step=killed_after(3))
    run(task, replace(data, start=Start("the bundle b", other)), store)
    assert outcome(store)[0] == outcome(make_store(tmp_path / "whole"))[0]
    assert store.progress()["made"] == lines[:1]
    plain = make_store(tmp_path / "plain")
    run(task, data, plain)
    assert outcome(plain)[0] != outcome(store)[0]


@pytest.mark.parametrize("imbalance", ["class_weights", "balanced_sampling"])
def test_the_epoch_is_chosen_on_unweighted_cases(imbalance: str, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    """The history's log loss is that of the logits with the offset, below that without for a rare class."""
    data = toy_data(cases=200)
    rare = (data.train["table"]["numbers"][:, 0] > 1.8).astype(np.float32)
    rare_too = (data.validate["table"]["numbers"][:, 0] > 1.8).astype(np.float32)
    data = replace(data, train_labels=Labels(rare, rare >= 0), validate_labels=Labels(rare_too, rare_too >= 0))
    task = toy_task(imbalance=imbalance, epochs=1, shards=1, batch=200, precision="fp32")
    store = make_store(tmp_path)
    run(task, data, store)
    state = store.progress()
    count = rare.sum()
    assert state["offset"] == pytest.approx([-np.log((200 - count) / count)])
    assert "back to unweighted cases" in state["notes"][0]
    snapshot, _ = store.newest()
    assert snapshot is not None
    torch.manual_seed(0)
    model = task.network()
    model.load_state_dict({name[6:]: tensor for name, tensor in snapshot.tensors.items() if name.startswith("model/")})
    loader = Loader(data.validate, data.validate_labels, task.specs, Machine("cpu", 1, "fp32"))
    logits = gathered_logits(model, loader, Alone(), 1, 200)
    shifted, plain = (task.head.monitor(each, rare_too, rare_too >= 0)["log_loss"] for each in (logits + state["offset"], logits))
    assert state["history"][0]["log_loss"] == pytest.approx(shifted, rel=1e-5) and shifted < plain - 0.01


@pytest.mark.parametrize("kind", ["ordinal", "regression"])
def test_the_new_kinds_learn(kind: str, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    quiet = {"augment": {}, "epochs": 15, "batch": 20, "shards": 1, "lr": 0.01}
    lines = run(toy_task(kind, model={"dropout": 0.0}, **quiet), toy_data(kind, cases=200), store)
    history = store.progress()["history"]
    assert min(entry["log_loss"] for entry in history) < 0.8 * history[0]["log_loss"]
    assert "mae" in history[0] and "auroc" not in history[0] and "  mae " in lines[0]


def test_last_keeps_the_last_epoch_and_needs_no_second_class(toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    data = toy_data()
    ones = Labels(np.ones(23, np.float32), np.ones(23, bool))
    store = make_store(tmp_path)
    run(toy_task(stop_on="last", epochs=5, batch=20, shards=1, lr=0.05, patience=1), replace(data, validate_labels=ones), store)
    state = store.progress()
    assert state["best_epoch"] == state["epoch"] == 5 and state["best_step"] == state["step"]
    assert state["history"][0]["auroc"] is None and state["history"][0]["f1"] is None
    for stop_on in ("auroc", "f1"):
        with pytest.raises(DataError, match="only one class"):
            run(toy_task(stop_on=stop_on), replace(data, validate_labels=ones), make_store(tmp_path / stop_on))


@pytest.mark.parametrize(("kind", "stop_on"), [("binary", "kappa"), ("ordinal", "auroc"), ("regression", "f1")])
def test_a_number_that_the_target_does_not_have_is_refused(kind: str, stop_on: str, toy_task: Any, toy_data: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"a {kind} target has no {stop_on}") as caught:
        run(toy_task(kind, stop_on=stop_on), toy_data(kind), make_store(tmp_path))
    assert "allowed: log_loss" in str(caught.value) and "last" in str(caught.value)


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
    task = toy_task(imbalance="class_weights")
    weights = settle(task.options, task.head, data.train_labels).class_weights
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

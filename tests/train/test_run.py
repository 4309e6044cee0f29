from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from meddx.dataset.target import Labels
from meddx.errors import DataError, OutputError, RecipeError
from meddx.models.build import build_model
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.storage import StoragePath
from meddx.train.options import TrainingOptions
from meddx.train.run import train_network
from meddx.train.task import TrainData, Trained

TABLE_SPEC = {"table": {"kind": "table", "numbers": 3, "categories": [4], "names": ["a", "b", "c"], "category_names": ["d"]}}
QUESTION = {"kind": "binary", "classes": ["no", "yes"]}


@pytest.fixture
def start(toy_data: Any, tmp_path: Path) -> Any:
    """start(**what differs) trains a table network in one folder; the lines of the log are in `start.lines`."""

    def run(data: TrainData | None = None, fresh: bool = False, fingerprint: str = "f1", **options: Any) -> Trained:
        run.lines.clear()  # type: ignore[attr-defined]
        given = data or toy_data()
        only_table = replace(given, train={"table": given.train["table"]}, validate={"table": given.validate["table"]})
        return train_network(
            only_table,
            model=ModelOptions(hidden=8),
            encoders={"table": EncoderOptions(kind="mlp", settings={"hidden": 8})},
            specs=TABLE_SPEC,
            head=QUESTION,
            options=TrainingOptions.model_validate({"epochs": 3, "batch": 16, **options}),
            run_dir=StoragePath.of(tmp_path),
            fingerprint=fingerprint,
            fresh=fresh,
            log=run.lines.append,  # type: ignore[attr-defined]
        )

    run.lines = []  # type: ignore[attr-defined]
    return run


def test_weights_are_the_best_epochs_and_fit_the_network(start: Any) -> None:
    state = torch.get_rng_state()
    trained = start()
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are the caller's
    assert [entry["epoch"] for entry in trained.history] == [1, 2, 3] and len(start.lines) == 3
    assert trained.history[trained.best_epoch - 1]["log_loss"] == min(entry["log_loss"] for entry in trained.history)
    model = build_model(ModelOptions(hidden=8), {"table": EncoderOptions(kind="mlp", settings={"hidden": 8})}, TABLE_SPEC, QUESTION)
    model.load_state_dict(trained.weights)
    assert trained.seconds > 0


def test_a_finished_run_is_a_no_op_that_says_so(start: Any, tmp_path: Path) -> None:
    first = start()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").iterdir()}
    second = start()
    assert "finished before" in start.lines[0] and len(start.lines) == 1
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").iterdir()} == before
    assert second.history == first.history and second.seconds == first.seconds
    assert all(torch.equal(tensor, second.weights[name]) for name, tensor in first.weights.items())


def test_fresh_starts_anew_and_the_same_seed_gives_the_same_weights(start: Any) -> None:
    first, again, other = start(), start(fresh=True), start(fresh=True, seed=1)
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.weights.items())
    assert not all(torch.equal(tensor, other.weights[name]) for name, tensor in first.weights.items())


def test_another_fingerprint_in_the_folder_is_refused(start: Any) -> None:
    start()
    with pytest.raises(OutputError, match="another recipe"):
        start(fingerprint="f2")
    start(fingerprint="f2", fresh=True)


def test_a_finished_run_whose_result_is_damaged_is_mended(start: Any, tmp_path: Path) -> None:
    first = start()
    for path in (tmp_path / "checkpoints").glob("step-*.safetensors"):
        path.write_bytes(path.read_bytes()[:-5])
    second = start()
    assert "starting from the beginning" in start.lines[2] or "starting from the beginning" in " ".join(start.lines)
    assert all(torch.equal(tensor, second.weights[name]) for name, tensor in first.weights.items())


@pytest.mark.parametrize("part", ["train", "validate"])
def test_a_part_without_labels_is_refused(part: str, start: Any, toy_data: Any) -> None:
    data = toy_data()
    labels = getattr(data, f"{part}_labels")
    with pytest.raises(DataError, match=f"the {part} part has no labelled case"):
        start(replace(data, **{f"{part}_labels": Labels(labels.values, np.zeros(len(labels.known), bool))}))


def test_the_offset_and_what_was_done_come_back_also_from_a_finished_run(start: Any, toy_data: Any) -> None:
    assert (start().offset, start().notes) == (None, [])
    values = toy_data().train_labels.values
    for trained in (start(fresh=True, imbalance="class_weights"), start(imbalance="class_weights")):
        assert trained.offset == pytest.approx([-np.log((values == 0).sum() / (values == 1).sum())])
        assert len(trained.notes) == 1 and "class weights" in trained.notes[0]


def test_a_network_starts_from_a_weights_file_and_keeps_what_is_frozen(start: Any, tmp_path: Path) -> None:
    donor = start().weights
    source = tmp_path / "donor.safetensors"
    source.write_bytes(save({name: tensor + 1 for name, tensor in donor.items() if tensor.is_floating_point()}))
    trained = start(fresh=True, start_from=str(source), freeze=["table.*"])
    frozen = [name for name in donor if name.startswith("encoders.0.") and "running" not in name and "num_batches" not in name]
    assert frozen and all(torch.equal(trained.weights[name], donor[name] + 1) for name in frozen)
    assert not torch.equal(trained.weights["answer.weight"], donor["answer.weight"] + 1)
    assert trained.notes[0].startswith("started from the weights file donor.safetensors: ") and trained.notes[1].startswith(
        "frozen: table.*"
    )
    assert start.lines[:2] == trained.notes[:2]
    source.unlink()
    assert start(start_from=str(source), freeze=["table.*"]).notes == trained.notes  # finished: nothing is read
    with pytest.raises(RecipeError, match="no such weights file"):
        start(fresh=True, start_from=str(source))


@pytest.mark.parametrize(
    "head", [{"kind": "ordinal", "classes": ["no", "yes"], "note": 1}, {"kind": "regression", "mean": 0.4, "std": 0.5, "classes": []}]
)
def test_pages_of_new_kinds_train(head: dict[str, Any], toy_data: Any, tmp_path: Path) -> None:
    data = toy_data()
    labels, validate = (Labels(each.values.astype(np.int64), each.known) for each in (data.train_labels, data.validate_labels))
    data = TrainData({"table": data.train["table"]}, labels, data.train_ids, {"table": data.validate["table"]}, validate)
    trained = train_network(
        data, model=ModelOptions(hidden=8), encoders={}, specs=TABLE_SPEC, head=head, options=TrainingOptions(epochs=2, batch=16),
        run_dir=StoragePath.of(tmp_path), fingerprint="f", fresh=False, log=print,
    )  # fmt: skip
    assert len(trained.history) == 2 and trained.history[0]["mae"] > 0

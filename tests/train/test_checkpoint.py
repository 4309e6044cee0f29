from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from meddx.errors import OutputError
from meddx.storage import StoragePath
from meddx.train.checkpoint import CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    made = CheckpointStore(StoragePath.of(tmp_path / "checkpoints"), "mine")
    made.claim()
    return made


def save(store: CheckpointStore, *steps: int, best: int | None = None) -> None:
    for step in steps:
        tensors = {"w": torch.full((3,), float(step)), "n": torch.tensor(step)}
        store.save(step, {"best_step": best or step, "at": step}, tensors, best or step)


def names(store: CheckpointStore) -> list[str]:
    return [info.path.name for info in store.folder.list()]


def test_what_was_saved_comes_back(store: CheckpointStore) -> None:
    assert store.newest() == (None, [])
    assert store.progress() == {}
    weight = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    store.save(3, {"best_step": 3, "score": 0.1}, {"a/b": weight, "shared": weight}, 3)
    snapshot, notes = store.newest()
    assert snapshot is not None and notes == []
    assert snapshot.step == 3 and snapshot.state == {"best_step": 3, "score": 0.1} == store.progress()
    assert torch.equal(snapshot.tensors["a/b"], weight) and torch.equal(snapshot.tensors["shared"], weight)


def test_two_newest_and_the_best_are_kept(store: CheckpointStore) -> None:
    save(store, 1, 2, 3, 4, 5, best=1)
    assert store.steps() == [1, 4, 5]
    save(store, 6)
    assert store.steps() == [5, 6]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "tensors cut short": lambda folder: (folder / "step-00000003.safetensors").write_bytes(
        (folder / "step-00000003.safetensors").read_bytes()[:-1]
    ),
    "tensors missing": lambda folder: (folder / "step-00000003.safetensors").unlink(),
    "one value changed": lambda folder: (folder / "step-00000003.json").write_text(
        (folder / "step-00000003.json").read_text().replace('"at": 3', '"at": 4')
    ),
    "json cut short": lambda folder: (folder / "step-00000003.json").write_text((folder / "step-00000003.json").read_text()[:40]),
    "json of another shape": lambda folder: (folder / "step-00000003.json").write_text("[1]"),
    "all of it missing": lambda folder: [(folder / f"step-00000003.{suffix}").unlink() for suffix in ("json", "safetensors")],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_torn_or_missing_newest_falls_back_and_says_so(damage: str, store: CheckpointStore) -> None:
    save(store, 2, 3)
    DAMAGE[damage](Path(store.folder.uri))
    snapshot, notes = store.newest()
    assert snapshot is not None and snapshot.step == 2 and torch.equal(snapshot.tensors["w"], torch.full((3,), 2.0))
    assert "step 3" in notes[0] and "going on from the checkpoint of step 2" in notes[-1]


def test_a_flipped_byte_anywhere_in_the_tensors_is_seen(store: CheckpointStore) -> None:
    save(store, 2, 3)
    path = Path(store.folder.uri) / "step-00000003.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), 17):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.load(3) is None


def test_a_checkpoint_without_its_best_weights_does_not_count(store: CheckpointStore) -> None:
    save(store, 1)
    save(store, 2, 3, best=1)
    (Path(store.folder.uri) / "step-00000001.safetensors").unlink()
    snapshot, notes = store.newest()
    assert snapshot is None and "starting from the beginning" in notes[-1]


def test_a_lost_pointer_costs_nothing(store: CheckpointStore) -> None:
    save(store, 2, 3)
    (Path(store.folder.uri) / "latest.json").unlink()
    snapshot, _ = store.newest()
    assert snapshot is not None and snapshot.step == 3


def test_another_fingerprint_is_refused_unless_fresh(store: CheckpointStore) -> None:
    save(store, 2)
    other = CheckpointStore(store.folder, "other")
    with pytest.raises(OutputError, match="another recipe"):
        other.claim()
    store.claim()  # the owner may come again
    other.claim(fresh=True)
    assert names(other) == ["run.json"]
    with pytest.raises(OutputError):
        store.claim()


def test_a_checkpoint_of_another_run_is_not_read(store: CheckpointStore) -> None:
    save(store, 2)
    assert CheckpointStore(store.folder, "other").newest()[0] is None


def test_files_hold_no_code(store: CheckpointStore) -> None:
    save(store, 2)
    for name in names(store):
        if name.endswith(".json"):
            json.loads((Path(store.folder.uri) / name).read_text())
        else:
            assert name.endswith(".safetensors")

"""A training run's state in, files that survive a crash out; the newest whole one comes back.

    run_dir/checkpoints/run.json                     whose run this is (its fingerprint), created once
                        step-00000730.safetensors    weights and optimiser
                        step-00000730.json           everything else, with the digest of the tensors and its own
                        latest.json                  which step is the newest; published last

Ray's own store is not used: its snapshot is not written atomically, and without Ray it stores nothing (docs/design.md).
Every draw is made by counter, so no generator state is kept; files appear only at step boundaries.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meddx.errors import OutputError, StorageError
from meddx.storage import StoragePath

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
_STEP = re.compile(r"step-(\d+)\.(json|safetensors)")


@dataclass(frozen=True)
class Snapshot:
    """A verified checkpoint: `state` is JSON, `tensors` by name."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run."""

    folder: StoragePath
    fingerprint: str

    def claim(self, fresh: bool = False) -> None:
        """Take the folder for this run.  OutputError when it holds another run's; `fresh` empties it first."""
        if fresh:
            for found in list(self.folder.list()):
                found.path.delete()
        owner = self.folder / "run.json"
        if not owner.create_once(_encode({"fingerprint": self.fingerprint})) and _decode(owner).get("fingerprint") != self.fingerprint:
            raise OutputError(
                "this folder holds the training of another recipe, or of another version of this one",
                str(self.folder.parent),
                "choose another output folder, or start anew there with --fresh",
            )

    def save(self, step: int, state: dict[str, Any], tensors: dict[str, Tensor], best_step: int) -> None:
        """Publish a checkpoint; afterwards the newest two and the best are kept.  `state` must hold `best_step`."""
        from safetensors.torch import save

        data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
        self._file(step, "safetensors").replace(data)
        document = {"fingerprint": self.fingerprint, "step": step, "tensors": hashlib.sha256(data).hexdigest(), "state": state}
        self._file(step, "json").replace(_encode(document))
        (self.folder / "latest.json").replace(_encode({"step": step}))
        self._prune({*sorted(self.steps())[-KEPT:], best_step, step})

    def steps(self) -> list[int]:
        """Steps with a file here, whole or not, ascending."""
        found = (_STEP.fullmatch(info.path.name) for info in self.folder.list())
        return sorted({int(match[1]) for match in found if match})

    def newest(self) -> tuple[Snapshot | None, list[str]]:
        """The newest whole checkpoint, and a line for each one that had to be passed over."""
        notes: list[str] = []
        steps = self.steps()
        newest = _decode(self.folder / "latest.json").get("step")
        if newest is not None and newest not in steps:
            notes.append(f"the checkpoint of step {newest} is missing")
        for step in reversed(steps):
            snapshot = self.load(step)
            if snapshot and self._best_is_whole(snapshot):
                return snapshot, [*notes, f"going on from the checkpoint of step {step}"] if notes else []
            notes.append(f"the checkpoint of step {step}, or its best weights, is damaged")
        return None, [*notes, "no whole checkpoint: starting from the beginning"] if notes else []

    def load(self, step: int) -> Snapshot | None:
        """One checkpoint, None if it is missing or any byte of it is not what was written."""
        from safetensors.torch import load

        document = self.document(step)
        if not document or not self._file(step, "safetensors").exists():
            return None
        data = self._file(step, "safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != document["tensors"]:
            return None
        return Snapshot(step, document["state"], load(data))

    def document(self, step: int) -> dict[str, Any]:
        """The JSON half of a checkpoint, {} if it is missing, torn or another run's."""
        document = _decode(self._file(step, "json"))
        return document if document.get("fingerprint") == self.fingerprint else {}

    def progress(self) -> dict[str, Any]:
        """The state of the newest checkpoint without its tensors, {} before the first: for showing how far a run is."""
        try:
            step = _decode(self.folder / "latest.json").get("step")
            return dict(self.document(step).get("state", {})) if step is not None else {}
        except StorageError:  # the file was pruned between two reads: ask again later
            return {}

    def _best_is_whole(self, snapshot: Snapshot) -> bool:
        best = int(snapshot.state["best_step"])
        return best == snapshot.step or self.load(best) is not None

    def _file(self, step: int, suffix: str) -> StoragePath:
        return self.folder / f"step-{step:08d}.{suffix}"

    def _prune(self, kept: set[int]) -> None:
        for step in set(self.steps()) - kept:
            for suffix in ("json", "safetensors"):
                self._file(step, suffix).delete()


def _encode(document: dict[str, Any]) -> bytes:
    body = json.dumps(document, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "document": document}, sort_keys=True, indent=1).encode()


def _decode(path: StoragePath) -> dict[str, Any]:
    """The document, {} if the file is missing or not what was written."""
    if not path.exists():
        return {}
    try:
        wrapped = json.loads(path.read_bytes())
        document, digest = wrapped["document"], wrapped["sha256"]
    except (ValueError, KeyError, TypeError):
        return {}
    whole = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest() == digest
    return dict(document) if whole else {}

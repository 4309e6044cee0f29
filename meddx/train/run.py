"""Prepared parts and options in, the best weights out: decides where training runs, and whether there is anything to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from meddx.errors import DataError
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.storage import StoragePath
from meddx.train.checkpoint import CheckpointStore
from meddx.train.options import TrainingOptions
from meddx.train.task import Task, TrainData, Trained
from meddx.train.transfer import joined, read_pretrained, read_start

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TrainData", "Trained", "train_network", "train_task"]


def train_network(
    data: TrainData,
    *,
    model: ModelOptions,
    encoders: Mapping[str, EncoderOptions],
    specs: Mapping[str, dict[str, Any]],
    head: dict[str, Any],
    options: TrainingOptions,
    run_dir: StoragePath,
    fingerprint: str,
    fresh: bool,
    log: Callable[[str], None],
    pretrained: Mapping[str, str] | None = None,
) -> Trained:
    """Train one network and return the weights of its best epoch.

    Resumes what it finds in `run_dir`; a finished run is read and returned; `fresh` starts anew.  `head`: {"kind", "classes"},
    for regression {"kind", "mean", "std"}; further keys are left alone.  `pretrained`: input to the local directory whose weights its
    encoder starts from; only inputs whose encoder is `pretrained` are looked at.
    With `options.workers` above 0 a Ray cluster must be connected (`meddx.cluster.connect`), and `run_dir` must lie on storage that
    all its nodes share.  Raises OutputError when `run_dir` holds the run of another fingerprint, RecipeError, DataError, ClusterError.
    """
    from meddx.models.heads import make_head

    task = Task(
        network=partial(build_network, model, dict(encoders), dict(specs), head),
        head=make_head(head),
        specs=specs,
        options=options,
        pretrained={name: place for name, place in (pretrained or {}).items() if name in encoders and encoders[name].kind == "pretrained"},
    )
    return train_task(task, data, run_dir=run_dir, fingerprint=fingerprint, fresh=fresh, log=log)


def train_task(task: Task, data: TrainData, *, run_dir: StoragePath, fingerprint: str, fresh: bool, log: Callable[[str], None]) -> Trained:
    """`train_network` for a network and head of any making."""
    for part, labels in (("train", data.train_labels), ("validate", data.validate_labels)):
        if not labels.known.any():
            raise DataError(f"the {part} part has no labelled case", "split", f"give {part} a larger share, or check the target's values")
    store = CheckpointStore(run_dir / "checkpoints", fingerprint)
    store.claim(fresh)
    if store.progress().get("finished"):
        done = _result(store)
        if done is not None:
            log(f"training was finished before: {len(done.history)} epochs, best {done.best_epoch}; nothing to do (--fresh starts anew)")
            return done
    if data.start is None:
        starts = [read_pretrained(place, name) for name, place in task.pretrained.items()]
        if task.options.start_from:
            starts.append(read_start(task.options.start_from, tuple(task.specs)))
        data = replace(data, start=joined(starts))
    if task.options.workers:
        from meddx.train.on_ray import train_on_ray

        train_on_ray(task, data, store, run_dir, log)
    else:
        from meddx.train.local import train_here

        train_here(task, data, store, log)
    done = _result(store)
    if done is None:
        raise DataError("the training's result is damaged", str(store.folder), "run the same command again")
    return done


def build_network(
    model: ModelOptions, encoders: Mapping[str, EncoderOptions], specs: Mapping[str, dict[str, Any]], head: Mapping[str, Any]
) -> nn.Module:
    """`build_model`, imported where it runs: a worker builds the network there, from options; no code is sent."""
    from meddx.models.build import build_model

    return build_model(model, encoders, specs, head)


def _result(store: CheckpointStore) -> Trained | None:
    """The best weights of a finished run, None when some file is damaged."""
    last, _ = store.newest()
    if last is None or not last.state["finished"]:
        return None
    best = store.load(last.state["best_step"])
    if best is None:
        return None
    weights = {place.removeprefix("model/"): tensor for place, tensor in best.tensors.items() if place.startswith("model/")}
    return Trained(
        weights,
        last.state["history"],
        last.state["best_epoch"],
        last.state["seconds"],
        last.state.get("offset"),
        last.state.get("made", []),
    )

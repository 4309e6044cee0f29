"""A task and data in, checkpoints out: the training run of one rank, from where the last one stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from meddx.errors import ClusterError, DataError
from meddx.progress import advance
from meddx.train.batches import Loader
from meddx.train.checkpoint import CheckpointStore, Snapshot
from meddx.train.communicate import Communicator, agree
from meddx.train.gradient import FlatGradient, GradientStep, SharedBuffers
from meddx.train.imbalance import settle
from meddx.train.machine import Machine, device, native_bf16, precision, threads
from meddx.train.optimizer import build_optimizer, optimizer_tensors, rate, restore_optimizer, set_rate
from meddx.train.sampler import Stream
from meddx.train.seeds import WEIGHTS, seed_of
from meddx.train.task import Task, TrainData
from meddx.train.transfer import Start, freeze, take
from meddx.train.validate import BETTER, check_labels, gathered_logits, scores

OnStep = Callable[[int, float], None]


@dataclass
class Progress:
    """Everything about a run but its tensors; the JSON half of a checkpoint.

    `offset`: what is added to the logits of unweighted cases; `notes`: for the log; `made`: what was done to imbalance and weights.
    """

    step: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_step: int = 0
    best_score: float | None = None
    offset: list[float] | None = None
    finished: bool = False
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    exact: dict[str, Any] = field(default_factory=dict)


def fit(
    task: Task,
    data: TrainData,
    communicator: Communicator,
    store: CheckpointStore,
    *,
    cpus: int,
    log: Callable[[str], None] = lambda line: None,
    on_step: OnStep | None = None,
) -> None:
    """Train to the end, or from the newest whole checkpoint to the end.  All ranks call it; rank 0 writes and logs.

    `cpus`: threads of this rank; `on_step(step, loss)` after each step.  The result lies in `store`.
    Raises DataError when the validate part cannot choose an epoch, or when the loss is no longer a number; RecipeError when the
    target, or the network, cannot have what the options ask for.
    """
    check_labels(data.validate_labels, task.options.stop_on, task.head)
    snapshot, notes = store.newest()
    if not agree(communicator, snapshot.step if snapshot else -1, device(task.options)):
        next_step = "put the run's folder on storage that all nodes share"
        raise ClusterError("the workers see different checkpoints", str(store.folder), next_step)
    machine = _machine(task, communicator, cpus, snapshot)
    with threads(machine.threads):
        run = RankRun(task, data, communicator, store, machine, log)
        run.resume(snapshot, notes)
        run.to_the_end(on_step)


def _machine(task: Task, communicator: Communicator, cpus: int, snapshot: Snapshot | None) -> Machine:
    """As the checkpoint says where there is one; all ranks alike, so one worker without bf16 means fp32 for all."""
    place = device(task.options)
    votes = torch.tensor([float(native_bf16(place))], dtype=torch.float64, device=place)
    communicator.sum(votes)
    chosen = precision(task.options, task.specs, bf16=bool(votes[0] == communicator.world))
    kept = snapshot.state["exact"] if snapshot else {}
    count = int(kept.get("threads", cpus))
    return Machine(place, count if count <= cpus else cpus, kept.get("precision", chosen) if task.options.precision == "auto" else chosen)


class RankRun:
    """One rank's model, optimiser and place in the stream."""

    def __init__(
        self, task: Task, data: TrainData, communicator: Communicator, store: CheckpointStore, machine: Machine, log: Callable[[str], None]
    ) -> None:
        self.task, self.communicator, self.store, self.machine = task, communicator, store, machine
        self.log = log if communicator.rank == 0 else lambda line: None
        self.imbalance = settle(task.options, task.head, data.train_labels)
        self.model, changes = _network(task, machine, communicator, data.start)
        self.optimizer = build_optimizer(self.model, task.options)
        self.train = Loader(data.train, data.train_labels, task.specs, machine)
        self.validate = Loader(data.validate, data.validate_labels, task.specs, machine)
        self.stream = Stream(len(self.train), task.options.batch, task.options.epochs, task.options.seed, self.imbalance.members)
        self.gradient = GradientStep(
            task=task,
            model=self.model,
            loader=self.train,
            ids=data.train_ids,
            stream=self.stream,
            communicator=communicator,
            flat=FlatGradient(self.model),
            buffers=SharedBuffers(self.model),
            class_weights=_on_device(self.imbalance.class_weights, machine),
            focal=self.imbalance.focal,
        )
        offset = None if self.imbalance.offset is None else list(self.imbalance.offset)
        self.progress = Progress(offset=offset, made=[line for line in (*changes, self.imbalance.words) if line])

    def resume(self, snapshot: Snapshot | None, notes: list[str]) -> None:
        """Take up where a checkpoint stopped; say so, and whether what follows can be equal bit for bit."""
        for note in notes:
            self.log(note)
        now = self._exact()
        if snapshot is None:
            notes = [*notes, *self.progress.made]
            for line in self.progress.made:
                self.log(line)
        else:
            self._restore(snapshot.tensors)
            self.progress = Progress(**snapshot.state)
            changed = [f"{key} {now[key]} instead of {was}" for key, was in self.progress.exact.items() if now.get(key) != was]
            resumed = f"resumed after epoch {self.progress.epoch} (step {self.progress.step})"
            notes = [*notes, f"{resumed}{': equal to rounding only, ' + ', '.join(changed) if changed else ''}"]
            self.log(notes[-1])
        self.progress.notes += notes
        self.progress.exact = now

    def to_the_end(self, on_step: OnStep | None) -> None:
        """Step until the stream or the patience ends; at the end of each epoch validate and publish."""
        losses: list[float] = []
        started = time.perf_counter()
        while not self.progress.finished:
            losses.append(self.one_step())
            if on_step:
                on_step(self.progress.step, losses[-1])
            advance(self.log, "training, steps", self.progress.step, self.stream.steps)
            epoch = self.stream.epochs_done(self.progress.step)
            if epoch > self.progress.epoch:
                self.progress.epoch = epoch
                self.progress.seconds += time.perf_counter() - started
                started = time.perf_counter()
                self._end_epoch(float(np.mean(losses)))
                losses = []
        advance(self.log, "training, steps", self.stream.steps, self.stream.steps)

    def one_step(self) -> float:
        """One optimiser step; the batch's mean loss."""
        step = self.progress.step
        loss = self.gradient(step)
        set_rate(self.optimizer, rate(step, self.stream.steps, self.task.options))
        self.optimizer.step()
        self.progress.step = step + 1
        return loss

    def _end_epoch(self, loss: float) -> None:
        """Validate on unweighted cases, judge, publish."""
        if not np.isfinite(loss):
            raise DataError(
                f"training diverged in epoch {self.progress.epoch}: the loss is not a number",
                "training.lr",
                "lower training.lr, or look for extreme values in the inputs",
            )
        logits = gathered_logits(self.model, self.validate, self.communicator, self.task.head.n_outputs, self.task.options.batch)
        progress, options = self.progress, self.task.options
        measured = scores(self.task.head, logits if progress.offset is None else logits + np.array(progress.offset), self.validate.labels)
        last = options.stop_on == "last"
        score = 0.0 if last else BETTER[options.stop_on] * measured[options.stop_on]
        if last or progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_epoch, progress.best_step = score, progress.epoch, progress.step
        waited = progress.epoch - progress.best_epoch
        progress.finished = progress.step >= self.stream.steps or 0 < options.patience <= waited
        defined = {name: number if np.isfinite(number) else None for name, number in measured.items() if name != "log_loss"}
        entry = {"epoch": progress.epoch, "step": progress.step, "train_loss": loss, "log_loss": measured["log_loss"], **defined}
        progress.history.append({**entry, "seconds": round(progress.seconds, 3)})
        self._publish()
        self.log(progress_line(progress.history[-1], options.epochs, best=waited == 0))

    def _publish(self) -> None:
        if self.communicator.rank == 0:
            weights = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
            moments = {f"adamw/{name}": tensor for name, tensor in optimizer_tensors(self.model, self.optimizer).items()}
            self.store.save(self.progress.step, asdict(self.progress), {**weights, **moments}, self.progress.best_step)

    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "adamw": {}}
        for place, tensor in tensors.items():
            part, _, name = place.partition("/")
            parts[part][name] = tensor
        self.model.load_state_dict(parts["model"])
        restore_optimizer(self.model, self.optimizer, parts["adamw"])

    def _exact(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be equal bit for bit."""
        return {
            "precision": self.machine.precision,
            "threads": self.machine.threads,
            "workers": self.communicator.world,
            "shards": self.task.options.n_shards,
            "torch": torch.__version__,
        }


def progress_line(entry: dict[str, Any], epochs: int, best: bool) -> str:
    """One line of the log for one epoch."""
    found = [f"  {name} {entry[name]:.4f}" for name in ("log_loss", "auroc", "f1", "kappa", "mae") if entry.get(name) is not None]
    where = f"epoch {entry['epoch']}/{epochs}  step {entry['step']}  loss {entry['train_loss']:.4f}"
    return f"{where}  validate:{''.join(found)[1:]}  {entry['seconds']:.0f} s{'  best' if best else ''}"


def _on_device(weights: np.ndarray | None, machine: Machine) -> torch.Tensor | None:
    if weights is None:
        return None
    return torch.from_numpy(weights).to(machine.device, torch.float64 if machine.precision == "fp64" else torch.float32)


def _network(task: Task, machine: Machine, communicator: Communicator, start: Start | None) -> tuple[nn.Module, list[str]]:
    """The same first weights on every rank: drawn from the seed or taken from elsewhere, and copied from rank 0 all the same.

    With a line in words for each thing that was taken or frozen.
    """
    torch.manual_seed(seed_of(WEIGHTS, task.options.seed))
    model = task.network()
    changes = take(model, start) if start else []
    model = model.to(machine.device, torch.float64) if machine.precision == "fp64" else model.to(machine.device)
    if any(spec.get("kind") == "image" for spec in task.specs.values()):
        for weight in model.parameters():
            if weight.ndim == 4:  # not a volume's, which have five sides
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    for tensor in model.state_dict().values():
        communicator.copy_first(tensor)
    model.train()
    return model, [*changes, *freeze(model, task.options.freeze)]

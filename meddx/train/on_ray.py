"""Training on Ray Train's workers: the same loop, with gloo or NCCL between the ranks.

Data goes out once by reference (workers of a node map the same memory); results come back through our own checkpoint store.
`ray.train.report` is not called: it is a barrier that waits for the controller's next poll, and says nothing that the store does not.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend

from meddx.cluster import cpus_per_worker
from meddx.errors import ClusterError, DataError, RecipeError
from meddx.progress import advance
from meddx.storage import StoragePath
from meddx.train.checkpoint import CheckpointStore
from meddx.train.communicate import Communicator, Group
from meddx.train.loop import fit, progress_line
from meddx.train.network_interface import interface_of
from meddx.train.task import Task, TrainData

MAX_FAILURES = 3
GROUP_TIMEOUT_S = 300
POLL_S = 0.5

# What runs on a rank: (communicator, payload, cpus) -> something small and without tensors; rank 0's comes back.
Job = Callable[[Communicator, Any, int], Any]


def train_on_ray(task: Task, data: TrainData, store: CheckpointStore, run_dir: StoragePath, log: Callable[[str], None]) -> None:
    """Run the whole training on `task.options.workers` workers of the connected cluster; a dead worker costs at most one epoch."""
    workers, gpu = task.options.workers, task.options.gpu
    seen = _Watch(store, task.options.epochs, log)
    job = partial(_fit_rank, task, store)
    run_on_workers(job, data, workers=workers, gpu=gpu, folder=run_dir / "ray", name=store.fingerprint[:32], meanwhile=seen.look)
    seen.look()


def run_on_workers(
    job: Job, payload: Any, *, workers: int, gpu: bool = False, folder: StoragePath, name: str, meanwhile: Callable[[], None] = lambda: None
) -> Any:
    """Run `job` on each of `workers` equal ranks and return what rank 0 returned.

    `folder`: for Ray's own bookkeeping, on storage that all nodes share; `meanwhile` is called about twice a second in this thread.
    Raises the job's DataError or RecipeError as it is, and ClusterError when workers fail more than MAX_FAILURES times.
    """
    cpus = cpus_per_worker(workers, gpu=gpu)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "payload": ray.put(payload), "cpus": cpus, "gpu": gpu},
        torch_config=InterfaceTorchConfig(timeout_s=GROUP_TIMEOUT_S),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": cpus, **({"GPU": 1} if gpu else {})}),
        run_config=RunConfig(
            name=name,
            storage_path=folder.key,
            storage_filesystem=folder.filesystem,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    answer = _fit_in_thread(trainer, meanwhile)
    if isinstance(answer, DataError | RecipeError):
        raise answer
    return answer


def _fit_rank(task: Task, store: CheckpointStore, communicator: Communicator, data: TrainData, cpus: int) -> None:
    fit(task, data, communicator, store, cpus=cpus)


def _worker(config: dict[str, Any]) -> Any:
    """One rank.  What is wrong with the data or the recipe is wrong on every rank and stays wrong: it is returned, so that Ray
    does not retry."""
    context = ray.train.get_context()
    communicator = Group(context.get_world_rank(), context.get_world_size())
    try:
        return config["job"](communicator, ray.get(config["payload"]), config["cpus"])
    except (DataError, RecipeError) as error:
        return error


def _fit_in_thread(trainer: TorchTrainer, meanwhile: Callable[[], None]) -> Any:
    """`trainer.fit()` beside the main thread: there it would take over Ctrl-C, and answer it with exit code 0."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="meddx-train")
    running = pool.submit(trainer.fit)
    pool.shutdown(wait=False)
    while not wait([running], timeout=POLL_S).done:
        meanwhile()
    try:
        return running.result().return_value
    except (ray.train.TrainingFailedError, RayError) as error:
        raise ClusterError(_reason(error), "training", "run the same command again: it goes on from the last checkpoint") from error


def _reason(error: BaseException) -> str:
    failures = getattr(error, "worker_failures", {})
    lines = [f"worker {rank}: {type(failure).__name__}: {str(failure).strip()[-300:]}" for rank, failure in sorted(failures.items())]
    return "training failed on Ray: " + ("; ".join(lines[:3]) or str(error)[:300])


class _Watch:
    """Tells the log what appeared in the store since the last look."""

    def __init__(self, store: CheckpointStore, epochs: int, log: Callable[[str], None]) -> None:
        self._store, self._epochs, self._log = store, epochs, log
        before = store.progress()
        self._epoch, self._notes = before.get("epoch", 0), len(before.get("notes", []))

    def look(self) -> None:
        state = self._store.progress()
        for note in state.get("notes", [])[self._notes :]:
            self._log(note)
        self._notes = max(self._notes, len(state.get("notes", [])))
        if state:
            advance(self._log, "training, epochs", self._epochs if state["finished"] else state["epoch"], self._epochs)
        for entry in state.get("history", []):
            if entry["epoch"] > self._epoch:
                self._log(progress_line(entry, self._epochs, best=entry["epoch"] == state["best_epoch"]))
                self._epoch = entry["epoch"]


class InterfaceTorchConfig(TorchConfig):  # type: ignore[misc]
    """Ray's process group, on the network interface that carries the node's address.

    Gloo picks the interface of the host's name, which is 127.0.x.1 on Debian; the group then never meets, and Ray does not retry.
    """

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _InterfaceBackend


class _InterfaceBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(_use_interface)
        super().on_start(worker_group, backend_config)


def _use_interface() -> None:
    import os

    name = interface_of(ray.util.get_node_ip_address())
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)

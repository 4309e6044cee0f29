"""A processor and the recipe's wishes in, the device, threads and precision that a worker computes with out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from meddx.errors import ClusterError
from meddx.train.options import TrainingOptions

Precision = Literal["fp32", "bf16", "fp64"]


@dataclass(frozen=True)
class Machine:
    """device: `cpu` or `cuda`; threads: of one worker.  Kept in every checkpoint: other threads sum in another order."""

    device: str
    threads: int
    precision: Precision

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def available_cpus() -> int:
    """CPUs that this process may use: the affinity mask, OMP_NUM_THREADS where set, and the container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cpus, int(asked) if asked.isdigit() else cpus, _quota(Path("/sys/fs/cgroup/cpu.max"), cpus)))


def precision(options: TrainingOptions, specs: Mapping[str, Mapping[str, Any]], *, bf16: bool) -> Precision:
    """What `auto` means: bf16 where the processor multiplies it natively and there are pictures, else fp32.

    Measured on 2 cores with avx512_bf16: a step of the small CNN takes half as long in bf16 (64 pictures, 28 pixels: 12.6 against
    24.3 ms; 64 pixels: 69 against 141 ms).  Processors without it emulate it more slowly than fp32, and a table's network is too
    small to gain.  Decided by rule, not by timing, so that the same recipe on the same machine always decides alike.
    """
    if options.precision != "auto":
        return options.precision
    pictures = any(spec.get("kind") == "image" for spec in specs.values())
    return "bf16" if bf16 and pictures else "fp32"


def native_bf16(device: str) -> bool:
    """Whether the processor itself computes in bf16.  Linux on x86, or a GPU that says so; elsewhere no."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    flags = {flag for line in info.read_text().splitlines() if line.startswith("flags") for flag in line.split()}
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def device(options: TrainingOptions) -> str:
    """`cuda` where the recipe asks for a GPU; ClusterError where there is none."""
    if not options.gpu:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        next_step = "set training.gpu: false, or run on a machine with a GPU"
        raise ClusterError("the recipe asks for a GPU and there is none here", "training.gpu", next_step)
    return "cuda"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads.  Said explicitly, because Ray sets one thread for a worker whatever its CPUs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quota(limits: Path, otherwise: int) -> int:
    """The CPUs of a container, from cgroup v2's `quota period` in microseconds."""
    if not limits.exists():
        return otherwise
    quota, _, period = limits.read_text().strip().partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else otherwise

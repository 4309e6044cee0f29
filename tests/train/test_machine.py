from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from meddx.errors import ClusterError
from meddx.train import machine
from meddx.train.machine import Machine, available_cpus, device, native_bf16, precision, threads
from meddx.train.options import TrainingOptions

PICTURES = {"film": {"kind": "image"}, "table": {"kind": "table"}}
TABLE = {"table": {"kind": "table"}}


@pytest.mark.parametrize(
    ("asked", "specs", "native", "chosen"),
    [
        ("auto", PICTURES, True, "bf16"),
        ("auto", PICTURES, False, "fp32"),
        ("auto", TABLE, True, "fp32"),
        ("bf16", TABLE, False, "bf16"),
        ("fp64", PICTURES, True, "fp64"),
    ],
)
def test_precision_is_a_rule(asked: Any, specs: Any, native: bool, chosen: str) -> None:
    assert precision(TrainingOptions(precision=asked), specs, bf16=native) == chosen


def test_bf16_is_read_from_the_processors_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "Path", lambda place: info)
    assert not native_bf16("cpu")
    info.write_text("flags\t\t: fpu avx512f avx512bw\n")
    assert not native_bf16("cpu")
    info.write_text("model name\t: x\nflags\t\t: fpu avx512f avx512_bf16\n")
    assert native_bf16("cpu")


def test_autocast_only_for_bf16() -> None:
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    with Machine("cpu", 1, "bf16").autocast():
        assert (left @ right).dtype == torch.bfloat16
    with Machine("cpu", 1, "fp32").autocast():
        assert (left @ right).dtype == torch.float32


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="inside"), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("inside")
    assert torch.get_num_threads() == before


def test_cpus_obey_the_usual_variable_and_the_containers_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    limits = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "Path", lambda place: limits)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert available_cpus() == 16
    limits.write_text("400000 100000\n")
    assert available_cpus() == 4
    limits.write_text("max 100000\n")
    assert available_cpus() == 16
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_cpus() == 3


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device(TrainingOptions()) == "cpu"
    with pytest.raises(ClusterError, match="GPU"):
        device(TrainingOptions(gpu=True))

from __future__ import annotations

import pytest
import torch

from meddx.train.optimizer import build_optimizer, optimizer_tensors, rate, restore_optimizer, set_rate
from meddx.train.options import TrainingOptions


def test_rate_rises_then_falls_as_a_cosine() -> None:
    options = TrainingOptions(lr=0.1, warmup=0.1)
    rates = [rate(step, 100, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.01) and rates[9] == pytest.approx(0.1) == max(rates)
    assert rates[10] == pytest.approx(0.1) and rates[55] == pytest.approx(0.05) and rates[99] < 1e-4
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rate(0, 1, TrainingOptions(lr=0.1, warmup=0.0)) == 0.1  # one step is a whole training too


def test_biases_and_norms_do_not_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 1))
    groups = build_optimizer(model, TrainingOptions(weight_decay=0.3)).param_groups
    decay = {tuple(parameter.shape): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay == {(2, 1, 3, 3): 0.3, (1, 2): 0.3, (2,): 0.0, (1,): 0.0}


def test_restored_state_goes_on_bit_for_bit() -> None:
    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            model(torch.ones(2, 3, 5, 5)).square().sum().backward()
            set_rate(optimizer, 0.01)
            optimizer.step()
            optimizer.zero_grad()

    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model, build_optimizer(model, TrainingOptions())

    whole, whole_optimizer = fresh()
    steps(whole, whole_optimizer, 3)
    tensors = {name: tensor.contiguous().clone() for name, tensor in optimizer_tensors(whole, whole_optimizer).items()}
    second, second_optimizer = fresh()
    second.load_state_dict(whole.state_dict())
    restore_optimizer(second, second_optimizer, tensors)
    for model, optimizer in ((whole, whole_optimizer), (second, second_optimizer)):
        steps(model, optimizer, 3)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in whole.state_dict().items())

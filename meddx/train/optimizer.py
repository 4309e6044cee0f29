"""A gradient in, changed weights out: AdamW with warm-up and cosine, and its state as plain tensors."""

from __future__ import annotations

import math

import torch
from torch import nn

from meddx.train.options import TrainingOptions


def rate(step: int, steps: int, options: TrainingOptions) -> float:
    """The learning rate of a step: rises over the first `warmup` share of the steps, then falls to 0 as half a cosine."""
    rising = max(1, round(options.warmup * steps))
    if step < rising:
        return options.lr * (step + 1) / rising
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def build_optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019); biases and norms (one axis) do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=options.lr, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The moments and step counters, by `parameter/key`."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, in the memory layout of each parameter."""
    parameters = dict(model.named_parameters())
    for place, value in tensors.items():
        name, _, key = place.rpartition("/")
        parameter = parameters[name]
        kept = value.to(parameter.device) if value.ndim == 0 else torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][key] = kept.detach()

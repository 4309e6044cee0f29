"""A model and the validate part in, the numbers that pick an epoch out, the same on every rank."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from meddx.errors import DataError, RecipeError
from meddx.models.heads.measures import auroc
from meddx.train.batches import Loader
from meddx.train.communicate import Communicator
from meddx.train.task import Head, Labels

__all__ = ["BETTER", "auroc", "check_labels", "gathered_logits", "scores"]

BETTER = {"log_loss": -1, "auroc": 1, "f1": 1, "kappa": 1}  # the sign that makes more better
_NAMES = {"log_loss": "log loss", "auroc": "AUROC", "f1": "F1", "kappa": "kappa"}


def gathered_logits(model: nn.Module, loader: Loader, communicator: Communicator, n_outputs: int, block: int) -> np.ndarray:
    """Logits of every case, float64 [n, k].

    Cases are cut into fixed blocks, dealt to the ranks in turn.  The last block is padded with its last case, because a
    forward's last bits depend on its shape, and the padding is thrown away.  Each row is filled by one rank, the others add 0.
    """
    cases = len(loader)
    logits = torch.zeros((cases, n_outputs), dtype=torch.float64, device=loader.machine.device)
    learning = [module for module in model.modules() if module.training]  # not all: a frozen BatchNorm stays in evaluation
    model.eval()
    with torch.inference_mode(), loader.machine.autocast():
        for start in range(communicator.rank * block, cases, communicator.world * block):
            rows = np.minimum(np.arange(start, start + block), cases - 1)
            filled = min(block, cases - start)
            logits[start : start + filled] = model(loader.inputs(rows))[:filled].double()
    for module in learning:
        module.training = True
    communicator.sum(logits)
    return logits.cpu().numpy()


def scores(head: Head, logits: np.ndarray, labels: Labels) -> dict[str, float]:
    """Unweighted numbers of the known labels: `log_loss`, and what the head has of auroc, f1, kappa, mae (NaN where not defined)."""
    return head.monitor(logits, labels.values, labels.known)


def check_labels(labels: Labels, stop_on: str, head: Head) -> None:
    """Refuse a validate part that cannot choose an epoch (DataError), or a number that the target does not have (RecipeError)."""
    if not labels.known.any():
        raise DataError("the validate part has no labelled case", "split", "give validate a larger share, or check the target's values")
    if stop_on == "last":
        return
    found = scores(head, np.zeros((len(labels.known), head.n_outputs)), labels)
    if stop_on not in found:
        allowed = [name for name in BETTER if name in found]
        raise RecipeError(f"a {head.kind} target has no {stop_on}", "training.stop_on", f"allowed: {', '.join(allowed)}, last")
    if not np.isfinite(found[stop_on]):
        next_step = "use log_loss or last, or give validate a larger share"
        raise DataError(f"the validate part has only one class: {_NAMES[stop_on]} is not defined", "training.stop_on", next_step)

"""A model and the validate part in, one log loss and AUROC out, the same on every rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from meddx.errors import DataError
from meddx.train.batches import Loader
from meddx.train.communicate import Communicator
from meddx.train.task import Head, Labels


def gathered_logits(model: nn.Module, loader: Loader, communicator: Communicator, n_outputs: int, block: int) -> np.ndarray:
    """Logits of every case, float64 [n, k].

    Cases are cut into fixed blocks, dealt to the ranks in turn.  The last block is padded with its last case, because a
    forward's last bits depend on its shape, and the padding is thrown away.  Each row is filled by one rank, the others add 0.
    """
    cases = len(loader)
    logits = torch.zeros((cases, n_outputs), dtype=torch.float64, device=loader.machine.device)
    model.eval()
    with torch.inference_mode(), loader.machine.autocast():
        for start in range(communicator.rank * block, cases, communicator.world * block):
            rows = np.minimum(np.arange(start, start + block), cases - 1)
            filled = min(block, cases - start)
            logits[start : start + filled] = model(loader.inputs(rows))[:filled].double()
    model.train()
    communicator.sum(logits)
    return logits.cpu().numpy()


def scores(head: Head, logits: np.ndarray, labels: Labels) -> dict[str, float]:
    """`log_loss` (unweighted mean over known labels) and `auroc` (mean over classes or labels that have both sides)."""
    values, known = (torch.from_numpy(array.copy()) for array in (labels.values, labels.known))
    total, count = head.loss(torch.from_numpy(logits), values, known, None)
    columns = _columns(head.probabilities(logits), labels)
    areas = [auroc(score, positive) for score, positive in columns if 0 < positive.sum() < len(positive)]
    return {"log_loss": float(total / count), "auroc": float(np.mean(areas)) if areas else float("nan")}


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """P(score of a positive > score of a negative), ties count half (Mann-Whitney).  score float [n], positive bool [n]."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int(positive.sum())
    return float((rank[positive].sum() - positives * (positives + 1) / 2) / (positives * (len(positive) - positives)))


def check_labels(labels: Labels, stop_on: str) -> None:
    """Refuse a validate part that cannot choose an epoch."""
    if not labels.known.any():
        raise DataError("the validate part has no labelled case", "split", "give validate a larger share, or check the target's values")
    if stop_on == "auroc" and not any(0 < positive.sum() < len(positive) for positive in _sides(labels)):
        next_step = "use log_loss, or give validate a larger share"
        raise DataError("the validate part has only one class: AUROC is not defined", "training.stop_on", next_step)


def _sides(labels: Labels) -> list[np.ndarray]:
    """Per class or label: which of the known cases are positive."""
    values = labels.values
    if values.ndim == 2:
        return [values[labels.known[:, k], k] > 0.5 for k in range(values.shape[1])]
    known = values[labels.known]
    if np.issubdtype(values.dtype, np.integer):
        return [known == k for k in range(int(known.max(initial=0)) + 1)]
    return [known > 0.5]


def _columns(probabilities: np.ndarray, labels: Labels) -> list[tuple[Any, np.ndarray]]:
    known = labels.known if labels.known.ndim == 2 else labels.known[:, None].repeat(probabilities.shape[1], 1)
    return [(probabilities[known[:, k], k], positive) for k, positive in enumerate(_sides(labels))]

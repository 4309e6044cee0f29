"""What training needs to know, as plain values: the data, the network, the head, the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from meddx.train.options import TrainingOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from meddx.train.transfer import Start


class Labels(Protocol):
    """values: float32 [n] (binary 0/1), int64 [n] (multiclass, ordinal), float [n] (regression, own unit), float32 [n, k]
    (multilabel); known: bool of the same shape."""

    @property
    def values(self) -> np.ndarray: ...
    @property
    def known(self) -> np.ndarray: ...


class Head(Protocol):
    """The part of `meddx.models.heads.Head` that training uses."""

    @property
    def kind(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def n_outputs(self) -> int: ...
    def loss(
        self, logits: Tensor, labels: Tensor, known: Tensor, class_weights: Tensor | None = None, focal: float = 0.0
    ) -> tuple[Tensor, Tensor]: ...
    def denominator(self, labels: Tensor, known: Tensor, class_weights: Tensor | None = None) -> Tensor: ...
    def balanced_weights(self, values: np.ndarray, known: np.ndarray) -> np.ndarray: ...
    def offset(self, class_weights: np.ndarray) -> np.ndarray: ...
    def monitor(self, logits: np.ndarray, values: np.ndarray, known: np.ndarray) -> dict[str, float]: ...


Arrays = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class TrainData:
    """Two parts as arrays: input name -> array name (with `present`) -> [n, ...].  `train_ids`: int64 [n], a number that stays
    with its case (augmentation is drawn by it).  `start`: weights to start from.  Unlabelled cases are not here."""

    train: Arrays
    train_labels: Labels
    train_ids: np.ndarray
    validate: Arrays
    validate_labels: Labels
    start: Start | None = None


@dataclass(frozen=True)
class Task:
    """One training run, wherever it runs.  `network` builds the model from the seed that torch has at that moment.

    `pretrained`: input to the local directory that its encoder's first weights come from.
    """

    network: Callable[[], nn.Module]
    head: Head
    specs: Mapping[str, Mapping[str, Any]]
    options: TrainingOptions
    pretrained: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """The best epoch's weights, one row of `history` an epoch, and the seconds of all attempts together.

    `offset` [n_outputs]: to add to the logits, None for nothing; `notes`: what was done to imbalance and weights, in words.
    """

    weights: dict[str, Tensor]
    history: list[dict[str, Any]]
    best_epoch: int
    seconds: float
    offset: list[float] | None = None
    notes: list[str] = field(default_factory=list)

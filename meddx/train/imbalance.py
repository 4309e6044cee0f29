"""What to do about rare classes in; class weights, the rows of each class, or a focal power out, and what undoes it.

Weighting and sampling multiply the odds that the network learns by known factors: `offset` takes them out of the logits
again, exactly.  Focal loss bends the scale by no known amount, so there is no offset: calibration has to mend it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meddx.errors import RecipeError
from meddx.train.options import TrainingOptions
from meddx.train.task import Head, Labels

_WHERE = "training.imbalance"
_SAMPLED = ("binary", "multiclass")


@dataclass(frozen=True)
class Imbalance:
    """`class_weights`: as the head wants them; `members`: a row-number array int64 a class that was seen, empty without sampling;
    `focal`: the power; `offset`: [n_outputs], added to the logits of unweighted cases; `words`: for the record, "" for none."""

    class_weights: np.ndarray | None = None
    members: tuple[np.ndarray, ...] = ()
    focal: float = 0.0
    offset: tuple[float, ...] | None = None
    words: str = ""


def settle(options: TrainingOptions, head: Head, labels: Labels) -> Imbalance:
    """What the recipe's word means for train's labels.  RecipeError where the kind of target cannot have it."""
    if options.imbalance == "class_weights":
        weights = head.balanced_weights(labels.values, labels.known)
        offset = tuple(map(float, head.offset(weights)))
        return Imbalance(weights, offset=offset, words=f"imbalance: class weights {_shown(weights)}; {_undone(offset)}")
    if options.imbalance == "balanced_sampling":
        return _sampled(head, labels)
    if options.imbalance == "focal":
        if head.kind == "regression":
            raise RecipeError("focal loss needs classes, and the target is a value", _WHERE, "use none")
        words = f"imbalance: focal loss, power {options.focal:g}; its scale has no known offset: calibration mends it"
        return Imbalance(focal=options.focal, words=words)
    return Imbalance()


def _sampled(head: Head, labels: Labels) -> Imbalance:
    """Every class that train has is drawn equally often: class k at n / (classes * count) times its own share."""
    if head.kind not in _SAMPLED:
        next_step = "use class_weights or focal" if head.kind == "multilabel" else "use none"
        raise RecipeError(f"balanced sampling needs classes without an order, one a case, not a {head.kind} target", _WHERE, next_step)
    numbers = np.where(labels.known, np.nan_to_num(labels.values), -1).astype(np.int64)
    counts = np.array([(numbers == k).sum() for k in range(len(head.classes))], dtype=np.float64)
    seen = counts > 0
    rates = np.where(seen, counts.sum() / (seen.sum() * np.maximum(counts, 1)), 1.0)
    offset = tuple(map(float, head.offset(rates)))
    members = tuple(np.flatnonzero(numbers == k) for k in np.flatnonzero(seen))
    return Imbalance(
        members=members, offset=offset, words=f"imbalance: classes drawn equally often, {_shown(rates)} times; {_undone(offset)}"
    )


def _shown(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:.3g}" for number in np.ravel(numbers))


def _undone(offset: tuple[float, ...]) -> str:
    return f"logits are moved by {_shown(np.array(offset))}, back to unweighted cases"

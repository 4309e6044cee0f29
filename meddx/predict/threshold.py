"""Probabilities and answers in, the threshold that meets a goal out.

Every threshold that changes a decision is looked at: one between each pair of neighbouring distinct probabilities, one
below the lowest (always yes) and one above the highest (never yes).  Equal probabilities always stand on one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from meddx.errors import DataError
from meddx.predict import adjust
from meddx.predict.interval import half_width
from meddx.predict.options import GOAL, ThresholdOptions

if TYPE_CHECKING:
    from meddx.dataset.target import Labels

Floats = NDArray[np.float64]
EVEN = 0.5
REPORTED = 0.95  # confidence of the bounds in the bundle where the recipe asks for none


@dataclass(frozen=True)
class Candidates:
    """All thresholds worth looking at, from never yes (first) to always yes (last); counts of cases with p >= value."""

    values: Floats
    true: Floats
    false: Floats
    positives: int
    negatives: int

    @property
    def sensitivity(self) -> Floats:
        return self.true / self.positives

    @property
    def specificity(self) -> Floats:
        return 1 - self.false / self.negatives

    @property
    def ppv(self) -> Floats:
        """Share of yes that is right; 0 where there is no yes, for a goal must not be met by silence."""
        return self.true / np.maximum(self.true + self.false, 1)


def clopper_pearson_lower(hits: Floats, of: Floats | int, confidence: float) -> Floats:
    """One-sided lower bound of a proportion: the share p at which `hits` or more of `of` has probability 1 - confidence.

    Clopper and Pearson, Biometrika 26 (1934) 404: the 1 - confidence quantile of Beta(hits, of - hits + 1); 0 for no hits.
    """
    from scipy.special import betaincinv

    hits, total = np.broadcast_arrays(np.asarray(hits, float), np.asarray(of, float))
    some = hits > 0
    bound = np.zeros(hits.shape)
    bound[some] = betaincinv(hits[some], total[some] - hits[some] + 1, 1 - confidence)
    return bound


def candidates(probabilities: NDArray[Any], labels: NDArray[Any]) -> Candidates:
    """`probabilities` [n] in 0..1, `labels` [n] 0 or 1.  Raises DataError where there is no goal to meet."""
    scores, truth = np.asarray(probabilities, np.float64), np.asarray(labels) > 0.5
    if not np.isfinite(scores).all() or (len(scores) and (scores.min() < 0 or scores.max() > 1)):
        raise DataError("a probability is not a number between 0 and 1", "choosing the threshold")
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        raise DataError(
            f"a threshold needs both answers, and there are {positives} positive and {negatives} negative cases",
            "choosing the threshold on the calibrate part",
            "give the calibrate part a larger share, or check target.positive and target.negative",
        )
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # the last case of each group of equals
    true = np.concatenate([[0.0], np.cumsum(truth)[last]])
    flagged = np.concatenate([[0.0], last + 1.0])
    return Candidates(_between(scores[last]), true, flagged - true, positives, negatives)


def _between(distinct: Floats) -> Floats:
    """Midpoints of neighbours, so that the last bits of a probability flip no decision; the outer neighbours are 1 and 0."""
    above = np.concatenate([[1.0], distinct])
    below = np.concatenate([distinct, [0.0]])
    middle = (above + below) / 2
    middle = np.where(middle > below, middle, above)  # neighbours without a number between them
    middle[-1] = distinct[-1] / 2
    if distinct[0] == 1.0:
        middle[0] = np.nextafter(1.0, 2.0)  # never yes
    return middle


def choose_threshold(options: ThresholdOptions, probabilities: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """The threshold for `options.goal`, as JSON; a case is positive when its probability >= `value`.

    youden: max sensitivity + specificity - 1 (Youden, Cancer 3 (1950) 32); f1: max harmonic mean of sensitivity and PPV;
    balance: max of min(sensitivity, PPV); likeliest: 0.5, which errs least often where probabilities are right.
    `sensitivity >= x` takes the highest specificity among the thresholds that meet it, `specificity >= x` and `ppv >= x` the
    highest sensitivity.  With `confidence` the Clopper-Pearson lower bound must meet x.  Of equally good thresholds the lowest,
    which misses fewer.  Raises DataError, naming the best reachable value.
    """
    found = candidates(probabilities, labels)
    matched = GOAL.match(options.goal)
    if matched is None or options.goal == adjust.GOAL:
        raise DataError(f"the goal {options.goal!r} is not one of yes and no", "threshold.goal")
    quantity, least = matched.group(2), matched.group(3)
    if options.goal == "likeliest":
        place = int(np.argmax(found.true + found.false == np.count_nonzero(np.asarray(probabilities) >= EVEN)))
    else:
        place = _best(_worth(found, options.goal)) if quantity is None else _meeting(found, quantity, float(least), options)
    return {
        "value": EVEN if options.goal == "likeliest" else float(found.values[place]),
        "goal": options.goal,
        "confidence": options.confidence,
        "reached": _reached(found, place, options.confidence or REPORTED),
    }


def choose_thresholds(options: ThresholdOptions, head: Mapping[str, Any], probabilities: NDArray[Any], labels: Labels) -> dict[str, Any]:
    """The `threshold` of a bundle for any head: binary as `choose_threshold`, multilabel {"labels": {label: ...}}, multiclass
    {} or for the goal macro_f1 its weights (`adjust.choose_weights`), ordinal {}, tags {}, regression {"coverage": c, "half_width": h}
    of the interval value +- h (`interval.half_width`).

    `probabilities` [n, k] as `apply_calibration` gives them; unknown labels are left out.
    """
    if head["kind"] == "multiclass" and options.goal == adjust.GOAL:
        there = labels.known.reshape(-1)
        numbers = labels.values.reshape(-1)[there].astype(np.int64)
        return adjust.choose_weights(head["classes"], options.classes, probabilities[there], numbers)
    if head["kind"] in ("multiclass", "ordinal", "tags"):
        return {}  # the decision is the most probable class, the median one, or the likeliest entities
    if head["kind"] == "regression":
        there = labels.known.reshape(-1)
        width = half_width(np.asarray(probabilities).reshape(-1)[there], labels.values.reshape(-1)[there], options.coverage)
        return {"coverage": options.coverage, "half_width": width}
    truth, known = labels.values.reshape(len(probabilities), -1), labels.known.reshape(len(probabilities), -1)
    chosen = {}
    for column, name in enumerate(head["classes"] if head["kind"] == "multilabel" else head["classes"][1:]):
        rows = known[:, column]
        try:
            chosen[name] = choose_threshold(options, probabilities[rows, column], truth[rows, column])
        except DataError as error:
            raise DataError(error.what, f"{error.where}, answer {name!r}", error.next_step) from error
    return {"labels": chosen} if head["kind"] == "multilabel" else chosen[head["classes"][1]]


def _worth(found: Candidates, goal: str) -> Floats:
    if goal == "youden":
        # tp*N - fp*P is P*N times the index, in whole numbers, so that equal is equal
        return found.true * found.negatives - found.false * found.positives
    if goal == "f1":
        return 2 * found.true / (found.true + found.false + found.positives)
    return np.minimum(found.sensitivity, found.ppv)


def _best(worth: Floats) -> int:
    """The last, which is the lowest threshold, among the best."""
    return int(len(worth) - 1 - np.argmax(worth[::-1]))


def _meeting(found: Candidates, quantity: str, least: float, options: ThresholdOptions) -> int:
    hits, of = _proportion(found, quantity)
    meets = _meets(hits, of, least, options.confidence)
    if not meets.any():
        raise _unreachable(hits, of, options)
    other = -found.false if quantity == "sensitivity" else found.true
    worth = np.where(meets, other, -np.inf)
    best = np.flatnonzero(worth == worth.max())
    # equally good in the other quantity: the best in the goal's own
    own = hits[best] / np.maximum(of[best], 1)
    return int(best[_best(own)])


def _proportion(found: Candidates, quantity: str) -> tuple[Floats, Floats]:
    """(hits, of) of the goal's proportion at each candidate."""
    if quantity == "sensitivity":
        return found.true, np.full_like(found.true, found.positives)
    if quantity == "specificity":
        return found.negatives - found.false, np.full_like(found.true, found.negatives)
    return found.true, found.true + found.false


def _meets(hits: Floats, of: Floats, least: float, confidence: float | None) -> NDArray[np.bool_]:
    if confidence is None:
        # hits/of >= least without rounding 0.8 * 5 to just above 4
        return (of > 0) & (hits >= least * of - 1e-9)
    from scipy.special import betainc

    # the bound is at least `least` exactly when P(hits or more | least) <= 1 - confidence; cheaper than the bound itself
    meets = np.zeros(hits.shape, bool)
    some = hits > 0
    meets[some] = betainc(hits[some], of[some] - hits[some] + 1, least) <= 1 - confidence + 1e-12
    return meets


def _unreachable(hits: Floats, of: Floats, options: ThresholdOptions) -> DataError:
    some = of > 0
    hits, of = hits[some], of[some]
    if options.confidence is None:
        best, place = "", int(np.argmax(hits / of))
        value = hits[place] / of[place]
    else:
        bounds = clopper_pearson_lower(hits, of, options.confidence)
        place = int(np.argmax(bounds))
        value, best = bounds[place], f" as lower bound at confidence {options.confidence:g}"
    return DataError(
        f"no threshold meets the goal {options.goal!r}: the best reachable value is {np.floor(value * 1e4) / 1e4:.4f}{best} "
        f"({int(hits[place])} of {int(of[place])} cases)",
        "choosing the threshold on the calibrate part",
        "lower the goal, drop or lower `confidence`, or give the calibrate part more cases",
    )


def _reached(found: Candidates, place: int, confidence: float) -> dict[str, Any]:
    reached: dict[str, Any] = {"bound_confidence": confidence}
    for quantity in ("sensitivity", "specificity", "ppv"):
        hits, of = (float(one[place]) for one in _proportion(found, quantity))
        lower = float(clopper_pearson_lower(np.array([hits]), np.array([of]), confidence)[0])
        reached[quantity] = {"value": hits / of if of else None, "lower": lower, "hits": int(hits), "of": int(of)}
    return reached

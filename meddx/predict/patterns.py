"""Logits with inputs hidden in, a calibration for each set of absent inputs out; logits and who lacks what in, probabilities out.

A network that sees less should be less sure, and how much less is not in its logits: with one calibration for all, answers without an input
are too extreme.  So each pattern (a set of absent inputs) has a calibration of its own, fitted on cases of the calibrate part that lack
just these inputs, most of them because the stage hid them.  It stands in the calibration of the bundle:

    {"kind": ..., ..., "absent": {"": page, "labs": page, "labs+note": page, ...}}      "": nothing is absent

The page around `absent` is the one of all calibrate cases as they are; it is used where no pattern could be fitted.  A pattern without
a page uses that of the nearest pattern.  All functions are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddx.errors import BundleError, DataError
from meddx.inputs.prepare import Preparations
from meddx.inputs.types import Prepared
from meddx.predict.calibrate import Floats, apply_calibration, fit_calibration

if TYPE_CHECKING:
    from meddx.dataset.target import Labels
    from meddx.predict.options import Calibration

Pattern = frozenset[str]
Bools = NDArray[np.bool_]
ABSENT = "absent"  # the key of the patterns in a calibration
BETWEEN = "+"  # between the names of a pattern
NOTHING: Pattern = frozenset()
MOST_INPUTS = 4  # optional ones of which every set is fitted; of more only the single ones
LEAST_CASES, LEAST_OF_A_CLASS = 50, 10  # with fewer a slope is mostly chance


def key_of(pattern: Iterable[str]) -> str:
    """The name of a pattern: its inputs in alphabetical order."""
    return BETWEEN.join(sorted(pattern))


def patterns_of(inputs: Mapping[str, bool]) -> list[Pattern]:
    """The sets of inputs that are to be hidden, the empty one first; `inputs`: name to whether it is optional.

    Every set of up to MOST_INPUTS optional inputs, of more only the single ones; never all inputs at once.
    """
    optional = [name for name, may in inputs.items() if may and BETWEEN not in name]  # such a name would read as two
    sizes = range(len(optional) + 1) if len(optional) <= MOST_INPUTS else range(2)
    found = [frozenset(names) for size in sizes for names in combinations(optional, size)]
    return [one for one in found if one != frozenset(inputs)]


def hidden(preparations: Preparations, prepared: Mapping[str, Prepared], pattern: Collection[str]) -> dict[str, Prepared]:
    """The prepared rows as they were if nobody had brought the inputs of `pattern`, which are optional."""
    return {one.name: _absent(one, prepared[one.name]) if one.name in pattern else prepared[one.name] for one in preparations.inputs}


def present_of(preparations: Preparations, prepared: Mapping[str, Prepared]) -> dict[str, Bools]:
    """Optional input to bool [n]: is it there."""
    return {name: prepared[name].present for name in preparations.optional_names}


def logits_by_pattern(
    preparations: Preparations, prepared: Mapping[str, Prepared], logits_of: Callable[[Mapping[str, Prepared]], NDArray[Any]]
) -> dict[Pattern, NDArray[Any]]:
    """What `logits_of` says of the prepared rows with each set of optional inputs hidden; the rows as they are among them."""
    patterns = patterns_of({one.name: one.optional for one in preparations.inputs})
    return {pattern: logits_of(hidden(preparations, prepared, pattern) if pattern else prepared) for pattern in patterns}


def _absent(one: Any, prepared: Prepared) -> Prepared:
    """What the input makes of a table without its columns, for as many rows; views of one row."""
    rows = len(prepared.present)
    empty = one.transform(pa.table({"case_id": pa.nulls(1)}))
    arrays, aside = (
        {key: np.broadcast_to(values, (rows, *values.shape[1:])) for key, values in of.items()} for of in (empty.arrays, empty.aside)
    )
    return Prepared(arrays, np.zeros(rows, bool), aside=aside)


def calibrate_by_pattern(
    kind: Calibration | None, head: Mapping[str, Any], logits: Mapping[Pattern, NDArray[Any]], present: Mapping[str, Bools], labels: Labels
) -> dict[str, Any]:
    """`fit_calibration` of the cases as they are, with `absent` where the model looks at optional inputs.  Arguments as `fit_patterns`.

    An input that changes no logit when it is hidden counts as none: a model that does not look at it must not learn from who lacks it.
    """
    whole = fit_calibration(kind, head, logits[NOTHING], labels)
    ignored = {name for name in present if np.array_equal(logits.get(frozenset({name}), np.empty(0)), logits[NOTHING])}
    seen = {pattern: scores for pattern, scores in logits.items() if not pattern & ignored}
    if len(seen) < 2 or whole["kind"] == "none":
        return whole
    there = {name: one for name, one in present.items() if name not in ignored}
    return {**whole, ABSENT: fit_patterns(kind, head, seen, there, labels)}


def fit_patterns(
    kind: Calibration | None, head: Mapping[str, Any], logits: Mapping[Pattern, NDArray[Any]], present: Mapping[str, Bools], labels: Labels
) -> dict[str, dict[str, Any]]:
    """A page of calibration for each pattern, by its name; `cases` says on how many it was fitted, `notes` what was odd.

    `logits`: what was hidden to the logits [n, k] of all calibrate cases, the empty set too; `present`: optional input to bool [n] of the
    cases before anything was hidden; `labels` [n].  A pattern is fitted on the cases that lack nothing else.  One with too few known
    answers takes the page of the nearest pattern that has enough, or else that of all cases as they are, and its notes say so.
    """
    pages = {}
    for pattern, scores in logits.items():
        rows = _lacking_nothing_else(pattern, present, len(scores))
        chosen = labels.take(np.flatnonzero(rows))
        if _enough(head, chosen):
            pages[pattern] = {**fit_calibration(kind, head, scores[rows], chosen), "cases": int(chosen.labelled.sum())}
    whole = fit_calibration(kind, head, logits[NOTHING], labels)
    return {key_of(pattern): pages[pattern] if pattern in pages else _borrowed(pattern, pages, whole) for pattern in logits}


def _lacking_nothing_else(pattern: Pattern, present: Mapping[str, Bools], n: int) -> Bools:
    """bool [n]: after the inputs of `pattern` were hidden, just these are absent."""
    others = [there for name, there in present.items() if name not in pattern]
    return np.all(others, axis=0) if others else np.ones(n, bool)


def _borrowed(pattern: Pattern, pages: Mapping[Pattern, dict[str, Any]], whole: dict[str, Any]) -> dict[str, Any]:
    near = _nearest(pattern, list(pages))
    page = whole if near is None else pages[near]
    what = "all cases as they are" if near is None else f"cases without {key_of(near)}" if near else "cases that lack nothing"
    return {**page, "notes": [*page.get("notes", []), f"too few cases of this pattern: the calibration of {what} is used"]}


def _nearest(pattern: Pattern, others: Sequence[Pattern]) -> Pattern | None:
    """The one with the fewest inputs that only one of the two lacks; of equals the one that lacks more, then by name."""
    return min(others, key=lambda one: (len(one ^ pattern), -len(one), key_of(one)), default=None)


def _enough(head: Mapping[str, Any], labels: Labels) -> bool:
    if int(labels.labelled.sum()) < LEAST_CASES:
        return False
    if head["kind"] == "regression":
        return True
    classes = len(head["classes"]) if head["kind"] in ("multiclass", "ordinal") else 2
    values, known = (np.asarray(one).reshape(len(labels.values), -1) for one in (labels.values, labels.known))
    columns = [values[known[:, place], place].astype(np.int64) for place in range(values.shape[1])]
    return all(np.bincount(column, minlength=classes).min() >= LEAST_OF_A_CLASS for column in columns)


def apply_by_pattern(calibration: Mapping[str, Any], head: Mapping[str, Any], logits: NDArray[Any], present: Mapping[str, Bools]) -> Floats:
    """`apply_calibration` with each row's own page; `present`: optional input to bool [n], as the network saw the rows.

    A calibration without patterns is one for all rows.  A row's answer does not hang on the other rows.
    """
    pages = calibration.get(ABSENT)
    scores = np.asarray(logits, np.float64)
    if not pages or not present or not len(scores):
        return apply_calibration(calibration, head, scores)
    names = sorted(present)
    lacks = ~np.stack([np.asarray(present[name], bool) for name in names], axis=1)
    if len(lacks) != len(scores):
        raise DataError(f"{len(lacks)} rows say what is there, and {len(scores)} have logits", "calibration")
    patterns, which = np.unique(lacks, axis=0, return_inverse=True)
    found: Floats | None = None
    for place, absent in enumerate(patterns):
        rows = which.reshape(-1) == place
        page = page_of(calibration, frozenset(name for name, gone in zip(names, absent, strict=True) if gone))
        part = apply_calibration(page, head, scores[rows])
        if found is None:
            found = np.empty((len(scores), part.shape[1]))
        found[rows] = part
    assert found is not None, "there is a row"
    return found


def page_of(calibration: Mapping[str, Any], pattern: Pattern) -> Mapping[str, Any]:
    """The page for rows that lack the inputs of `pattern`: its own, the nearest, or the one of all cases."""
    pages = {_pattern(key): page for key, page in (calibration.get(ABSENT) or {}).items()}
    near = pattern if pattern in pages else _nearest(pattern, list(pages))
    return calibration if near is None else pages[near]


def _pattern(key: str) -> Pattern:
    return frozenset(key.split(BETWEEN)) if key else NOTHING


def check_patterns(calibration: Mapping[str, Any], inputs: Mapping[str, bool]) -> None:
    """Raises BundleError where a pattern names what is not an optional input; `inputs`: name to whether it is optional."""
    for key in calibration.get(ABSENT) or {}:
        if key_of(_pattern(key)) != key or not all(inputs.get(name, False) for name in _pattern(key)):
            raise BundleError("a calibration is for inputs that the bundle does not have", "bundle.json", "make the bundle again")

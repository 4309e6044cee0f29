"""Prepared texts with tagged words in, the names that train knew out; and texts to the logits of a tags head.

A name is a row of word hashes, so a model holds no text of any patient.  It is three plain arrays, which skops stores without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from meddx.errors import BundleError, DataError
from meddx.inputs.pieces import UPPER
from meddx.inputs.types import Prepared

NOWHERE = -1e9  # all emissions of a place beyond the text
SURE = 10.0  # emission of the tag that is meant; the others have 0
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # tried in the folds
USUAL = 0.5  # where there are no folds
FOLDS = 5
ACRONYM = 5  # letters at most; a longer word in capitals is a heading
_BASE, _CAPITAL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)  # odd constants without a pattern


class TagLabels(Protocol):
    """The part of dataset.target.Labels that is needed here: int64 tags and bool, both [n, L]."""

    @property
    def values(self) -> np.ndarray: ...

    @property
    def known(self) -> np.ndarray: ...


@dataclass(frozen=True)
class _Words:
    """All words of some texts, one after another: the text of each [m], its place there [m], its hash uint64 [m]."""

    text: np.ndarray
    place: np.ndarray
    form: np.ndarray


@dataclass(frozen=True)
class _Found:
    """Where known names stand: first word (a place in `_Words`), words, name; all int64 [h], by first word, the longest first."""

    at: np.ndarray
    size: np.ndarray
    name: np.ndarray


@dataclass(frozen=True)
class _Counts:
    """Names with how often they stand in the texts of each fold: `seen` [f, folds], `meant` as an entity of a label [f, folds, k].

    A name inside a longer entity does not count: there the longer name is found first.
    """

    keys: np.ndarray
    sizes: np.ndarray
    seen: np.ndarray
    meant: np.ndarray


def fit_dictionary(prepared: Prepared, labels: TagLabels, classes: int, *, seed: int, groups: np.ndarray | None = None) -> dict[str, Any]:
    """{"dictionary": {"keys", "sizes", "labels"}}: the names of the `classes` labels.

    A name is kept where it is meant as an entity in at least a share of the places where it stands; five folds of train, patients
    (`groups` [n]) whole, choose the share with the best exact-span F1.  DataError where no case has a label.
    """
    rows = np.flatnonzero(np.asarray(labels.known, bool).any(axis=1))
    if not len(rows):
        raise DataError("no case of train has a label", "baselines")
    words = _words(prepared, rows)
    entities = _entities(np.asarray(labels.values)[rows], words)
    part = _folds(np.arange(len(rows)) if groups is None else np.asarray(groups)[rows], seed)
    counts, found = _count(words, entities, part, classes)
    kept, label = _chosen(counts, _best_share(words, entities, part, counts, found), np.ones(counts.seen.shape[1], bool))
    return {"dictionary": {"keys": counts.keys[kept], "sizes": counts.sizes[kept], "labels": label[kept]}}


def empty_dictionary() -> dict[str, Any]:
    """Tags nothing: what `prevalence` is for tags."""
    return {"dictionary": {"keys": np.zeros(0, np.uint64), "sizes": np.zeros(0, np.int64), "labels": np.zeros(0, np.int64)}}


def check_dictionary(model: Mapping[str, Any]) -> None:
    """BundleError where it is no dictionary as `fit_dictionary` makes it."""
    page = model.get("dictionary")
    types = {"keys": "uint64", "sizes": "int64", "labels": "int64"}
    arrays = [page[name] for name, kind in types.items() if _is_row(page.get(name), kind)] if isinstance(page, dict) else []
    good = len(arrays) == 3 and len({len(one) for one in arrays}) == 1
    good = good and bool((arrays[1] > 0).all()) and bool((arrays[2] >= 0).all())
    if not good:
        raise BundleError("the model is damaged: it is not a dictionary of names", "model.skops", "make the bundle again")


def _is_row(values: Any, kind: str) -> bool:
    return isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype == np.dtype(kind)


def dictionary_logits(model: Mapping[str, Any], head: Mapping[str, Any], prepared: Prepared) -> np.ndarray:
    """float64 [n, L * T + T * T + 2 * T] for a tags head of L places and T tags: from left to right the longest name is tagged.

    Emissions of 10 for what is meant (outside too), 0 else, -1e9 beyond the text; no transition is preferred.  BundleError where the
    dictionary or the input does not fit the head.
    """
    check_dictionary(model)
    page, places, tags = model["dictionary"], int(head["tokens"]), 2 * len(head["classes"]) + 1
    rows = len(prepared.present)
    if (len(page["labels"]) and page["labels"].max() >= len(head["classes"])) or prepared.arrays["tokens"].shape[1] != places:
        raise BundleError("the dictionary does not fit the labels or the length of the texts", "model.skops", "make the bundle again")
    words = _words(prepared, np.arange(rows))
    emissions = np.zeros((rows, places, tags))
    emissions[np.arange(places) >= (prepared.arrays["length"] * prepared.present)[:, None]] = NOWHERE
    emissions[words.text, words.place, _tags(page, words)] = SURE
    return np.concatenate([emissions.reshape(rows, -1), np.zeros((rows, tags * tags + 2 * tags))], axis=1)


def _tags(page: Mapping[str, np.ndarray], words: _Words) -> np.ndarray:
    """int64 [m]: the tag of every word."""
    tag = np.zeros(len(words.form), np.int64)
    found = _find(words, page["keys"], page["sizes"])
    for first, size, name in _leftmost(found, np.ones(len(page["keys"]), bool)):
        tag[first] = 1 + 2 * page["labels"][name]
        tag[first + 1 : first + size] = 2 + 2 * page["labels"][name]
    return tag


def _words(prepared: Prepared, rows: np.ndarray) -> _Words:
    """The words of these rows; a short word in capitals is another word than the same in small letters (AS and as)."""
    arrays, aside = prepared.arrays, prepared.aside
    if "hash" not in aside:
        raise DataError("the input was prepared without the hashes of its words", "baseline dictionary")
    length = (arrays["length"] * prepared.present)[rows]
    text, place = np.nonzero(np.arange(aside["hash"].shape[1]) < length[:, None])
    at = (rows[text], place)
    letters = aside["end"][at] - aside["start"][at]
    acronym = (arrays["shape"][at] == UPPER) & (letters > 1) & (letters <= ACRONYM)
    return _Words(text, place, np.where(acronym, aside["hash"][at] ^ _CAPITAL, aside["hash"][at]))


def _entities(values: np.ndarray, words: _Words) -> np.ndarray:
    """int64 [e, 3] of tags [n, L]: first word, words, label of each entity.  An I without its B begins one."""
    tag = values[words.text, words.place]
    label = np.where(tag > 0, (tag - 1) // 2, -1)
    before = np.concatenate([[-1], label[:-1]])
    before[words.place == 0] = -1
    inside = label >= 0
    begins = inside & ((tag % 2 == 1) | (before != label))
    number = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    size = np.bincount(number[inside], minlength=len(first))
    return np.stack([first, size, label[first]], axis=1)


def _keys(words: _Words, size: int) -> np.ndarray:
    """uint64 [m - size + 1]: the row of `size` words from each place on, as a polynomial of their hashes modulo 2^64."""
    count = max(0, len(words.form) - size + 1)
    key = np.zeros(count, np.uint64)
    for step in range(size):
        key = key * _BASE + words.form[step : step + count]
    return key


def _find(words: _Words, keys: np.ndarray, sizes: np.ndarray) -> _Found:
    """Every place where a name stands, inside one text."""
    parts = [np.zeros((0, 3), np.int64)]
    for size in np.unique(sizes):
        names = np.flatnonzero(sizes == size)
        names = names[np.argsort(keys[names])]
        here = _keys(words, int(size))
        place = np.minimum(np.searchsorted(keys[names], here), len(names) - 1)
        last = np.arange(len(here)) + int(size) - 1
        hit = np.flatnonzero((keys[names][place] == here) & (words.text[: len(here)] == words.text[last]))
        parts.append(np.stack([hit, np.full(len(hit), size), names[place[hit]]], axis=1))
    found = np.concatenate(parts)
    at, size, name = found[np.lexsort((-found[:, 1], found[:, 0]))].T
    return _Found(at, size, name)


def _leftmost(found: _Found, kept: np.ndarray) -> list[tuple[int, int, int]]:
    """(first word, words, name) of the kept names, from left to right the longest, none over another."""
    taken, free = [], 0
    some = kept[found.name]
    for at, size, name in zip(found.at[some].tolist(), found.size[some].tolist(), found.name[some].tolist(), strict=True):
        if at >= free:
            taken.append((at, size, name))
            free = at + size
    return taken


def _folds(groups: np.ndarray, seed: int) -> np.ndarray:
    """int64 [n]: the fold of each text, groups whole, by a shuffle of the groups."""
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    order = np.random.default_rng(seed).permutation(count)
    return np.asarray((order % min(FOLDS, count))[group])


def _count(words: _Words, entities: np.ndarray, part: np.ndarray, classes: int) -> tuple[_Counts, _Found]:
    """The names of all entities, counted, and where they stand."""
    first, size, label = entities.T
    named: np.ndarray = np.zeros(len(first), [("size", np.int64), ("key", np.uint64)])
    named["size"] = size
    for one in np.unique(size):
        named["key"][size == one] = _keys(words, int(one))[first[size == one]]
    names, name = np.unique(named, return_inverse=True)
    found = _find(words, names["key"], names["size"])
    folds = int(part.max()) + 1
    meant = np.zeros((len(names), folds, classes), np.int64)
    np.add.at(meant, (name, part[words.text[first]], label), 1)
    owner, owned = np.full(len(words.form), -1), np.zeros(len(words.form), np.int64)
    for number, (begin, many) in enumerate(zip(first.tolist(), size.tolist(), strict=True)):
        owner[begin : begin + many], owned[begin : begin + many] = number, many
    last = found.at + found.size - 1
    free = ~((owner[found.at] >= 0) & (owner[found.at] == owner[last]) & (owned[found.at] > found.size))
    seen = np.zeros((len(names), folds), np.int64)
    np.add.at(seen, (found.name[free], part[words.text[found.at[free]]]), 1)
    return _Counts(names["key"].copy(), names["size"].copy(), seen, meant), found


def _chosen(counts: _Counts, share: float, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kept bool [f], label int64 [f]) from these folds alone: the label that a name most often has, in at least `share` of its places."""
    meant, seen = counts.meant[:, folds].sum(axis=1), counts.seen[:, folds].sum(axis=1)
    label = meant.argmax(axis=1) if len(meant) else np.zeros(0, np.int64)
    best = meant.max(axis=1, initial=0)
    return (best > 0) & (best >= share * seen), label


def _best_share(words: _Words, entities: np.ndarray, part: np.ndarray, counts: _Counts, found: _Found) -> float:
    """The share with the best F1 of exact spans, each fold tagged by the names of the others; 1/2 where there is one fold only."""
    folds = counts.seen.shape[1]
    if folds < 2:
        return USUAL
    truth = {tuple(one) for one in entities.tolist()}
    fold = part[words.text]
    worth = []
    for share in SHARES:
        hits = called = 0
        for one in range(folds):
            kept, label = _chosen(counts, share, np.arange(folds) != one)
            own = fold[found.at] == one
            taken = _leftmost(_Found(found.at[own], found.size[own], found.name[own]), kept)
            called += len(taken)
            hits += sum((at, size, int(label[name])) in truth for at, size, name in taken)
        worth.append(2 * hits / max(called + len(truth), 1))
    return SHARES[int(np.argmax(worth))]

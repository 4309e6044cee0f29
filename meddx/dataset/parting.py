"""Patients, labels and shares in, a part for every case out: pure functions of arrays and a seed.

A patient's place is SHA-256 of (seed, patient), so a split depends on who the patients are, never on the order of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from meddx.dataset.target import Labels

UNLABELLED = -1
PATIENT_LEVEL = -2


def patient_keys(patient_ids: np.ndarray, case_ids: np.ndarray) -> np.ndarray:
    """Object array [n] of grouping keys.  A case without patient id is a patient of its own, and collides with no patient's id."""
    both = zip(patient_ids, case_ids, strict=True)
    return np.array([f"c\0{case}" if patient is None else f"p\0{patient}" for patient, case in both], dtype=object)


def group(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sorted unique keys [p], number of the key of each case, int64 [n])."""
    unique, inverse = np.unique(keys, return_inverse=True)
    return unique, inverse.reshape(-1).astype(np.int64)


def hash_order(keys: np.ndarray, seed: int, salt: str = "") -> np.ndarray:
    """The rank (int64 [p]) of each key when sorted by SHA-256 of (salt, seed, key)."""
    digests = np.array([hashlib.sha256(f"{salt}\0{seed}\0{key}".encode()).digest() for key in keys], dtype="S32")
    rank = np.empty(len(keys), dtype=np.int64)
    rank[np.argsort(digests, kind="stable")] = np.arange(len(keys))
    return rank


def patient_strata(patients: np.ndarray, n_patients: int, labels: Labels, kind: str, order: np.ndarray) -> np.ndarray:
    """int64 [p]: what the split is balanced by.  -1: no labelled case.

    binary, tags: 1 if any case is positive or has an entity, else 0; multiclass, ordinal: the label of the patient's first labelled case by
    `order` (a rank [n] that does not depend on the order of rows); regression: the fifth in which that label lies; multilabel: 0.
    """
    strata = np.full(n_patients, UNLABELLED, dtype=np.int64)
    known = np.flatnonzero(labels.labelled)
    if kind == "multilabel":
        strata[patients[known]] = 0
    elif kind in ("binary", "tags"):
        np.maximum.at(strata, patients[known], (labels.values[known] > 0).astype(np.int64))
    else:
        last_first = known[np.argsort(-order[known], kind="stable")]  # written in this order, the first case's label stays
        values = labels.values[last_first]
        if kind == "regression" and len(known):
            values = np.searchsorted(np.quantile(labels.values[known], [0.2, 0.4, 0.6, 0.8]), values)
        strata[patients[last_first]] = values
    return strata


def cut(strata: np.ndarray, rank: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """int64 [p]: the number of the share each patient falls into.

    Within each stratum patients go by rank; whole numbers by largest remainder, and what a stratum gave too much or too little is carried
    to the next, so that shares hold in each stratum and in total to within rounding.
    """
    result = np.zeros(len(strata), dtype=np.int64)
    wanted = np.asarray(shares, dtype=np.float64)
    carry = np.zeros(len(wanted))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        members = members[np.argsort(rank[members], kind="stable")]
        give = np.floor(wanted * len(members) + 1e-9).astype(np.int64)
        for _ in range(len(members) - int(give.sum())):
            give[np.argmax(np.round(wanted * len(members) - give + carry, 9))] += 1
        carry += wanted * len(members) - give
        result[members] = np.repeat(np.arange(len(wanted)), give)
    return result


def by_instant(stamps: np.ndarray, starts: Mapping[str, np.datetime64]) -> np.ndarray:
    """Object array [n]: the part with the latest start that is not after the stamp; None before the first start."""
    parts = sorted(starts, key=lambda part: starts[part])
    position = np.searchsorted(np.array([starts[part] for part in parts]), stamps, side="right")
    result: np.ndarray = np.array([None, *parts], dtype=object)[position]
    return result


def latest_part(patients: np.ndarray, n_patients: int, position: np.ndarray) -> np.ndarray:
    """int64 [p]: the latest position (part number in time) in which each patient has a case; -1: none."""
    latest = np.full(n_patients, -1, dtype=np.int64)
    np.maximum.at(latest, patients, position)
    return latest

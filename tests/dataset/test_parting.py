"""Pure parting: shares, strata, hash order, time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.dataset import parting
from meddx.dataset.target import Labels


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=300), st.lists(st.integers(1, 20), min_size=2, max_size=4), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_cut_holds_the_shares_in_total_and_in_each_stratum(strata: list[int], weights: list[int], seed: int) -> None:
    shares = np.array(weights) / sum(weights)
    groups = np.array(strata)
    place = parting.cut(groups, parting.hash_order(np.arange(len(groups)), seed), list(shares))
    assert np.abs(np.bincount(place, minlength=len(shares)) - shares * len(groups)).max() < 2
    for stratum in np.unique(groups):
        mine = place[groups == stratum]
        assert np.abs(np.bincount(mine, minlength=len(shares)) - shares * len(mine)).max() < 3


def test_hash_order_depends_on_seed_and_salt_only() -> None:
    keys = np.array([f"p{i}" for i in range(100)])
    rank = parting.hash_order(keys, 0)
    assert sorted(rank) == list(range(100))
    back = np.random.default_rng(0).permutation(100)
    assert (parting.hash_order(keys[back], 0) == rank[back]).all()
    assert (parting.hash_order(keys, 1) != rank).any() and (parting.hash_order(keys, 0, "salt") != rank).any()


def test_keys_of_cases_without_patient_never_meet_a_patient() -> None:
    keys = parting.patient_keys(np.array(["a", None, "a", None], dtype=object), np.array(["1", "a", "3", "4"], dtype=object))
    unique, patients = parting.group(keys)
    assert len(unique) == 3 and patients[0] == patients[2] and len(set(patients[[0, 1, 3]])) == 3


def test_strata() -> None:
    patients = np.array([0, 0, 1, 2, 2, 3])
    known = np.array([True, True, True, True, False, False])
    order = np.arange(6)
    binary = Labels(np.array([0, 1, 0, 0, 1, 1], dtype=np.float32), known)
    assert parting.patient_strata(patients, 4, binary, "binary", order).tolist() == [1, 0, 0, -1]
    classes = Labels(np.array([2, 1, 0, 3, 1, 1]), known)
    assert parting.patient_strata(patients, 4, classes, "multiclass", order).tolist() == [2, 0, 3, -1]
    assert parting.patient_strata(patients, 4, classes, "multiclass", order[::-1]).tolist() == [1, 0, 3, -1]
    many = Labels(np.zeros((6, 2), dtype=np.float32), np.stack([known, ~known & False], axis=1))
    assert parting.patient_strata(patients, 4, many, "multilabel", order).tolist() == [0, 0, 0, -1]


def test_instants() -> None:
    stamps = np.array(["2019-12-31", "2020-01-01", "2020-12-31", "2021-01-01"], dtype="datetime64[us]")
    starts = {"test": np.datetime64("2021-01-01", "us"), "train": np.datetime64("2020-01-01", "us")}
    assert parting.by_instant(stamps, starts).tolist() == [None, "train", "train", "test"]
    assert parting.latest_part(np.array([0, 0, 2]), 3, np.array([1, 0, -1])).tolist() == [1, -1, -1]

"""Signals, events, several pictures a case: what a baseline sees of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meddx.errors import DataError, RecipeError
from meddx.inputs.types import Prepared
from meddx.models.features import category_places, feature_matrix, features_of, raw_places

SIGNAL = {"kind": "signal", "leads": 2, "steps": 100, "rate": 100.0, "summary_names": ["a", "b", "c"]}
EVENTS = {"kind": "events", "steps": 4, "variables": 1, "names": ["hr"], "summary_names": ["hr first", "hr last"]}
TEXT = {"kind": "text", "tokens": 5, "words": 9}
TABLE = {"kind": "table", "numbers": 1, "categories": [7]}


def all_kinds(rows: int = 4, seed: int = 0) -> tuple[dict[str, dict[str, Any]], dict[str, Prepared]]:
    rng = np.random.default_rng(seed)
    here = np.arange(rows) != 1  # case 1 has none of the optional inputs
    samples = rng.normal(size=(rows, 2, 100)).astype(np.float32)
    prepared = {
        "ecg": Prepared({"samples": samples, "length": np.full(rows, 100, np.int32)}, here, {}, {"summary": rng.normal(size=(rows, 3))}),
        "note": Prepared({"tokens": rng.integers(2, 9, (rows, 5)).astype(np.int32), "length": np.full(rows, 5, np.int32)}, here),
        "t": Prepared(
            {"numbers": np.ones((rows, 1), np.float32), "missing": np.zeros((rows, 1), np.float32), "codes": np.full((rows, 1), 3)},
            np.ones(rows, bool),
        ),
        "labs": Prepared({"values": np.zeros((rows, 4, 1), np.float32)}, here, {}, {"summary": np.full((rows, 2), 5.0)}),
    }
    return {"ecg": SIGNAL, "note": TEXT, "t": TABLE, "labs": EVENTS}, prepared


def test_all_kinds_stand_side_by_side_and_the_places_match() -> None:
    specs, prepared = all_kinds()
    seen = features_of(specs, prepared)
    ecg = 3
    assert seen.dense.shape == (4, ecg + 2 + 2) and len(seen.texts) == 1 and seen.texts[0].shape[0] == 4
    assert seen.places == category_places(specs) == {ecg + 1: 7}
    assert seen.raw == raw_places(specs) == (*range(ecg), ecg + 2, ecg + 3)
    assert (seen.dense[[0, 2, 3], ecg + 2 :] == 5).all() and (seen.dense[:, ecg] == 1).all() and (seen.dense[:, ecg + 1] == 3).all()


def test_an_absent_input_is_nan_and_an_absent_text_empty() -> None:
    specs, prepared = all_kinds()
    seen = features_of(specs, prepared)
    assert np.isnan(seen.dense[1, list(seen.raw)]).all() and seen.texts[0][1].nnz == 0
    assert np.isfinite(seen.dense[[0, 2, 3]]).all() and (np.diff(seen.texts[0].indptr)[[0, 2, 3]] > 0).all()


def test_some_rows_are_the_same_rows() -> None:
    specs, prepared = all_kinds()
    seen = features_of(specs, prepared)
    some = seen.take(np.array([True, False, True, True]))
    assert np.array_equal(some.dense, seen.dense[[0, 2, 3]]) and (some.texts[0] != seen.texts[0][[0, 2, 3]]).nnz == 0
    assert len(some) == 3 and some.raw == seen.raw


def test_the_order_of_the_specs_decides_not_that_of_the_arrays() -> None:
    specs, prepared = all_kinds()
    turned = dict(reversed(list(prepared.items())))
    np.testing.assert_array_equal(feature_matrix(specs, prepared), feature_matrix(specs, turned))


def test_several_pictures_are_averaged_or_their_maximum_taken() -> None:
    pixels = np.zeros((3, 2, 1, 4, 4), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[1, 0], pixels[1, 1] = 255, 51, 102, 255
    items = np.array([[True, True], [True, False], [False, False]])
    prepared = {"film": Prepared({"pixels": pixels, "items": items}, np.ones(3, bool))}
    spec = {"kind": "image", "channels": 1, "size": 4, "max": 255, "many": "attention"}
    np.testing.assert_allclose(feature_matrix({"film": spec}, prepared)[:, 0], [0.6, 0.4, np.nan], atol=1e-6)
    np.testing.assert_allclose(feature_matrix({"film": {**spec, "many": "max"}}, prepared)[:, 0], [1.0, 0.4, np.nan], atol=1e-6)


def test_a_summary_that_is_not_there_is_named() -> None:
    specs, prepared = all_kinds()
    one = prepared["labs"]
    with pytest.raises(DataError, match="labs was prepared without its summary"):
        feature_matrix(specs, {**prepared, "labs": Prepared(one.arrays, one.present)})
    nowhere = feature_matrix(specs, {**prepared, "labs": Prepared(one.arrays, np.zeros(4, bool))})
    assert nowhere.shape == (4, 7) and np.isnan(nowhere[:, -2:]).all()


def test_an_input_that_no_baseline_looks_at_is_refused() -> None:
    prepared = {"scan": Prepared({"voxels": np.zeros((2, 1))}, np.ones(2, bool))}
    with pytest.raises(RecipeError, match="kind mesh"):
        features_of({"scan": {"kind": "mesh"}}, prepared)

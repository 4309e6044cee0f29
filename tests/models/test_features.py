from __future__ import annotations

import cv2
import numpy as np
import pytest

from meddx.inputs.types import Prepared
from meddx.models.features import area_weights, category_places, feature_matrix, shrink

SPECS = {"film": {"kind": "image", "channels": 1, "size": 4, "max": 255}, "table": {"kind": "table", "numbers": 2, "categories": [5, 9]}}


def both_prepared() -> dict[str, Prepared]:
    table = {
        "numbers": np.array([[1, 2], [3, 4]], np.float32),
        "missing": np.array([[0, 1], [0, 0]], np.float32),
        "codes": np.array([[2, 3], [4, 8]]),
    }
    film = {"pixels": np.stack([np.zeros((1, 4, 4)), np.full((1, 4, 4), 255)]).astype(np.uint8)}
    return {"film": Prepared(film, np.array([False, True])), "table": Prepared(table, np.array([True, False]))}


def test_missing_and_absent_are_nan_and_code_0() -> None:
    matrix = feature_matrix(SPECS, both_prepared())
    assert matrix.shape == (2, 20) and matrix.dtype == np.float32
    assert np.isnan(matrix[0, :16]).all() and (matrix[1, :16] == 1).all()
    np.testing.assert_array_equal(matrix[:, 16:], [[1, np.nan, 2, 3], [np.nan, np.nan, 0, 0]])


def test_the_places_of_categories_match_the_matrix() -> None:
    assert category_places(SPECS) == {18: 5, 19: 9}
    assert category_places({"big": {**SPECS["film"], "size": 64, "channels": 3}, "table": SPECS["table"]}) == {
        3 * 784 + 2: 5,
        3 * 784 + 3: 9,
    }


@pytest.mark.parametrize("size", [28, 29, 56, 64, 224])
def test_pictures_shrink_as_opencvs_area_average(size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, size, size), np.uint8)
    expected = np.stack([cv2.resize(one[0].astype(np.float32) / 255, (28, 28), interpolation=cv2.INTER_AREA) for one in pixels])
    np.testing.assert_allclose(shrink(pixels, 255.0)[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(area_weights(size, 28).sum(1), 1, atol=1e-6)


def test_small_pictures_stay_as_they_are() -> None:
    assert shrink(np.full((1, 3, 8, 8), 65535, np.uint16), 65535.0).tolist() == np.ones((1, 3, 8, 8)).tolist()

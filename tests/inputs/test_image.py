from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow as pa
import pytest

from meddx.errors import BundleError, DataError
from meddx.inputs.image import ImagePreparation
from meddx.inputs.options import ImageInput


def png_bytes(seed: int, side: int = 16, bits: int = 8, colour: bool = False) -> bytes:
    shape = (side, side, 3) if colour else (side, side)
    dtype = np.uint8 if bits == 8 else np.uint16
    return bytes(cv2.imencode(".png", np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype))[1])


def pictures(*values: bytes | None) -> pa.Table:
    return pa.table({"image": pa.array(values, pa.binary())})


def fitted_image(table: pa.Table | None = None, **options: object) -> ImagePreparation:
    return ImagePreparation.fit(
        "film", ImageInput(**{"kind": "image", "size": 16, **options}), table or pictures(*map(png_bytes, range(5)))
    )


def test_pixels_stay_uint8_and_the_moments_are_those_of_train() -> None:
    table = pictures(*map(png_bytes, range(5)))
    prep = fitted_image(table)
    pixels = prep.transform(table).arrays["pixels"]
    assert pixels.shape == (5, 1, 16, 16) and pixels.dtype == np.uint8
    spec = prep.spec()
    assert spec["max"] == 255
    assert spec["mean"] == pytest.approx([pixels.mean() / 255]) and spec["std"] == pytest.approx([pixels.std() / 255])


def test_one_sixteen_bit_picture_in_train_makes_all_sixteen_bit() -> None:
    table = pictures(png_bytes(0), png_bytes(1, bits=16))
    prep = fitted_image(table)
    pixels = prep.transform(table).arrays["pixels"]
    assert pixels.dtype == np.uint16 and prep.spec()["max"] == 65535
    np.testing.assert_array_equal(pixels[0], fitted_image().transform(table).arrays["pixels"][0].astype(np.uint16) * 257)


def test_a_sixteen_bit_picture_for_an_eight_bit_model_is_a_row_error() -> None:
    prepared = fitted_image().transform(pictures(png_bytes(0), png_bytes(1, bits=16)))
    assert prepared.errors == {1: "bit_depth"} and prepared.present.tolist() == [True, False]


def test_bad_rows_have_reasons_and_the_others_are_prepared() -> None:
    good = png_bytes(0)
    prepared = fitted_image().transform(pictures(good, None, good[:40], b"text", good))
    assert prepared.errors == {2: "image_truncated", 3: "image_unreadable"}
    assert prepared.present.tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(prepared.arrays["pixels"][0], prepared.arrays["pixels"][4])
    assert not prepared.arrays["pixels"][1:4].any()


def test_colour_and_grey_are_turned_into_each_other() -> None:
    table = pictures(png_bytes(0), png_bytes(1, colour=True))
    assert fitted_image(table, channels=3).transform(table).arrays["pixels"].shape == (2, 3, 16, 16)
    assert fitted_image(table, channels=1).transform(table).arrays["pixels"].shape == (2, 1, 16, 16)
    assert len(fitted_image(table, channels=3).spec()["mean"]) == 3


def test_rows_are_prepared_each_by_itself_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pictures(*(png_bytes(seed, 12 + seed % 9) for seed in range(300)))
    prep = fitted_image(table)
    whole = prep.transform(table).arrays["pixels"]
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(whole[order], prep.transform(table.take(order)).arrays["pixels"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    np.testing.assert_array_equal(whole, prep.transform(table).arrays["pixels"])
    assert fitted_image(table.take(order)) == prep


def test_a_wrong_column_is_refused_and_an_optional_one_may_lack() -> None:
    with pytest.raises(DataError, match="not in the table"):
        fitted_image().transform(pa.table({"other": [1]}))
    with pytest.raises(DataError, match="bytes"):
        fitted_image().transform(pa.table({"image": ["path/to.png"]}))
    assert not fitted_image(optional=True).transform(pa.table({"other": [1]})).present.any()
    assert not fitted_image().transform(pa.table({"image": pa.nulls(2)})).present.any()


def test_train_without_a_readable_picture_is_refused() -> None:
    with pytest.raises(DataError, match="no picture"):
        fitted_image(pictures(None, b"text"))


def test_a_black_train_part_does_not_divide_by_zero() -> None:
    black = bytes(cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1])
    assert fitted_image(pictures(black)).deviation == (1e-3,)


def test_image_state_goes_through_json_exactly() -> None:
    prep = fitted_image()
    state = json.loads(json.dumps(prep.state(), allow_nan=False))
    assert ImagePreparation.from_state(state) == prep
    for broken in ({**state, "bits": 12}, {**state, "size": 10**6}, {**state, "mean": []}, {}):
        with pytest.raises(BundleError):
            ImagePreparation.from_state(broken)


def films(*rows: list[tuple[float, bytes | None]] | None) -> pa.Table:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("image", pa.binary())]))
    return pa.table(
        {"films": pa.array([None if row is None else [{"@time": at, "image": data} for at, data in row] for row in rows], kind)}
    )


A, B, C = (png_bytes(seed) for seed in range(3))
FILMS = films([(-3, A), (-2, B), (-1, C), (-0.5, None)], [(-1, B)], [], None, [(-2, A), (-1, b"text")])


def of_films(**options: object) -> ImagePreparation:
    return fitted_image(FILMS, **{"from": "films", **options})


def single(data: bytes) -> np.ndarray:
    return fitted_image().transform(pictures(data)).arrays["pixels"][0]


def test_of_several_pictures_the_first_or_the_latest_is_seen() -> None:
    made = of_films(many="latest").transform(FILMS)
    np.testing.assert_array_equal(made.arrays["pixels"][0], single(C))
    assert made.present.tolist() == [True, True, False, False, False] and made.errors == {4: "image_unreadable"}
    first = of_films(many="first").transform(FILMS)
    np.testing.assert_array_equal(first.arrays["pixels"][0], single(A))
    assert first.present.tolist() == [True, True, False, False, True] and first.arrays["pixels"].shape == (5, 1, 16, 16)
    assert of_films(many="first").spec()["many"] is None


def test_several_pictures_are_kept_for_the_network_the_latest_so_many_in_order() -> None:
    prep = of_films(many="attention", at_most=2)
    made = prep.transform(FILMS)
    assert made.arrays["pixels"].shape == (5, 2, 1, 16, 16) and prep.spec()["many"] == "attention" and prep.columns == ("films",)
    assert made.arrays["items"].tolist() == [[True, True], [True, False], [False, False], [False, False], [True, False]]
    np.testing.assert_array_equal(made.arrays["pixels"][0], [single(B), single(C)])
    assert not made.arrays["pixels"][1, 1].any() and made.errors == {}  # one of two can be read
    assert made.present.tolist() == [True, True, False, False, True]
    assert prep.transform(films([(-1, b"text"), (-1, A[:40])])).errors == {0: "image_unreadable"}


def test_a_picture_after_predict_at_changes_nothing() -> None:
    prep = of_films(many="mean")
    later = films([(-3, A), (-2, B), (-1, C), (0.1, A)], [(-1, B), (2, A)], [(1, A)], [], [(-2, A), (-1, b"text")])
    for name, array in prep.transform(FILMS).arrays.items():
        np.testing.assert_array_equal(array, prep.transform(later).arrays[name])
    assert fitted_image(later, **{"from": "films", "many": "mean"}) == prep


def test_several_pictures_without_a_rule_are_refused_in_train_and_a_row_error_later() -> None:
    with pytest.raises(DataError, match="several rows"):
        of_films()
    prep = fitted_image(films([(-1, A)], [(-1, B)]), **{"from": "films"})
    made = prep.transform(FILMS)
    assert made.errors == {0: "several_rows", 4: "several_rows"} and made.present.tolist() == [False, True, False, False, False]
    with pytest.raises(DataError, match="not in the table"):
        prep.transform(pa.table({"films": [[{"@time": -1.0, "scan": A}]]}))
    assert not prep.transform(pa.table({"films": [[], None]})).present.any()


def test_the_state_of_several_pictures_goes_through_json_and_that_of_an_older_bundle_is_read() -> None:
    prep = of_films(many="max", at_most=3)
    state = json.loads(json.dumps(prep.state(), allow_nan=False))
    assert ImagePreparation.from_state(state) == prep
    older = {key: value for key, value in fitted_image().state().items() if key not in ("source", "many", "at_most")}
    assert ImagePreparation.from_state(older) == fitted_image()
    for broken in ({**state, "many": "join"}, {**state, "at_most": 10**6}):
        with pytest.raises(BundleError):
            ImagePreparation.from_state(broken)

"""Volumes: orientation, spacing, window, limits before memory, reasons, state."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import BundleError, DataError
from meddx.inputs import nifti, prepare
from meddx.inputs.nifti import read_volume
from meddx.inputs.options import VolumeInput
from meddx.inputs.resample import axis_weights, resample
from meddx.inputs.volume import CLIP, VolumePreparation

LAS = np.diag([-1.0, 1.0, 1.0, 1.0])


def image(values: np.ndarray, affine: np.ndarray | None = None) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(values, LAS if affine is None else affine)


def encoded(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return bytes(image(values, affine).to_bytes())


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, shape or (7, 6, 5)).astype(np.int16)


def column(*values: bytes | None) -> pa.Table:
    return pa.table({"volume": pa.array(values, pa.binary())})


def fitted(table: pa.Table | None = None, **options: Any) -> VolumePreparation:
    wanted = VolumeInput(**{"kind": "volume", "size": (5, 6, 7), **options})
    return VolumePreparation.fit("ct", wanted, column(encoded(noise())) if table is None else table)


def seen(data: bytes, **options: Any) -> np.ndarray:
    made = fitted(**{"window": (-1000, 1000), **options}).volume(data)
    assert isinstance(made, np.ndarray), made
    return made


def patched(data: bytes, place: int, kind: str, value: Any) -> bytes:
    """The file with one field of its header overwritten."""
    new = np.array([value], kind).tobytes()
    return data[:place] + new + data[place + len(new) :]


def test_slices_go_from_foot_to_head_rows_from_front_to_back_columns_from_right_to_left() -> None:
    values = np.zeros((4, 4, 4), np.int16)  # stored as RAS: x to the right, y to the front, z up
    values[3, 0, 0], values[0, 3, 0], values[0, 0, 3] = 1, 2, 3
    made = seen(encoded(values, np.eye(4)), size=(4, 4, 4), window=(0, 4)) * 4
    back, left, foot = 3, 3, 0
    assert made[foot, back, 0] == 1  # the patient's right stands left
    assert made[foot, 0, left] == 2  # the front stands above
    assert made[3, back, left] == 3  # the head comes last


@settings(max_examples=30, deadline=None)
@given(order=st.permutations([0, 1, 2]), flips=st.tuples(*[st.booleans()] * 3), tilt=st.floats(-0.3, 0.3), seed=st.integers(0, 99))
def test_another_way_to_store_the_same_volume_changes_nothing(order: list[int], flips: tuple[bool, ...], tilt: float, seed: int) -> None:
    values = noise(6, 9, 4, seed=seed)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([0.5, 0.75, 2.0]), [10, -20, 30]
    codes = np.stack([np.argsort(order), np.where(flips, -1, 1)], axis=1)
    other = image(values, affine).as_reoriented(codes)
    assert np.abs(other.affine - affine).max() > 0 or (order == [0, 1, 2] and not any(flips))
    for options in ({"spacing": (1.5, 1, 1)}, {}):
        np.testing.assert_array_equal(seen(encoded(values, affine), **options), seen(bytes(other.to_bytes()), **options))


def test_without_its_affine_a_flipped_volume_is_another_one() -> None:
    values = noise()
    assert (seen(encoded(values)) != seen(encoded(values[::-1]))).any()
    turned = LAS @ np.array([[-1.0, 0, 0, 6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(seen(encoded(values)), seen(encoded(values[::-1], turned)))


def smooth(shape: tuple[int, int, int], step: float) -> np.ndarray:
    """A soft ball of 8 mm off the middle, on a grid of `step` mm with the same middle."""
    axes = [(np.arange(side) - (side - 1) / 2) * step for side in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    distance = np.sqrt(((grid - np.array([4.0, -3, 2])[:, None, None, None]) ** 2).sum(0))
    return np.asarray(1000 / (1 + np.exp(distance - 8)), np.float32)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (3.0, 1.5, 2.5)])
def test_a_volume_stored_at_half_the_spacing_is_nearly_the_same(spacing: tuple[float, float, float]) -> None:
    coarse, fine = smooth((32, 32, 32), 1.0), smooth((64, 64, 64), 0.5)
    options = {"size": (12, 16, 14), "spacing": spacing, "window": (0, 1000)}
    first, second = seen(encoded(coarse), **options), seen(encoded(fine, np.diag([-0.5, 0.5, 0.5, 1])), **options)
    assert np.abs(first - second).max() < 0.05 and first.max() > 0.9
    ignored = seen(encoded(fine), **options)  # the twin: with the affine of the coarse one it is twice as large
    assert np.abs(first - ignored).max() > 0.5


def test_millimetres_are_millimetres_in_every_unit() -> None:
    one = image(noise(), np.diag([-0.002, 0.002, 0.002, 1]))
    one.header.set_xyzt_units("meter")
    assert read_volume(bytes(one.to_bytes())).spacing == pytest.approx((2, 2, 2))
    one = image(noise(), np.diag([-500.0, 500, 500, 1]))
    one.header.set_xyzt_units("micron")
    assert read_volume(bytes(one.to_bytes())).spacing == pytest.approx((0.5, 0.5, 0.5))


def test_the_middle_is_cut_out_or_padded_and_the_rest_is_dark() -> None:
    values = noise(8, 8, 8)
    upright = read_volume(encoded(values)).stored
    whole = (upright.astype(np.float64) + 1000) / 2000
    same = {"spacing": (1, 1, 1)}
    np.testing.assert_allclose(seen(encoded(values), size=(8, 8, 8), **same), whole, atol=1e-6)
    np.testing.assert_allclose(seen(encoded(values), size=(4, 6, 8), **same), whole[2:6, 1:7], atol=1e-6)
    padded = seen(encoded(values), size=(8, 12, 8), **same)
    np.testing.assert_allclose(padded[:, 2:10], whole, atol=1e-6)
    assert not padded[:, :2].any() and not padded[:, 10:].any()
    bare = fitted(column(encoded(values)), size=(8, 12, 8), **same).transform(column(encoded(values))).arrays["pixels"][0, 0]
    assert (bare[:, :2] == bare.min()).all() and bare[:, 2:10].min() == bare.min()


def test_without_spacing_the_whole_volume_is_brought_to_size() -> None:
    values = np.repeat(np.arange(4, dtype=np.int16), 4)[None, None, :] * np.ones((8, 8, 1), np.int16)
    made = seen(encoded(values, np.diag([-1, 1, 9.0, 1])), size=(4, 4, 4), window=(0, 3))
    assert (np.abs(made - np.arange(4)[:, None, None] / 3) < 0.1).all()


@given(old=st.integers(1, 40), new=st.integers(1, 40), scale=st.floats(0.05, 50))
@settings(max_examples=200, deadline=None)
def test_weights_add_up_to_one_inside_are_symmetric_and_never_empty(old: int, new: int, scale: float) -> None:
    dense = axis_weights(old, new, scale).toarray()
    total = dense.sum(1)
    assert np.all((np.abs(total - 1) < 1e-5) | (total == 0)) and total.any() and dense.min() >= 0
    np.testing.assert_allclose(dense, dense[::-1, ::-1], atol=1e-6)
    inside = np.flatnonzero(total)
    assert len(inside) == inside[-1] - inside[0] + 1


def test_a_ramp_stays_a_ramp_and_stripes_are_averaged_away() -> None:
    ramp = axis_weights(40, 12, 2.5) @ np.arange(40, dtype=np.float32)
    np.testing.assert_allclose(np.diff(ramp)[2:-2], 2.5, atol=0.2)
    stripes = np.tile(np.array([0, 1], np.float32), 20)
    assert np.abs(axis_weights(40, 10, 4.0) @ stripes - 0.5)[1:-1].max() < 0.02
    assert set(stripes[::4]) == {0.0}  # the twin: picking every fourth would see none of them


def test_resampling_is_what_weights_along_each_axis_say() -> None:
    values = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    made, inside = resample(iter(values), (9, 8, 7), (5, 4, 12), (1.3, 2.0, 0.7))
    weights = [axis_weights(*one).toarray() for one in ((9, 5, 1.3), (8, 4, 2.0), (7, 12, 0.7))]
    np.testing.assert_allclose(made, np.einsum("az,by,cx,zyx->abc", *weights, values), atol=1e-5)
    assert inside.shape == made.shape and not made[~inside].any() and not inside.all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_every_usual_type_and_byte_order_gives_the_same_array(dtype: Any) -> None:
    values = np.abs(noise()) % 200
    plain = seen(encoded(values.astype(np.int16)), window=(0, 200))
    one = nibabel.Nifti1Image(values.astype(np.dtype(dtype).newbyteorder("=")), LAS)
    if np.dtype(dtype).byteorder == ">":
        one = nibabel.Nifti1Image(values, LAS, nibabel.Nifti1Header(endianness=">"))
        one.set_data_dtype(np.dtype(dtype))
    data = bytes(one.to_bytes())
    np.testing.assert_array_equal(seen(data, window=(0, 200)), plain)
    np.testing.assert_array_equal(seen(gzip.compress(data), window=(0, 200)), plain)
    second = bytes(nibabel.Nifti2Image(values.astype(np.int16), LAS).to_bytes())
    np.testing.assert_array_equal(seen(second, window=(0, 200)), plain)


def test_slope_and_intercept_of_the_header_count() -> None:
    values = noise() % 200
    data = patched(patched(encoded(values.astype(np.int16)), 112, "<f4", 2.0), 116, "<f4", -100.0)
    made = seen(data, window=(-100, 300))
    np.testing.assert_allclose(made, seen(encoded((values * 2.0 - 100).astype(np.float32)), window=(-100, 300)), atol=1e-6)
    assert np.abs(made - seen(encoded(values.astype(np.int16)), window=(-100, 300))).max() > 0.1


def test_a_window_gives_zero_to_one_and_no_window_the_scale_of_train() -> None:
    table = column(*(encoded(noise(seed=seed)) for seed in range(4)))
    prep = fitted(table)
    pixels = prep.transform(table).arrays["pixels"]
    assert pixels.dtype == np.float32 and pixels.shape == (4, 1, 5, 6, 7)
    assert pixels.mean() == pytest.approx(0, abs=1e-5) and pixels.std() == pytest.approx(1, abs=1e-5)
    narrow = fitted(table, window=(-100, 100)).transform(table).arrays["pixels"]
    assert narrow.min() == 0 and narrow.max() == 1
    assert fitted(table.take([3, 1, 0, 2])) == prep
    huge = prep.transform(column(encoded(noise().astype(np.float32) * 1e30))).arrays["pixels"]
    assert np.abs(huge).max() == CLIP


def test_a_train_part_of_one_grey_does_not_divide_by_zero() -> None:
    assert fitted(column(encoded(np.full((3, 3, 3), 7, np.int16)))).deviation == 1.0


def bad_volumes() -> dict[str, tuple[bytes, str]]:
    good, floats = encoded(noise()), noise().astype(np.float32)
    holes, endless = floats.copy(), floats.copy()
    holes[1, 1, 1], endless[2, 2, 2] = np.nan, np.inf
    packed = gzip.compress(good)
    return {
        "text": (b"no volume at all" * 40, "volume_unreadable"),
        "empty": (b"", "volume_unreadable"),
        "cut": (good[:-1], "volume_unreadable"),
        "cut packed": (packed[: len(packed) // 2], "volume_unreadable"),
        "cut header": (good[:200], "volume_unreadable"),
        "checksum": (packed[:-8] + b"\0\0\0\0" + packed[-4:], "volume_unreadable"),
        "pair": (patched(good, 344, "S4", b"ni1"), "volume_unreadable"),
        "colours": (patched(good, 70, "<i2", 128), "volume_unreadable"),
        "complex": (patched(good, 70, "<i2", 32), "volume_unreadable"),
        "unknown type": (patched(good, 70, "<i2", 999), "volume_unreadable"),
        "negative side": (patched(good, 42, "<i2", -3), "volume_unreadable"),
        "offset": (patched(good, 108, "<f4", 12.0), "volume_unreadable"),
        "endless offset": (patched(good, 108, "<f4", np.inf), "volume_unreadable"),
        "flat": (patched(good, 280, "<f4", 0.0), "spacing_bad"),
        "far": (patched(good, 280, "<f4", 1e9), "spacing_bad"),
        "nowhere": (patched(good, 280, "<f4", np.nan), "spacing_bad"),
        "no unit": (patched(good, 123, "u1", 7), "spacing_bad"),
        "holes": (encoded(holes), "volume_not_finite"),
        "endless": (encoded(endless), "volume_not_finite"),
        "too wide": (encoded(np.full((4, 4, 4), 1e300)), "volume_not_finite"),
        "film": (encoded(noise(4, 4, 4, 2)), "not_3d"),
        "plane": (encoded(noise(4, 4)), "not_3d"),
    }


@pytest.mark.parametrize("which", sorted(bad_volumes()))
def test_a_bad_volume_is_a_row_error_and_its_neighbours_are_prepared(which: str) -> None:
    good = encoded(noise())
    data, reason = bad_volumes()[which]
    made = fitted().transform(column(good, data, None, good))
    assert made.errors == {1: reason} and made.present.tolist() == [True, False, False, True]
    assert not made.arrays["pixels"][1:3].any()
    np.testing.assert_array_equal(made.arrays["pixels"][0], made.arrays["pixels"][3])


def test_a_fourth_axis_of_one_is_no_film() -> None:
    np.testing.assert_array_equal(seen(encoded(noise()[..., None])), seen(encoded(noise())))


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 351), value=st.integers(0, 255), packed=st.booleans())
def test_no_byte_of_a_header_brings_down_the_others(place: int, value: int, packed: bool) -> None:
    data = encoded(noise(3, 3, 3))
    broken = data[:place] + bytes([value]) + data[place + 1 :]
    made = fitted(size=(3, 3, 3)).volume(gzip.compress(broken) if packed else broken)
    assert isinstance(made, np.ndarray) or made in (
        "volume_unreadable", "volume_too_large", "spacing_bad", "volume_not_finite", "not_3d"
    )  # fmt: skip
    assert not isinstance(made, np.ndarray) or np.isfinite(made).all()


def bomb() -> bytes:
    """60 MB of zeros in 60 kB, whose header says so: 400 x 400 x 200 int16."""
    header = encoded(np.zeros((2, 2, 2), np.int16))[:352]
    for place, side in ((42, 400), (44, 400), (46, 200)):
        header = patched(header, place, "<i2", side)
    return gzip.compress(header + bytes(2 * 400 * 400 * 200))


def peak(data: bytes) -> tuple[Any, int]:
    prep = fitted(window=(-1000, 1000))
    tracemalloc.start()
    try:
        made = prep.volume(data)
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_volume_that_is_too_large_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bomb()
    made, memory = peak(data)
    assert isinstance(made, np.ndarray) and memory > 60_000_000  # the twin: within the limits it is unpacked
    monkeypatch.setattr(nifti, "MAX_VOXELS", 10_000_000)
    made, memory = peak(data)
    assert made == "volume_too_large" and memory < 2_000_000
    assert fitted().volume(patched(patched(encoded(noise()), 42, "<i2", 32767), 44, "<i2", 32767)) == "volume_too_large"


def test_no_more_is_inflated_than_the_header_speaks_for() -> None:
    small = encoded(noise())
    made, memory = peak(gzip.compress(small + bytes(100_000_000)))
    assert memory < 5_000_000 and isinstance(made, np.ndarray)


def test_volumes_are_unpacked_one_at_a_time() -> None:
    data = gzip.compress(encoded(np.zeros((128, 128, 64), np.int16)))  # 2 MB each
    prep = fitted(size=(4, 4, 4), window=(0, 1))
    table = column(*[data] * 8)
    prep.transform(table.slice(0, 1))  # what is imported
    tracemalloc.start()
    try:
        assert prep.transform(table).present.all()
        assert tracemalloc.get_traced_memory()[1] < 3 * 2 * 128 * 128 * 64  # of 8: the voxels, pieces on their way, a slice as floats
    finally:
        tracemalloc.stop()


def test_a_wrong_column_is_refused_and_an_optional_one_may_lack() -> None:
    with pytest.raises(DataError, match="not in the table"):
        fitted().transform(pa.table({"other": [1]}))
    with pytest.raises(DataError, match="NIfTI"):
        fitted().transform(pa.table({"volume": ["path/to.nii"]}))
    assert not fitted(optional=True).transform(pa.table({"other": [1]})).present.any()
    assert not fitted().transform(pa.table({"volume": pa.nulls(2)})).present.any()
    assert fitted().transform(column()).arrays["pixels"].shape == (0, 1, 5, 6, 7)


@pytest.mark.parametrize("window", [None, (0, 1)])
def test_train_without_a_readable_volume_is_refused(window: tuple[float, float] | None) -> None:
    with pytest.raises(DataError, match="no volume of train"):
        fitted(column(None, b"text"), window=window)


def scans(*rows: list[tuple[float, bytes | None]] | None) -> pa.Table:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("volume", pa.binary())]))
    return pa.table(
        {"scans": pa.array([None if row is None else [{"@time": at, "volume": data} for at, data in row] for row in rows], kind)}
    )


def test_of_several_volumes_the_first_or_the_latest_is_seen() -> None:
    one, two, late = (encoded(noise(seed=seed)) for seed in range(3))
    table = scans([(-1, two), (-3, one), (-0.5, None), (5, late)], [(-1, two)], [], None, [(-2, one), (-1, b"text")])
    options: dict[str, Any] = {"from": "scans", "window": (-1000, 1000)}
    latest = fitted(table, many="latest", **options)
    made = latest.transform(table)
    assert latest.columns == ("scans",) and made.errors == {4: "volume_unreadable"}
    assert made.present.tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(made.arrays["pixels"][0, 0], seen(two))
    first = fitted(table, many="first", **options).transform(table)
    np.testing.assert_array_equal(first.arrays["pixels"][0, 0], seen(one))
    assert first.present.tolist() == [True, True, False, False, True]
    with pytest.raises(DataError, match="2 case"):
        fitted(table, **options)
    single = fitted(scans([(-1, one)]), **options)
    assert single.transform(table).errors == {0: "several_rows", 4: "several_rows"}


def test_rows_are_prepared_each_by_itself() -> None:
    table = column(*(encoded(noise(5 + seed % 3, 6, 4, seed=seed)) for seed in range(12)))
    prep = fitted(table, spacing=(1, 2, 1.5))
    whole = prep.transform(table).arrays["pixels"]
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_array_equal(whole[order], prep.transform(table.take(order)).arrays["pixels"])


def test_the_state_goes_through_json_exactly_and_a_damaged_one_is_refused() -> None:
    table = column(encoded(noise()))
    for options in ({}, {"spacing": (2.5, 0.7, 0.7)}, {"window": (-1000, 400), "optional": True}):
        made = prepare.fit({"ct": VolumeInput(kind="volume", size=(5, 6, 7), **options)}, {}, table)  # type: ignore[arg-type]
        state = json.loads(json.dumps(made.state(), allow_nan=False))
        assert prepare.Preparations.from_state(state) == made
        assert made.specs()["ct"]["size"] == [5, 6, 7] and made.specs()["ct"]["optional"] is bool(options.get("optional"))
    whole = fitted().state()
    for broken in (
        {**whole, "size": [1, 2]}, {**whole, "size": [10**6, 1, 1]}, {**whole, "std": 0.0}, {**whole, "mean": None},
        {**whole, "spacing": [1, -1, 1]}, {**whole, "window": [2, 1]}, {**whole, "many": "mean"}, {**whole, "spacing": [1]}, {},
    ):  # fmt: skip
        with pytest.raises(BundleError):
            VolumePreparation.from_state(broken)


def test_nothing_of_nibabel_is_loaded_before_a_volume_is() -> None:
    code = "import sys, meddx.inputs.prepare, meddx.inputs.volume, meddx.models.build; sys.exit('nibabel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_real_volumes_of_nibabels_own_tests_are_read_as_nibabel_reads_them() -> None:
    folder = Path(nibabel.__file__).parent / "tests" / "data"
    found = 0
    for name in ("anatomical.nii", "standard.nii.gz", "resampled_anat_moved.nii", "reoriented_anat_moved.nii", "example_nifti2.nii.gz"):
        path = folder / name
        if not path.exists():
            continue
        loaded = nibabel.load(path)
        if len([side for side in loaded.shape if side > 1]) != 3:
            assert fitted().volume(path.read_bytes()) == "not_3d"
            continue
        theirs = nibabel.as_closest_canonical(loaded)
        wanted = np.asarray(theirs.dataobj)[::-1, ::-1].reshape(theirs.shape[:3]).transpose(2, 1, 0)
        ours = read_volume(path.read_bytes())
        if not np.isfinite(wanted).all():
            assert fitted().volume(path.read_bytes()) == "volume_not_finite"
            continue
        np.testing.assert_allclose(np.stack(list(ours.slices())), wanted, rtol=1e-6)
        assert ours.spacing == pytest.approx(tuple(float(one) for one in theirs.header.get_zooms()[2::-1]), rel=1e-4)
        found += 1
    if not found:
        pytest.skip("nibabel came without its test volumes")


@pytest.mark.parametrize("order", [("L", "P", "S"), ("P", "I", "R"), ("S", "R", "A")])
def test_what_ingest_writes_of_a_volume_is_read_as_the_volume_itself(order: tuple[str, str, str]) -> None:
    from meddx.ingest.nifti import decode

    affine = np.diag([0.8, 0.9, 3.0, 1])
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(order))
    data = bytes(image(noise(9, 8, 6), affine).as_reoriented(turn).to_bytes())
    ours, kept = read_volume(data), read_volume(decode(gzip.compress(data))["volume"])
    np.testing.assert_array_equal(np.stack(list(ours.slices())), np.stack(list(kept.slices())))
    assert kept.spacing == pytest.approx(ours.spacing, rel=1e-6)

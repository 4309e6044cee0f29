"""The rule from stored values to grey: computed here a second time, by the standard's own formula."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from meddx.ingest.headers import Unreadable
from meddx.ingest.pixels import grey_values, has_window


def header(bits: int = 12, signed: bool = False, photometric: str = "MONOCHROME2", **fields: object) -> Dataset:
    dataset = Dataset()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (8 if bits <= 8 else 16), bits, bits - 1
    dataset.PixelRepresentation, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = int(signed), photometric, 1
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


def linear_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """DICOM PS3.3 C.11.2.1.2.1, over 0..1."""
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def test_without_a_window_every_stored_value_keeps_its_own():
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    grey, rule = grey_values(stored, header(12))
    assert (rule, grey.dtype, grey.min(), grey.max()) == ("full_range", np.uint16, 0, 65535)
    assert len(np.unique(grey)) == 4096
    assert np.array_equal(np.rint(grey / 65535 * 4095), stored)


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_full_depths_are_left_as_they_are(bits, kind):
    stored = np.random.default_rng(0).integers(0, 2**bits, (9, 9)).astype(kind)
    assert np.array_equal(grey_values(stored, header(bits))[0], stored)


def test_signed_values_are_shifted():
    stored = np.array([[-32768, 0, 32767]], np.int16)
    assert grey_values(stored, header(16, signed=True))[0].tolist() == [[0, 32768, 65535]]


def test_monochrome1_is_inverted_so_that_more_is_brighter():
    stored = np.array([[0, 100, 255]], np.uint8)
    assert grey_values(stored, header(8, photometric="MONOCHROME1"))[0].tolist() == [[255, 155, 0]]


def test_a_negative_slope_turns_the_picture_round():
    stored = np.array([[0, 100, 255]], np.uint8)
    assert grey_values(stored, header(8, RescaleSlope=-1, RescaleIntercept=0))[0].tolist() == [[255, 155, 0]]


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_window_in_rescaled_units(photometric):
    stored = np.arange(0, 4096, 5, dtype=np.uint16).reshape(1, -1)
    dataset = header(12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400, photometric=photometric)
    grey, rule = grey_values(stored, dataset)
    expected = linear_window(stored.astype(float) - 1024, 40, 400)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    assert rule == "window"
    assert np.abs(grey / 65535 - expected).max() < 2e-5
    assert (grey.min(), grey.max()) == (0, 65535)


def test_the_first_of_several_windows_counts():
    stored = np.arange(0, 4096, 5, dtype=np.uint16).reshape(1, -1)
    one = grey_values(stored, header(12, WindowCenter=1000, WindowWidth=500, RescaleSlope=1, RescaleIntercept=0))[0]
    several = grey_values(stored, header(12, WindowCenter=[1000, 50], WindowWidth=[500, 10], RescaleSlope=1, RescaleIntercept=0))[0]
    assert np.array_equal(one, several)


def test_a_lookup_table_is_spread_over_its_own_range():
    item = Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.LUTData = [0, 50, 100, 255]
    item["LUTData"].VR = "US"
    dataset = header(8)
    dataset.VOILUTSequence = [item]
    grey, rule = grey_values(np.array([[0, 1, 2, 3]], np.uint8), dataset)
    assert (rule, grey.tolist()) == ("window", [[0, 50, 100, 255]])


def test_no_window_is_no_window():
    assert not has_window(header())
    assert not has_window(header(WindowCenter=None, WindowWidth=None))
    assert has_window(header(WindowCenter=0, WindowWidth=1))


def test_an_impossible_window_is_unreadable():
    with pytest.raises((Unreadable, ValueError)):
        grey_values(np.zeros((2, 2), np.uint16), header(12, WindowCenter=10, WindowWidth=0))

"""What a normal row is: learned from train, given by the recipe, and noticed for every kind of input that has it."""

from __future__ import annotations

import json
import math
from typing import Any

import cv2
import nibabel
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from meddx.errors import DataError, RecipeError
from meddx.inputs.events import EventsPreparation
from meddx.inputs.image import ImagePreparation
from meddx.inputs.normal import LEAST_FILES, LEAST_VALUES, Normal, learn, learn_distance
from meddx.inputs.options import EventsInput, ImageInput, SignalInput, TableInput, VolumeInput
from meddx.inputs.signal import SignalPreparation
from meddx.inputs.table import TablePreparation
from meddx.inputs.volume import VolumePreparation

RNG = np.random.default_rng(0)
CREATININE = np.round(np.exp(RNG.normal(0.1, 0.6, 2000)), 2)  # mg/dl
HEIGHT = np.round(RNG.normal(170, 10, 2000), 1)  # cm
CHANGE = RNG.normal(0, 3, 2000)


def outside(made: Any, table: pa.Table) -> dict[str, list[int]]:
    """After a trip through JSON, as every bundle makes it."""
    made = type(made).from_state(json.loads(json.dumps(made.state())))
    return {code: places.tolist() for code, places in made.transform(table).outside.items()}


def of_table(**more: Any) -> TablePreparation:
    train = pa.table({"crea": CREATININE, "height": HEIGHT, "change": CHANGE, "site": ["a", "b"] * 1000})
    return TablePreparation.fit("t", TableInput(**more), ["crea", "height", "change", "site"], train)


def row(**cells: Any) -> pa.Table:
    usual = {"crea": [1.0], "height": [170.0], "change": [0.0], "site": ["a"]}
    return pa.table(usual | {name: [value] for name, value in cells.items()})


def test_a_wrong_unit_is_outside_and_an_ordinary_extreme_is_not() -> None:
    for values, factor in ((CREATININE, 88.4), (HEIGHT, 0.01), (HEIGHT, 10), (CHANGE, 1000)):
        train, rest = values[:1000], values[1000:]
        made = learn(train)
        assert made is not None
        assert np.mean((rest < made.low) | (rest > made.high)) <= 0.001
        assert np.mean((rest * factor < made.low) | (rest * factor > made.high)) > 0.95


def test_what_was_never_negative_must_not_be_and_what_was_may() -> None:
    counts, change = learn(RNG.poisson(0.5, 1000).astype(float)), learn(CHANGE)
    assert counts is not None and change is not None
    assert counts.low == 0 and counts.high > 5 and change.low < -10


@pytest.mark.parametrize("values", [np.ones(500), np.arange(LEAST_VALUES - 1.0), np.full(500, np.nan), np.zeros(0)])
def test_nothing_is_learned_of_few_or_equal_values(values: np.ndarray) -> None:
    assert learn(values) is None


def test_no_value_of_a_patient_stands_on_the_page() -> None:
    for values in (CREATININE, HEIGHT, CHANGE * 1e-7, CHANGE * 1e9):
        made = learn(values)
        assert made is not None and made.seen is not None
        low, high = (float(one) for one in np.quantile(values, (0.001, 0.999)))
        width = made.seen[1] - made.seen[0]
        assert low - width / 10 < made.seen[0] < low and high < made.seen[1] < high + width / 10
        assert made.high == made.seen[1] + width  # nor can it be found by turning the rule around


def test_distances_may_double() -> None:
    made = learn_distance(np.full(LEAST_FILES, 5.0))
    assert made is not None and (made.low, made.high) == (2.5, 10.0) and learn_distance(np.ones(3)) is None


def test_cells_of_a_table_are_noticed_by_row_and_column() -> None:
    made = of_table()
    table = pa.concat_tables([row(), row(crea=88.4), row(height=1.7), row(height=math.nan), row(crea=80.0, height=1.7), row(change=-99.0)])
    assert outside(made, table) == {"range:crea": [1, 4], "range:height": [2, 4], "range:change": [5]}
    assert made.transform(table).present.all()


def test_limits_of_the_recipe_win_and_may_be_open() -> None:
    made = of_table(limits={"crea": [None, 1000], "height": [100, None]})
    table = pa.concat_tables([row(crea=88.4), row(crea=1001.0), row(height=99.9), row(height=1e6), row(crea=-1.0)])
    assert outside(made, table) == {"range:crea": [1], "range:height": [2]}


@pytest.mark.parametrize("key", ["limits", "units"])
def test_a_limit_or_a_unit_of_no_column_is_refused_with_the_nearest(key: str) -> None:
    given: dict[str, Any] = {"limits": {"heigth": [0, 1]}, "units": {"heigth": "cm"}}
    with pytest.raises(RecipeError, match="did you mean 'height'"):
        of_table(**{key: given[key]})
    with pytest.raises(RecipeError, match="'site' is no number"):
        of_table(**{key: {"site": given[key]["heigth"]}})


@pytest.mark.parametrize("limits", [[1, 0], [1, 1], [None, None], [0, math.inf], [0], ["a", 1]])
def test_limits_that_cannot_be(limits: Any) -> None:
    with pytest.raises(ValidationError):
        TableInput(limits={"x": limits})


def test_fields_of_a_joined_source_are_named_with_it() -> None:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("crea", pa.float64())]))
    table = pa.table({"labs": pa.array([[{"@time": -1.0, "crea": one}] for one in CREATININE], kind)})
    made = TablePreparation.fit("labs", TableInput(**{"from": "labs", "many": "latest", "units": {"crea": "mg/dl"}}), ["labs"], table)
    again = pa.table({"labs": pa.array([[{"@time": -1.0, "crea": one * 88.4}] for one in CREATININE[:2]], kind)})
    assert outside(made, again) == {"range:labs.crea": [0, 1]}
    assert made.normal is not None and made.normal.units == {"labs.crea": "mg/dl"} and made.normal.complete == ("labs.crea",)


def test_a_cell_of_another_type_costs_its_row_alone() -> None:
    made = of_table()
    texts = pa.concat_tables([row(crea="1.0", height="170"), row(crea="high", height="170")])
    assert made.transform(texts).errors == {1: "number_unreadable"}
    bytes_ = pa.concat_tables([row(crea=b"1.0"), row(crea=b"\xff\x00")])
    assert made.transform(bytes_).errors == {1: "number_unreadable"}
    lists = pa.table({**{name: row()[name].to_pylist() * 2 for name in ("height", "change", "site")}, "crea": [[1.0], None]})
    assert made.transform(lists).errors == {0: "number_unreadable"}
    records = pa.table({**{name: row()[name].to_pylist() * 2 for name in ("height", "change", "crea")}, "site": [{"a": 1}, None]})
    assert made.transform(records).errors == {0: "category_unreadable"}
    with pytest.raises(DataError, match=r"'crea' holds list"):  # in train it is refused
        TablePreparation.fit("t", TableInput(), ["crea", "height"], lists)


def picture(seed: int, *, colour: bool = False, bits: int = 8, dark: bool = False) -> bytes:
    shape = (16, 16, 3) if colour else (16, 16)
    pixels = np.random.default_rng(seed).integers(0, 255, shape) * (256 if bits == 16 else 1) * (not dark)
    return bytes(cv2.imencode(".png", pixels.astype(np.uint16 if bits == 16 else np.uint8))[1])


def test_pictures_in_colour_of_other_bits_and_without_contrast() -> None:
    def table(*values: bytes) -> pa.Table:
        return pa.table({"film": pa.array(values, pa.binary())})

    options = ImageInput(kind="image", column="film", size=16)
    grey = ImagePreparation.fit("film", options, table(*(picture(seed) for seed in range(LEAST_FILES))))
    found = outside(grey, table(picture(1), picture(2, colour=True), picture(3, dark=True)))
    assert found == {"channels:film": [1], "range:film": [2]}
    deep = ImagePreparation.fit("film", options, table(*(picture(seed, bits=16) for seed in range(LEAST_FILES))))
    assert outside(deep, table(picture(1, bits=16), picture(2))) == {"bits:film": [1]}
    few = ImagePreparation.fit("film", options, table(*(picture(seed) for seed in range(LEAST_FILES - 1))))
    assert outside(few, table(picture(2, colour=True), picture(3, dark=True))) == {}


def volume(seed: int, spacing: float = 2.0, more: int = 0) -> bytes:
    values = np.random.default_rng(seed).integers(-1000, 0, (6, 6, 6)).astype(np.int16) + np.int16(more)
    return bytes(nibabel.Nifti1Image(values, np.diag([-1.0, 1.0, spacing, 1.0])).to_bytes())


@pytest.mark.parametrize("window", [None, [-1000, 400]])
def test_volumes_of_other_spacing_and_without_their_offset(window: Any) -> None:
    def table(*values: bytes) -> pa.Table:
        return pa.table({"ct": pa.array(values, pa.binary())})

    options = VolumeInput(kind="volume", column="ct", size=(4, 4, 4), window=window, units="HU")
    made = VolumePreparation.fit("ct", options, table(*(volume(seed) for seed in range(LEAST_FILES))))
    found = outside(made, table(volume(1), volume(2, spacing=5), volume(3, more=1024), volume(4, spacing=3.9)))
    assert found == {"spacing:ct.slices": [1], "range:ct": [2]}
    assert made.normal is not None and made.normal.units == {"ct": "HU"}


KIND = pa.struct([("rate", pa.float64()), ("leads", pa.list_(pa.string())), ("samples", pa.list_(pa.list_(pa.float32())))])


def signals(*rows: tuple[float, np.ndarray]) -> pa.Table:
    made = [{"rate": rate, "leads": ["I", "II"], "samples": samples.tolist()} for rate, samples in rows]
    return pa.table({"ecg": pa.array(made, KIND)})


def heart(seed: int, seconds: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.5, (2, seconds)).astype(np.float32)


@pytest.mark.parametrize("normalize", ["train", "case", "none"])
def test_signals_in_other_units_of_other_rates_and_with_a_lead_off(normalize: str) -> None:
    options = SignalInput(kind="signal", column="ecg", leads=["I", "II"], rate=100, seconds=1, normalize=normalize, units="mV")
    made = SignalPreparation.fit("ecg", options, signals(*((100.0, heart(seed)) for seed in range(LEAST_FILES))))
    off = heart(4) * np.array([[1], [0]], np.float32)
    found = outside(made, signals((100.0, heart(1)), (100.0, heart(2) * 1000), (20.0, heart(3)), (100.0, off), (200.0, heart(5))))
    assert found == {"range:ecg.I": [1], "range:ecg.II": [1, 3], "rate:ecg": [2]}
    assert made.normal is not None and made.normal.units == {"ecg.I": "mV", "ecg.II": "mV"}


def test_limits_of_a_signal_are_of_every_sample() -> None:
    options = SignalInput(kind="signal", column="ecg", leads=["I", "II"], rate=100, seconds=1, limits=[-5, 5])
    made = SignalPreparation.fit("ecg", options, signals(*((100.0, heart(seed)) for seed in range(LEAST_FILES))))
    high, low, off = heart(1), heart(2), heart(3) * 0
    high[0, 100], low[1, 100] = 6, -6
    assert outside(made, signals((100.0, heart(0)), (100.0, high), (100.0, low), (100.0, off))) == {"range:ecg.I": [1], "range:ecg.II": [2]}


def test_readings_are_outside_where_most_of_them_are_and_at_once_beyond_a_given_limit() -> None:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("test", pa.string()), ("result", pa.float64())]))

    def table(*cases: list[float]) -> pa.Table:
        return pa.table({"labs": pa.array([[{"@time": -1.0, "test": "crea", "result": one} for one in case] for case in cases], kind)})

    page: dict[str, Any] = {"kind": "events", "from": "labs", "variable": "test", "value": "result", "window": ["-4h", "0h"]}
    train = table(*(CREATININE[place : place + 2].tolist() for place in range(0, 600, 2)))
    made = EventsPreparation.fit("labs", EventsInput(**page, units={"crea": "mg/dl"}), train)
    again = table([1.0, 1.1, 1.2], [88.0, 97.0, 106.0], [1.0, 97.0, 1.2], [], [88.0])
    assert outside(made, again) == {"range:labs.crea": [1, 4]}
    assert made.normal is not None and made.normal.units == {"labs.crea": "mg/dl"}
    assert outside(EventsPreparation.fit("labs", EventsInput(**page, limits={"crea": [0, 90]}), train), again) == {
        "range:labs.crea": [1, 2]
    }
    with pytest.raises(RecipeError, match="did you mean 'crea'"):
        EventsPreparation.fit("labs", EventsInput(**page, limits={"creat": [0, 1]}), train)


def test_a_state_of_before_warns_of_nothing_and_a_damaged_one_is_refused() -> None:
    state = of_table().state()
    old = TablePreparation.from_state({key: value for key, value in state.items() if key != "normal"})
    assert old.normal is None and old.state().keys() == state.keys() - {"normal"} and outside(old, row(crea=88.4)) == {}
    assert Normal.from_state(None) is None
    for damaged in ({"ranges": {"range:crea": [2, 1, None, False]}, "units": {}, "complete": []}, {"ranges": {}}):
        with pytest.raises((ValueError, KeyError)):
            Normal.from_state(damaged)

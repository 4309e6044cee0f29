"""How a beat differs from the usual beat of its own record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.ingest.options import SignalSource
from meddx.ingest.signal_rows import schema_of, starts_of, tables, window_of
from meddx.ingest.signal_shapes import APART, MOST_BEATS, SHAPES, apart, chosen_for_median, shapes, usual_beat

RATE, BEFORE, WIDTH = 100.0, 35, 90


def beats(count: int = 20, seed: int = 0, leads: int = 2) -> np.ndarray:
    """[count, leads, WIDTH]: a narrow spike at the mark with a little noise."""
    draw = np.random.default_rng(seed)
    spike = np.exp(-(((np.arange(WIDTH) - BEFORE) / 3.0) ** 2))
    return np.asarray(spike * (1 + np.arange(leads))[:, None] + 0.01 * draw.normal(size=(count, leads, WIDTH)), np.float32)


def of(windows: np.ndarray) -> dict[str, np.ndarray]:
    return shapes(windows, usual_beat(windows))


def test_the_numbers_by_hand() -> None:
    windows = np.zeros((3, 1, WIDTH), np.float32)
    windows[:, 0, BEFORE : BEFORE + 4] = [1, -1, 1, -1]
    windows[2] *= -2
    found = of(windows)
    assert tuple(found) == SHAPES
    assert found["shape_match"].tolist() == pytest.approx([1, 1, -1])
    assert found["shape_distance"].tolist() == pytest.approx([0, 0, 3])
    assert found["shape_size"].tolist() == pytest.approx([1, 1, 2])


def test_a_wide_beat_stands_out_in_every_record_whatever_its_usual_beat_is() -> None:
    wide = np.exp(-(((np.arange(WIDTH) - BEFORE - 5) / 12.0) ** 2))
    for sign in (1, -1):  # in one record the usual beat points up, in another down
        windows = sign * beats()
        windows[7] = wide
        found = of(windows)
        assert found["shape_match"].argmin() == 7 and found["shape_distance"].argmax() == 7
        assert np.delete(found["shape_match"], 7).min() > 0.95 > 0.7 > found["shape_match"][7]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 50), st.floats(-20, 20), st.integers(0, 1000))
def test_gain_and_offset_of_the_amplifier_do_not_count(gain: float, offset: float, seed: int) -> None:
    windows = beats(seed=seed).astype(np.float64)
    before, after = of(windows), of(windows * gain + offset)
    for name in SHAPES:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6)
    assert (np.abs(before["shape_match"]) <= 1 + 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 50), st.floats(-20, 20), st.integers(0, 1000))
def test_how_far_apart_does_not_depend_on_gain_offset_electrode_or_order_of_leads(gain: float, offset: float, seed: int) -> None:
    windows = beats(seed=seed).astype(np.float64)
    windows[7, :, 60:70] += 2
    found = apart(windows, usual_beat(windows))
    assert found.shape == (20, 1, WIDTH) and found[7, 0, 60:70].min() > 2 * np.delete(found[7, 0], range(60, 70)).max()
    turned = windows[:, ::-1] * -gain + offset
    np.testing.assert_allclose(apart(turned, usual_beat(turned)), found, rtol=1e-5, atol=1e-6)


def test_how_far_apart_by_hand_and_where_it_cannot_be_said() -> None:
    windows = np.zeros((3, 1, 4), np.float32)
    windows[:, 0] = [1, -1, 1, -1]
    windows[2, 0, 1:3] = [-3, 3]
    np.testing.assert_allclose(apart(windows, usual_beat(windows))[2, 0], np.log1p([0, 2, 2, 0]))
    windows[0, 0, 0] = np.nan
    assert np.isnan(apart(windows, usual_beat(windows))[0, 0]).tolist() == [True, False, False, False]
    assert (apart(np.ones((5, 2, WIDTH), np.float32), np.ones((2, WIDTH))) == 0).all()


def test_the_lead_is_there_where_it_is_asked_for() -> None:
    samples = np.random.default_rng(1).normal(size=(2, 900)).astype(np.float32)
    more = {"symbol": np.array(["N"] * 9, object)}
    for asked, names in ((False, ["I", "II"]), (True, ["I", "II", APART])):
        ((_, table),) = tables("r", RATE, ["I", "II"], samples, np.arange(9) * 90, (35, 90), more, with_apart=asked)
        signal = table.column("signal")[4].as_py()
        assert signal["leads"] == names and [len(one) for one in signal["samples"]] == [90] * len(names)


def test_unknown_samples_and_flat_records_give_no_warning_and_no_infinity() -> None:
    windows = beats()
    windows[3, 0, :50] = np.nan
    windows[4] = np.nan
    found = of(windows)
    assert np.isfinite(found["shape_match"][3]) and np.isnan(found["shape_match"][4]) and found["shape_size"][4] == 0
    flat = of(np.ones((5, 2, WIDTH), np.float32))
    assert all(np.isnan(one).all() for one in flat.values())


def test_of_a_long_record_some_beats_make_the_median() -> None:
    assert chosen_for_median(5).tolist() == [0, 1, 2, 3, 4] and len(chosen_for_median(0)) == 0 and chosen_for_median(1).tolist() == [0]
    many = chosen_for_median(100_000)
    assert len(many) == MOST_BEATS and many[0] == 0 and many[-1] == 99_999


@pytest.mark.parametrize("rows", ["beats", "sliding", "record"])
def test_the_table_has_the_columns_of_its_schema(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    samples = draw.normal(size=(2, 3000)).astype(np.float32)
    options = SignalSource.model_validate({"rows": rows})
    from meddx.ingest.signal_rows import RR

    places = np.arange(10, 3000, 90) if rows == "beats" else np.array(starts_of(options, RATE, 3000), np.int64)
    more = {"symbol": np.array(["N"] * len(places), object), **{name: np.ones(len(places)) for name in RR}} if rows == "beats" else {}
    window = window_of(options, RATE, 3000)

    def read() -> list[tuple[np.ndarray, object]]:
        return list(tables("r", RATE, ["I", "II"], samples, places, window, more))

    (_, whole), *rest = read()
    assert not rest and whole.schema.names == schema_of(rows).names  # type: ignore[attr-defined]
    if rows == "beats":
        monkeypatch.setattr("meddx.ingest.signal_rows.BLOCK_BYTES", 5000)
        pieces = read()
        assert len(pieces) > 3  # the usual beat is that of the record, not of the block
        for name in SHAPES:
            found = np.concatenate([one.column(name).to_numpy() for _, one in pieces])  # type: ignore[attr-defined]
            np.testing.assert_array_equal(found, whole.column(name).to_numpy())  # type: ignore[attr-defined]
        more["symbol"] = np.array(["V"] * len(places), object)  # labels change nothing
        assert all(read()[0][1].column(name).equals(pieces[0][1].column(name)) for name in SHAPES)  # type: ignore[attr-defined]

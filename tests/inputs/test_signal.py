from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from meddx.errors import BundleError, DataError
from meddx.inputs.filters import band_pass, band_pass_gaps, factors, resample
from meddx.inputs.options import SignalInput
from meddx.inputs.signal import CLIP, SignalPreparation
from meddx.inputs.signal_summary import PLAIN, names_of, summarise
from meddx.inputs.types import Prepared

KIND = pa.struct([("rate", pa.float64()), ("leads", pa.list_(pa.string())), ("samples", pa.list_(pa.list_(pa.float32())))])


def one(samples: Any, leads: tuple[str, ...] = ("I", "II"), rate: float | None = 100.0) -> dict[str, Any]:
    return {"rate": rate, "leads": list(leads), "samples": samples}


def signals(*rows: Any) -> pa.Table:
    return pa.table({"signal": pa.array(rows, KIND)})


def noise(seed: int, count: int = 100, leads: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 2.0, (leads, count)).astype(np.float32)


def many(count: int = 6, **more: Any) -> pa.Table:
    return signals(*(one(noise(seed, **more).tolist()) for seed in range(count)))


def options(**more: Any) -> SignalInput:
    return SignalInput(**{"kind": "signal", "leads": ["I", "II"], "rate": 100, "seconds": 1, **more})


def fitted(table: pa.Table | None = None, **more: Any) -> SignalPreparation:
    return SignalPreparation.fit("ecg", options(**more), many() if table is None else table)


def same(first: Prepared, second: Prepared) -> None:
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name
    assert first.aside["summary"].tobytes() == second.aside["summary"].tobytes() and first.errors == second.errors


@pytest.mark.parametrize("more", [{}, {"band": (1, 20), "rate": 73}, {"normalize": "case", "rate": 250}])
def test_leads_swapped_in_the_file_change_nothing(more: dict[str, Any]) -> None:
    rows = [noise(seed, leads=3) for seed in range(6)]
    straight = signals(*(one(row.tolist(), ("I", "II", "V1")) for row in rows))
    swapped = signals(*(one(row[[2, 1, 0]].tolist(), ("V1", "II", "I")) for row in rows))
    prep, other = fitted(straight, **more), fitted(swapped, **more)
    assert prep == other
    same(prep.transform(straight), other.transform(swapped))
    wrong = signals(*(one(row[[1, 0, 2]].tolist(), ("I", "II", "V1")) for row in rows))  # the twin: values swapped, names not
    assert (prep.transform(wrong).arrays["samples"] != prep.transform(straight).arrays["samples"]).any()


def test_train_moments_make_train_standard_and_are_named_in_the_state() -> None:
    prep = fitted()
    made = prep.transform(many()).arrays["samples"]
    assert made.shape == (6, 2, 100) and made.dtype == np.float32
    np.testing.assert_allclose(made.mean((0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(made.std((0, 2)), 1, atol=1e-5)
    table = many()
    assert fitted(table.take([3, 1, 0, 2, 5, 4])) == prep, "the order of rows does not matter"


def test_a_row_is_prepared_the_same_alone_and_among_others() -> None:
    table = pa.concat_tables([many(5), signals(one(noise(9, 33).tolist()), one(noise(8, 400).tolist(), rate=360.0))])
    prep = fitted(table, band=(1, 30), rate=90)
    whole = prep.transform(table)
    for row in range(table.num_rows):
        alone = prep.transform(table.slice(row, 1))
        assert alone.arrays["samples"].tobytes() == whole.arrays["samples"][row : row + 1].tobytes()
        assert alone.aside["summary"].tobytes() == whole.aside["summary"][row : row + 1].tobytes()


def test_short_is_padded_on_the_right_and_long_is_cut_about_its_middle() -> None:
    short, long = noise(0, 40), noise(1, 160)
    made = fitted(normalize="none").transform(signals(one(short.tolist()), one(long.tolist())))
    assert made.arrays["length"].tolist() == [40, 100] and made.arrays["length"].dtype == np.int32
    np.testing.assert_array_equal(made.arrays["samples"][0, :, :40], short)
    assert not made.arrays["samples"][0, :, 40:].any()
    np.testing.assert_array_equal(made.arrays["samples"][1], long[:, 30:130])
    assert not fitted().transform(signals(one(short.tolist()))).arrays["samples"][0, :, 40:].any(), "padding is zero, scaled or not"


def test_a_longer_window_only_adds_padding() -> None:
    table = many()
    narrow, wide = fitted(table), fitted(table, seconds=2)
    first, second = narrow.transform(table), wide.transform(table)
    assert first.arrays["samples"].tobytes() == np.ascontiguousarray(second.arrays["samples"][:, :, :100]).tobytes()
    plain = [i for i, name in enumerate(narrow.spec()["summary_names"]) if ":mean_" not in name]
    np.testing.assert_array_equal(first.aside["summary"][:, plain], second.aside["summary"][:, plain])


@pytest.mark.parametrize("rate", [50, 80, 125, 250, 360, 400.5])
def test_a_resampled_sine_is_the_sine(rate: float) -> None:
    def wave(at: float) -> np.ndarray:
        return 2.0 + np.sin(2 * np.pi * 3 * np.arange(round(2 * at)) / at)

    table = signals(one([wave(100.0).tolist()], ("I",)))
    made = fitted(table, leads=["I"], rate=rate, seconds=2, normalize="none").transform(table)
    count = int(made.arrays["length"][0])
    assert abs(count - 2 * rate) <= 1
    middle = slice(count // 10, -count // 10)
    np.testing.assert_allclose(made.arrays["samples"][0, 0, :count][middle], wave(rate)[:count][middle], atol=0.02)


def test_a_signal_at_the_wanted_rate_is_not_touched() -> None:
    row = noise(4)
    made = fitted(normalize="none").transform(signals(one(row.tolist())))
    assert made.arrays["samples"][0].tobytes() == row.tobytes()


def test_rows_of_different_rates_meet_at_one() -> None:
    def wave(rate: float) -> list[list[float]]:
        line = np.sin(2 * np.pi * 2 * np.arange(int(rate)) / rate).tolist()
        return [line, line]

    made = fitted(normalize="none").transform(signals(*(one(wave(rate), rate=rate) for rate in (100.0, 200.0, 360.0)))).arrays
    assert made["length"].tolist() == [100, 100, 100]
    np.testing.assert_allclose(made["samples"][1], made["samples"][0], atol=0.05)
    np.testing.assert_allclose(made["samples"][2], made["samples"][0], atol=0.05)


def test_the_reason_of_each_bad_row() -> None:
    good = noise(0, 10).tolist()
    bad = {
        "lead_missing": [one(good, ("I", "V1")), one(good[:1], ("I",))],
        "signal_empty": [one([[], []]), one([], ()), one(None), one([[1.0], []])],
        "signal_not_finite": [
            one([good[0], [float("nan"), *good[1][1:]]]),
            one([good[0], [float("inf"), *good[1][1:]]]),
            one([good[0], [None, *good[1][1:]]]),
        ],
        "signal_unreadable": [
            one(good, rate=None),
            one(good, rate=0.0),
            one(good, rate=float("nan")),
            one(good, rate=-5.0),
            one(good, rate=1e12),
            one(good, rate=1e-9),
            one(good, ("I", "I")),
            one(good[:1], ("I", "II")),
            one(good, ("I",)),
            one([[1.0], [1.0, 2.0]]),
        ],
    }
    rows = [(reason, row) for reason, cases in bad.items() for row in cases]
    prep = fitted()
    made = prep.transform(signals(*(row for _, row in rows), one(good), None))
    # two names for one list: a wanted lead that stands there is not missing, the record contradicts itself
    assert made.errors == {i: reason for i, (reason, _) in enumerate(rows)}
    assert made.present.tolist() == [False] * len(rows) + [True, False]
    assert not made.arrays["samples"][~made.present].any() and not made.arrays["length"][~made.present].any()
    assert np.isnan(made.aside["summary"][~made.present]).all()
    same(prep.transform(signals(one(good))), Prepared(
        {name: array[len(rows) : len(rows) + 1] for name, array in made.arrays.items()}, made.present,
        aside={"summary": made.aside["summary"][len(rows) : len(rows) + 1]},
    ))  # fmt: skip


def test_a_fault_in_a_lead_that_is_not_wanted_is_no_fault() -> None:
    rows = one([[1.0, 2.0], [3.0, 4.0], [float("nan"), 1.0]], ("I", "II", "V1"))
    assert fitted().transform(signals(rows)).present.tolist() == [True]


def test_bad_rows_of_train_do_not_count() -> None:
    bad = signals(one([[1e9], [float("nan")]]), one([[5.0]], ("V1",)), None)
    assert fitted(pa.concat_tables([many(), bad])) == fitted()


def test_nothing_readable_in_train_is_refused() -> None:
    with pytest.raises(DataError, match="no signal of train"):
        fitted(signals(one([[1.0]], ("V1",)), None))


def test_a_flat_lead_and_a_large_offset_keep_their_digits() -> None:
    waves = np.random.default_rng(0).normal(0, 1, (4, 100)) + 30_000
    table = signals(*(one([[30_000.1] * 100, wave.tolist()]) for wave in waves))
    prep = fitted(table)
    assert prep.deviation[0] == 1.0 and prep.deviation[1] == pytest.approx(waves.std(), rel=1e-3)
    for normalize in ("train", "case"):
        made = fitted(table, normalize=normalize).transform(table)
        np.testing.assert_allclose(made.arrays["samples"][:, 0], 0, atol=0.01)
        assert np.isfinite(made.aside["summary"]).all()


def test_by_case_each_signal_has_its_own_scale() -> None:
    row = noise(2)
    made = fitted(normalize="case").transform(signals(one(row.tolist()), one((row * 1000 + 5).tolist())))
    np.testing.assert_allclose(made.arrays["samples"][0], made.arrays["samples"][1], atol=1e-3)


def test_a_wrong_unit_stays_finite() -> None:
    made = fitted().transform(signals(one((noise(0) * 1e30).tolist())))
    assert made.present[0] and np.abs(made.arrays["samples"]).max() == CLIP and np.isfinite(made.aside["summary"]).all()


def test_a_plain_list_is_one_lead_at_the_wanted_rate() -> None:
    row = noise(0)[0]
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64())):
        table = pa.table({"signal": pa.array([row.tolist(), [], None, [1.0, None]], kind)})
        made = fitted(table, leads=["only"], normalize="none").transform(table)
        np.testing.assert_array_equal(made.arrays["samples"][0, 0], row)
        assert made.errors == {1: "signal_empty", 3: "signal_not_finite"} and made.present.tolist() == [True, False, False, False]
    with pytest.raises(DataError, match="names of leads"):
        fitted(pa.table({"signal": pa.array([[1.0]])}))


@pytest.mark.parametrize("values", [["text"], [1.5], [{"rate": 1.0}], [{"rate": 1.0, "leads": ["I"], "samples": [1.0]}], [[["text"]]]])
def test_a_column_of_something_else_is_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match="ecg"):
        fitted(pa.table({"signal": values}), leads=["I"])


def test_wider_types_sliced_and_chunked_tables_are_the_same() -> None:
    wide = pa.struct(
        [("samples", pa.large_list(pa.large_list(pa.float64()))), ("leads", pa.large_list(pa.large_string())), ("rate", pa.int64())]
    )
    table = many()
    rows = table.column("signal").to_pylist()
    prep = fitted()
    whole = prep.transform(table)
    other = pa.table({"signal": pa.array([{**row, "rate": int(row["rate"])} for row in rows], wide)})
    same(whole, prep.transform(other))
    same(whole, prep.transform(pa.concat_tables([signals(None, *rows[:2]).slice(1), signals(*rows[2:], None).slice(0, 4)])))


def test_a_piece_of_few_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.concat_tables([many(), signals(None, one([[1.0]], ("V1",)))])
    whole = fitted().transform(table)
    monkeypatch.setattr("meddx.inputs.signal.PIECE_ROWS", 3)
    monkeypatch.setattr("meddx.inputs.signal.PIECE_VALUES", 250)
    same(whole, fitted().transform(table))


def test_missing_columns() -> None:
    other = pa.table({"age": [1, 2]})
    made = fitted(optional=True).transform(other)
    assert not made.present.any() and not made.errors and made.arrays["samples"].shape == (2, 2, 100)
    with pytest.raises(DataError, match="not in the table"):
        fitted().transform(other)
    nulls = fitted().transform(pa.table({"signal": pa.nulls(2)}))
    assert not nulls.present.any() and not nulls.errors
    assert fitted().transform(many().slice(0, 0)).arrays["samples"].shape == (0, 2, 100)


def test_of_a_joined_source_the_latest_signal_counts() -> None:
    row = pa.struct([("@time", pa.float64()), ("trace", KIND)])
    first, second, later = (one(noise(seed).tolist()) for seed in range(3))
    rows = [
        [{"@time": -2.0, "trace": first}, {"@time": -1.0, "trace": second}, {"@time": 1.0, "trace": later}],
        [],
        [{"@time": -1.0, "trace": first}],
    ]
    table = pa.table({"ecgs": pa.array(rows, pa.list_(row))})
    prep = fitted(table, **{"from": "ecgs", "column": "trace"}, normalize="none")
    assert prep.columns == ("ecgs",)
    made = prep.transform(table)
    assert made.present.tolist() == [True, False, True] and not made.errors
    np.testing.assert_array_equal(made.arrays["samples"][[0, 2]], [second["samples"], first["samples"]])
    assert SignalPreparation.from_state(json.loads(json.dumps(prep.state()))) == prep


def test_the_summary_is_what_its_names_say() -> None:
    values = noise(3, 64)
    made = fitted(normalize="none", seconds=0.64).transform(signals(one(values.tolist())))
    found = dict(zip(fitted(seconds=0.64).spec()["summary_names"], made.aside["summary"][0].tolist(), strict=True))
    line = values[1].astype(np.float64)
    assert found["II:mean"] == pytest.approx(line.mean(), rel=1e-5) and found["II:std"] == pytest.approx(line.std(), rel=1e-5)
    assert found["II:min"] == pytest.approx(line.min()) and found["II:q25"] == pytest.approx(np.quantile(line, 0.25), rel=1e-5)
    assert found["II:step"] == pytest.approx(np.abs(np.diff(line)).mean(), rel=1e-5)
    scaled = (line - line.mean()) / line.std()
    assert found["II:skew"] == pytest.approx((scaled**3).mean(), abs=1e-4)
    assert found["II:kurtosis"] == pytest.approx((scaled**4).mean() - 3, abs=1e-4)
    assert found["I:mean_31"] == pytest.approx(values[0, 62:].mean(), rel=1e-5)
    assert len(found) == 2 * (len(PLAIN) + 32) == made.aside["summary"].shape[1]


def test_segments_behind_the_end_are_missing_and_not_zero() -> None:
    made = fitted(normalize="none").transform(signals(one(np.ones((2, 50)).tolist())))
    segments = made.aside["summary"][0, len(PLAIN) : len(PLAIN) + 32]
    np.testing.assert_allclose(segments[:16], 1.0)
    assert np.isnan(segments[17:]).all()


def test_a_window_shorter_than_its_segments() -> None:
    samples = np.ones((1, 1, 5), np.float32)
    assert len(names_of(["I"], 5)) == summarise(samples, np.array([5]), 1).shape[1] == len(PLAIN) + 5
    assert np.isfinite(summarise(samples[:, :, :1], np.array([1]), 1)).all()


def test_the_state_comes_back_through_json() -> None:
    prep = fitted(band=(0.5, 40), rate=80)
    back = SignalPreparation.from_state(json.loads(json.dumps(prep.state())))
    assert back == prep and back.spec() == prep.spec()
    assert prep.spec() | {"summary_names": []} == {
        "kind": "signal", "optional": False, "leads": 2, "steps": 80, "rate": 80.0, "summary_names": [],
    }  # fmt: skip
    same(prep.transform(many()), back.transform(many()))


@pytest.mark.parametrize(
    "damage",
    [
        {"leads": None}, {"leads": []}, {"leads": ["I"]}, {"leads": ["I", "I"]}, {"rate": 0}, {"rate": "x"}, {"rate": float("inf")},
        {"steps": 0}, {"steps": 1 << 40}, {"band": [1]}, {"band": [5, 1]}, {"band": "x"}, {"normalize": "other"}, {"mean": [1.0]},
        {"mean": [1.0, float("nan")]}, {"std": [1.0, 0.0]}, {"std": [1.0, -1.0]}, {"std": 3},
    ],
)  # fmt: skip
def test_a_damaged_state_is_a_bundle_error(damage: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        SignalPreparation.from_state({**fitted().state(), **damage})


@pytest.mark.parametrize("key", sorted(fitted().state().keys() - {"kind", "normal"}))
def test_a_state_that_lacks_a_key_is_a_bundle_error(key: str) -> None:
    with pytest.raises(BundleError):
        SignalPreparation.from_state({name: value for name, value in fitted().state().items() if name != key})


@pytest.mark.parametrize("more", [{"seconds": 0.001}, {"seconds": 1e9}, {"leads": ["I", "I"]}, {"band": (40, 1)}])
def test_options_that_cannot_be_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        fitted(**more)


def test_the_band_keeps_what_is_in_it_without_delay() -> None:
    at = np.arange(8000) / 200
    slow, inside, fast = (np.sin(2 * np.pi * hertz * at) for hertz in (0.05, 5, 80))
    made = band_pass(slow + inside + fast, 200.0, (0.5, 40.0))
    np.testing.assert_allclose(made[1000:-1000], inside[1000:-1000], atol=0.03)
    np.testing.assert_allclose(band_pass(inside + fast, 200.0, (0.0, 40.0))[1000:-1000], inside[1000:-1000], atol=0.03)
    np.testing.assert_allclose(band_pass(slow + fast, 200.0, (0.5, 150.0))[1000:-1000], fast[1000:-1000], atol=0.03)
    np.testing.assert_array_equal(band_pass(slow, 200.0, (0.0, 150.0)), slow)
    with pytest.raises(ValueError, match="band"):
        band_pass(slow, 1.0, (0.6, 40.0))


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_the_shortest_signals_pass_through_everything(count: int) -> None:
    table = signals(one(noise(0, count).tolist()))
    made = fitted(table, band=(0.5, 30), rate=250).transform(table)
    assert (
        made.present[0]
        and np.isfinite(made.arrays["samples"]).all()
        and np.isfinite(band_pass_gaps(np.full(3, np.nan), 9, (1, 2))).sum() == 0
    )


def test_factors_are_exact_for_usual_rates() -> None:
    assert factors(360, 125) == (25, 72) and factors(100, 100) == (1, 1) and factors(1000, 0.5 * 1000) == (1, 2)
    values = np.arange(5.0)
    assert resample(values, 250.0, 250.0) is values


def test_fifty_thousand_beats_take_seconds() -> None:
    count = 20_000
    values = np.random.default_rng(0).normal(size=count * 2 * 360).astype(np.float32)
    each = pa.ListArray.from_arrays(np.arange(2 * count + 1, dtype=np.int32) * 360, values)
    of_rows = np.arange(count + 1, dtype=np.int32) * 2
    names = pa.ListArray.from_arrays(of_rows, pa.array(["I", "II"] * count))
    column = pa.StructArray.from_arrays([np.full(count, 360.0), names, pa.ListArray.from_arrays(of_rows, each)], fields=list(KIND))
    table = pa.table({"signal": column})
    began = time.process_time()
    assert fitted(table, rate=180).transform(table).present.all()
    assert time.process_time() - began < 20  # about two seconds, on a processor that others may use too

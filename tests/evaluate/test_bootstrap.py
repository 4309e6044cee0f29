"""Resamples by patient: what is drawn, when there is no interval, and how fast."""

from __future__ import annotations

import time

import numpy as np
import pytest

from meddx.evaluate import bootstrap
from meddx.evaluate.bootstrap import draw, interval, patient_numbers, resamples, too_few
from meddx.evaluate.metrics import BinaryNumbers


def test_a_patient_comes_with_all_cases():
    patients = np.array([0, 0, 1, 2, 2, 2])
    for weights in resamples(patients, 50, 0):
        assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
        assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_blocks_do_not_change_the_draws(monkeypatch):
    patients = np.arange(40)
    whole = np.concatenate(list(resamples(patients, 30, 5)))
    monkeypatch.setattr(bootstrap, "BLOCK", 90)
    pieces = list(resamples(patients, 30, 5))
    assert len(pieces) > 10 and (np.concatenate(pieces) == whole).all()
    assert not (np.concatenate(list(resamples(patients, 30, 6))) == whole).all()


def test_numbers_of_patients():
    assert patient_numbers(None, 3).tolist() == [0, 1, 2]
    found = patient_numbers(np.array(["b", None, "a", "b", None], dtype=object), 5)
    assert found[0] == found[3] and len(set(found.tolist())) == 4 and sorted(set(found.tolist())) == [0, 1, 2, 3]


def test_models_share_the_resamples():
    random = np.random.default_rng(0)
    labels, said = random.random(100) < 0.4, random.random(100)
    found = draw({"one": BinaryNumbers(labels, said), "same": BinaryNumbers(labels, said)}, np.arange(100), 200, 0)
    assert (found["one"]["auroc"] == found["same"]["auroc"]).all() and len(found["one"]["auroc"]) == 200


def test_interval_is_wider_when_patients_repeat():
    """Twin: the same cases taken as independent give an interval that is too narrow."""
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(100), 5)
    labels = np.repeat(random.random(100) < 0.4, 5)
    numbers = {"m": BinaryNumbers(labels, (labels + np.repeat(random.normal(size=100), 5)) / 20 + 0.5)}
    by_patient = interval(draw(numbers, patients, 300, 0)["m"]["auroc"])
    by_case = interval(draw(numbers, np.arange(500), 300, 0)["m"]["auroc"])
    assert by_patient.spread > 1.8 * by_case.spread


def test_interval_of_percentiles_and_reflected():
    draws = np.arange(1, 1001) / 1000
    found = interval(draws)
    assert (found.low, found.high) == pytest.approx((0.026, 0.975), abs=0.001) and found.spread == pytest.approx(draws.std(ddof=1))
    turned = interval(draws, reflect_at=0.4)
    assert (turned.low, turned.high) == pytest.approx((0.8 - found.high, 0.8 - found.low))
    assert interval(np.where(draws < 0.1, np.nan, draws)).reason == "undefined in too many resamples"
    assert not interval(np.where(draws < 0.04, np.nan, draws)).reason


def test_ece_interval_holds_its_estimate():
    """Twin: plain percentiles of a well calibrated model's ECE leave the estimate outside."""
    random = np.random.default_rng(1)
    said = random.random(400)
    numbers = {"m": BinaryNumbers(random.random(400) < said, said)}
    value = float(numbers["m"](np.ones((1, 400)))["ece"][0])
    draws = draw(numbers, np.arange(400), 300, 0)["m"]["ece"]
    turned = interval(draws, reflect_at=value)
    assert turned.low <= value <= turned.high
    assert interval(draws).low > value or draws.mean() > value * 1.1


@pytest.mark.parametrize(
    ("patients", "positive", "why"), [(29, 12, "29; 30 are needed"), (60, 9, "9 with"), (60, 51, "9 without"), (60, 10, "")]
)
def test_too_few(patients, positive, why):
    column = (np.arange(patients) < positive)[:, None]
    reasons = too_few(np.arange(patients), column, np.ones_like(column), ("yes",))
    assert all(why in one and bool(one) == bool(why) for one in reasons)


def test_too_few_counts_patients_not_cases():
    column = (np.arange(100) < 50)[:, None]
    assert "20; 30" in too_few(np.arange(100) % 20, column, np.ones_like(column), ("yes",))[0]


def test_too_few_of_one_class_spoils_averages_only():
    values = np.r_[np.zeros(50, int), np.ones(50, int), np.full(4, 2)]
    column = values[:, None] == np.arange(3)
    base, averaged = too_few(np.arange(104), column, np.ones_like(column), ("a", "b", "c"))
    assert base == "" and "4 with c" in averaged


def test_fast_enough():
    """1,000 resamples of 5,000 cases and 5 models; about 1 s on two idle cores, 5 s is the promise."""
    random = np.random.default_rng(0)
    labels = random.random(5000) < 0.3
    models = {str(one): BinaryNumbers(labels, random.random(5000), random.random(5000) < 0.5) for one in range(5)}
    start = time.process_time()
    draw(models, np.arange(5000), 1000, 0)
    assert time.process_time() - start < 10

"""Exact spans: counted as by hand, compared as every other kind, and refused where they do not fit."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.errors import DataError, LeakError, RecipeError
from meddx.evaluate.compare import compare
from meddx.evaluate.fitting import check_metrics
from meddx.evaluate.folds import FoldScores, compare_folds
from meddx.evaluate.options import ComparisonOptions, PrimaryOptions
from meddx.evaluate.spans import SpanNumbers, span_array, span_counts, span_lists
from meddx.evaluate.types import ModelScores, Truth
from meddx.evaluate.words import sentences

LABELS = ("Disease", "Chemical")
SPAN = st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(0, 1)).map(lambda one: (one[0], one[0] + one[1], one[2]))
CASES = st.lists(st.tuples(st.lists(SPAN, max_size=5), st.lists(SPAN, max_size=5)), min_size=1, max_size=6)


def options(**primary):
    return ComparisonOptions(primary=PrimaryOptions(**{"metric": "span_f1", "against": "dictionary", **primary}), bootstrap=200)


def scene(n=300, finds=(0.9, 0.6), seed=0):
    """Up to five spans a case; a model finds each with its chance, misses one end of half of the others, and adds some."""
    random = np.random.default_rng(seed)
    true, said = [], {"network": [], "dictionary": []}
    for _ in range(n):
        starts = 10 * random.choice(20, random.integers(0, 6), replace=False)
        spans = [(int(one), int(one) + 5, int(random.integers(0, 2))) for one in starts]
        true.append(spans)
        for (_, found), chance in zip(said.items(), finds, strict=True):
            luck = random.random(len(spans))
            right = [one for one, u in zip(spans, luck, strict=True) if u < chance]
            off = [(one[0], one[1] + 1, one[2]) for one, u in zip(spans, luck, strict=True) if chance <= u < (1 + chance) / 2]
            found.append(right + off + ([(300, 304, 0)] if random.random() < 0.1 else []))
    models = {name: ModelScores(span_array(one), None, "network" if name == "network" else "baseline") for name, one in said.items()}
    return models, Truth("tags", LABELS, span_array(true), np.ones(n, bool), "spans")


def run(models, truth, patients=None, chosen=None, rates=(0.8, 0.7)):
    return compare(models, truth, patients, chosen or options(), train_rates=rates)


def by_hand(cases, label=None):
    """(hits, predicted, true) with plain sets over all cases."""
    inside = (lambda one: True) if label is None else (lambda one: one[2] == label)
    pairs = [({one for one in true if inside(one)}, {one for one in said if inside(one)}) for true, said in cases]
    return sum(len(t & s) for t, s in pairs), sum(len(s) for _, s in pairs), sum(len(t) for t, _ in pairs)


@settings(max_examples=80, deadline=None)
@given(CASES, st.data())
def test_numbers_are_those_of_plain_sets(cases, data):
    numbers = SpanNumbers(span_counts([true for true, _ in cases], [said for _, said in cases], 2))
    times = [data.draw(st.integers(0, 3)) for _ in cases]
    drawn = [one for one, often in zip(cases, times, strict=True) for _ in range(often)]
    found = numbers(np.array([times], dtype=np.float64))
    places = [(None, ("span_f1", "span_precision", "span_recall"))] + [(j, (f"f1/{j}", f"ppv/{j}", f"sensitivity/{j}")) for j in (0, 1)]
    for label, names in places:
        hits, said, true = by_hand(drawn, label)
        expected = [2 * hits / (said + true) if said + true else np.nan, hits / said if said else np.nan, hits / true if true else np.nan]
        assert [found[name][0] for name in names] == pytest.approx(expected, nan_ok=True)


def test_stored_rows_become_lists():
    rows = [[{"start": 0, "end": 4, "label": "Chemical", "score": 0.9}, {"start": 5, "end": 6, "label": "Other", "score": 0.2}], None, []]
    assert span_lists(rows, {"Disease": 0, "Chemical": 1}).tolist() == [[(0, 4, 1)], None, []]
    same = span_lists([[{"start": 0, "end": 4, "label": "Disease"}]] * 3, {"Disease": 0})
    assert same.shape == (3,) and same.dtype == object  # NumPy alone would make a block of [3, 1, 3]


def test_best_is_chosen_by_the_validate_score_of_the_metric():
    models, truth = scene(100)
    models["dictionary"] = replace(models["dictionary"], validate_score=0.6)
    assert run(models, truth, chosen=options(against="best"))["primary"]["against"] == "dictionary"


def test_a_span_counts_only_whole_and_once():
    true = [[(0, 5, 0), (10, 14, 1)]]
    for said in ([(0, 4, 0)], [(1, 5, 0)], [(0, 5, 1)]):
        assert span_counts(true, [said], 2)[0, :, 0].sum() == 0
    twice = span_counts(true, [[(0, 5, 0), (0, 5, 0), (10, 14, 1)]], 2)
    assert twice.tolist() == [[[1, 1, 1], [1, 1, 1]]]  # the twin, a plain list, would count 2 predicted
    assert span_counts(true, [[]], 2).shape == (1, 2, 3) and span_counts([], [], 2).shape == (0, 2, 3)


def test_the_better_model_is_useful_and_every_label_has_its_row():
    models, truth = scene()
    found = run(models, truth)
    assert found["primary"]["verdict"] == "useful" and "exact-span F1 0." in found["primary"]["sentence"]
    assert list(found["metrics"]) == ["span_f1", "span_precision", "span_recall"] and found["curves"] == [] and found["priors"] == []
    hits, said, true = by_hand(list(zip(truth.values, models["network"].probabilities, strict=True)))
    numbers = found["models"][0]["numbers"]
    assert numbers["span_f1"]["value"] == pytest.approx(2 * hits / (said + true)) and numbers["span_f1"]["low"] is not None
    assert [one["class"] for one in found["per_class"]] == list(LABELS) and sum(one["spans"] for one in found["per_class"]) == true
    assert {"network", "dictionary", "prevalence"} == set(found["per_class"][0]["models"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found and "ECE" not in found["intervals"]["method"]


def test_prevalence_tags_nothing():
    found = run(*scene())
    row = next(one for one in found["models"] if one["name"] == "prevalence")["numbers"]
    assert row["span_f1"]["value"] == 0 and row["span_recall"]["value"] == 0
    assert row["span_precision"] == {"value": None, "low": None, "high": None, "reason": "no span was predicted"}


def test_a_case_that_one_model_did_not_score_is_left_out_of_all():
    models, truth = scene()
    models["network"].probabilities[:40] = None
    found = run(models, truth)
    assert found["cases"]["left_out"] == 40 and found["cases"]["compared"] == 260 and found["cases"]["not_scored"]["network"] == 40
    fewer = {name: replace(one, probabilities=one.probabilities[40:]) for name, one in models.items()}
    alone = run(fewer, replace(truth, values=truth.values[40:], known=truth.known[40:]))
    assert alone["models"][1]["numbers"] == found["models"][1]["numbers"]
    assert any("40 labelled test cases" in one and "outcome" not in one for one in found["warnings"])


def test_an_unlabelled_case_is_in_no_number():
    models, truth = scene()
    truth.values[5] = None
    known = truth.known.copy()
    known[5] = False
    found = run(models, replace(truth, known=known))
    assert found["cases"]["unlabelled"] == 1 and found["cases"]["compared"] == 299


def test_resamples_draw_patients_not_cases():
    models, truth = scene(60)
    many = {name: replace(one, probabilities=np.tile(one.probabilities, 8)) for name, one in models.items()}
    whole = replace(truth, values=np.tile(truth.values, 8), known=np.tile(truth.known, 8))
    names = [f"p{row}" for row in np.tile(np.arange(60), 8)]

    def width(patients):
        cell = run(many, whole, patients)["primary"]["difference"]
        return cell["high"] - cell["low"]

    assert width(names) > 2 * width(None)  # the twin that takes copies for patients is too sure by the root of 8


def test_few_patients_have_no_interval_and_say_so():
    found = run(*scene(25))
    assert found["primary"]["verdict"] == "none" and "25; 30 are needed" in found["primary"]["words"]
    models, truth = scene(100)
    rare = span_array([[(1, 4, 0)] + ([(9, 12, 1)] if row < 9 else []) for row in range(100)])
    found = run(models, replace(truth, values=rare))["per_class"][1]["models"]["dictionary"]["sensitivity"]
    assert found["low"] is None and found["reason"] == "too few patients for an interval (9 with Chemical; 10 are needed)"
    nobody = run(models, replace(truth, values=span_array([[] for _ in range(100)])))
    assert nobody["primary"]["verdict"] == "none" and nobody["models"][0]["numbers"]["span_recall"]["reason"] == "no case has a span"


def test_every_case_may_hold_the_label():
    """A label that no case is without is no obstacle for spans, as it would be for a yes-or-no answer."""
    models, truth = scene(100)
    full = span_array([[*one, (400, 403, 0), (500, 505, 1)] for one in truth.values])
    assert run(models, replace(truth, values=full))["primary"]["difference"]["low"] is not None


def test_labels_that_moved_are_said_and_rates_may_be_unknown():
    models, truth = scene()
    assert any("holds other spans than training: Disease in" in one for one in run(models, truth, rates=(0.1, 0.7))["warnings"])
    quiet = run(models, truth, rates=())
    assert quiet["warnings"][:-1] == [] and quiet["cases"]["outcomes"][0]["train_rate"] is None


def test_metrics_that_do_not_fit_name_those_that_do():
    for metric in ("auroc", "macro_f1", "mae"):
        with pytest.raises(RecipeError, match="does not fit a tags answer") as told:
            check_metrics("tags", LABELS, options(metric=metric))
        assert "span_f1" in str(told.value)
    with pytest.raises(RecipeError, match="does not fit a tags answer"):
        check_metrics("tags", LABELS, ComparisonOptions())  # the default of the recipe
    with pytest.raises(RecipeError, match="span_f1 does not fit a binary"):
        check_metrics("binary", ("no", "yes"), options())
    with pytest.raises(RecipeError, match="no averages over classes"):
        check_metrics("tags", LABELS, ComparisonOptions(primary=PrimaryOptions(metric="span_f1"), classes=("Disease",)))


@pytest.mark.parametrize("bad", [(5, 5, 0), (6, 5, 0), (-1, 4, 0), (0, 4, 2), (0, 4, -1)])
def test_spans_that_cannot_be_are_refused(bad):
    models, truth = scene(40)
    models["network"].probabilities[3] = [bad]
    with pytest.raises(ValueError, match="network: a span"):
        run(models, truth)


def test_shapes_that_do_not_fit_are_refused():
    models, truth = scene(40)
    for wrong in (models["network"].probabilities[:39], np.zeros((40, 2))):
        with pytest.raises(ValueError, match="object array of 40 lists"):
            run({**models, "network": replace(models["network"], probabilities=wrong)}, truth)
    gone = span_array(truth.values)
    gone[0] = None
    with pytest.raises(ValueError, match="truth: a known case has no list"):
        run(models, replace(truth, values=gone))
    with pytest.raises(ValueError, match="train_rates"):
        run(models, truth, rates=(0.5,))
    with pytest.raises(ValueError, match="between 0 and 1"):
        run(models, truth, rates=(3.2, 0.4))  # spans a case are no shares
    with pytest.raises(DataError, match="no labelled case was scored"):
        run({**models, "network": replace(models["network"], probabilities=span_array([None] * 40))}, truth)


def folded(models, truth, count=5):
    folds = []
    for fold in range(count):
        rows = np.arange(len(truth.values))[fold::count]
        scores = {name: replace(one, probabilities=one.probabilities[rows]) for name, one in models.items()}
        part = replace(truth, values=truth.values[rows], known=truth.known[rows])
        folds.append(FoldScores(0, fold, part, [f"p{row}" for row in rows], scores, len(truth.values) - len(rows)))
    return folds


def test_folds_average_and_pool():
    models, truth = scene()
    folds = folded(models, truth)
    found = compare_folds(folds, options(against="best"))
    each = [by_hand(list(zip(one.truth.values, one.scores["network"].probabilities, strict=True))) for one in folds]
    assert found["primary"]["model_number"]["value"] == pytest.approx(np.mean([2 * h / (s + t) for h, s, t in each]))
    pooled = found["folds"]["pooled"]["models"]["network"]["span_f1"]["value"]
    assert pooled == pytest.approx(run(models, truth)["models"][0]["numbers"]["span_f1"]["value"])
    assert found["primary"]["against"] == "dictionary" and found["folds"]["absent_sentence"] == ""
    assert json.dumps(found, allow_nan=False) and all("nan" not in one for one in sentences(found, 0))
    with pytest.raises(LeakError):
        compare_folds([replace(one, patients=["same"] * len(one.truth.values)) for one in folds], options())


def test_five_thousand_cases_are_quick():
    models, truth = scene(5000)
    start = time.perf_counter()
    run(models, truth, [f"p{row}" for row in range(5000)], ComparisonOptions(primary=options().primary, bootstrap=1000))
    assert time.perf_counter() - start < 5

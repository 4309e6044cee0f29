"""Folds: the corrected t against its formula and in simulation, what is averaged, pooled and said, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from meddx.errors import LeakError, RecipeError
from meddx.evaluate.folds import FoldScores, compare_folds
from meddx.evaluate.options import ComparisonOptions, PrimaryOptions
from meddx.evaluate.resampled import corrected, judge_folds
from meddx.evaluate.types import ModelScores, Truth
from meddx.evaluate.words import sentences


def options(**primary):
    return ComparisonOptions(primary=PrimaryOptions(**{"against": "logistic", **primary}), bootstrap=200)


def scene(n=200, repeats=2, count=5, seed=0, clear=None, validate=None):
    """`network` sees more than the baselines; every repeat deals the patients anew."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.4).astype(float)
    folds = []
    for repeat in range(repeats):
        order = random.permutation(n)
        for fold in range(count):
            rows = order[fold::count]
            scores = {}
            for name, strength in (clear or {"network": 2.2, "logistic": 0.8, "forest": 1.2}).items():
                logit = strength * (strength * labels[rows] + random.normal(size=len(rows))) - strength**2 / 2 - 0.4
                said = 1 / (1 + np.exp(-logit))
                kind = "network" if name == "network" else "baseline"
                scores[name] = ModelScores(said, (said > 0.4).astype(int), kind, validate_score=(validate or {}).get(name))
            truth = Truth("binary", ("benign", "malignant"), labels[rows], np.ones(len(rows), bool), "diagnosis")
            folds.append(FoldScores(repeat, fold, truth, [f"p{row}" for row in rows], scores, n - len(rows)))
    return folds


def test_corrected_is_the_formula():
    values = np.array([0.1, 0.3, -0.1, 0.2, 0.15, 0.05])
    mean, found = corrected(values, 0.25)
    spread = math.sqrt((1 / 6 + 0.25) * values.var(ddof=1))
    assert mean == pytest.approx(values.mean()) and found.spread == pytest.approx(spread)
    assert found.high - mean == pytest.approx(stats.t.ppf(0.975, 5) * spread)
    plain = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (corrected(values, 0.0)[1].low, corrected(values, 0.0)[1].high) == pytest.approx((plain.low, plain.high))


def test_corrected_says_why_there_is_no_interval():
    assert corrected([np.nan, np.nan], 0.25)[1].reason == "undefined in every fold"
    assert corrected([0.2, np.nan], 0.25)[1].reason == "one fold alone has no spread"
    mean, same = corrected([0.1 + 0.2, 0.3, 0.3], 0.25)
    assert mean == pytest.approx(0.3) and "the same in every fold" in same.reason and math.isnan(same.low)


def differences(simulations, repeats, count, n, seed):
    """[simulations, repeats x count] differences in accuracy of two procedures that are equally good in truth: each puts the border
    halfway between the class means of its own feature, and the features are alike."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(n) % 2, (simulations, 1))
    features = 0.8 * labels[:, :, None] + random.normal(size=(simulations, n, 2))
    found = []
    for _ in range(repeats):
        order = random.permutation(n)
        for fold in range(count):
            held = np.zeros(n, bool)
            held[order[fold::count]] = True
            yes, no = (labels[0] == one for one in (1, 0))
            border = (features[:, ~held & yes].mean(axis=1) + features[:, ~held & no].mean(axis=1)) / 2
            right = (features[:, held] > border[:, None, :]) == (labels[:, held, None] == 1)
            found.append(right[:, :, 0].mean(axis=1) - right[:, :, 1].mean(axis=1))
    return np.stack(found, axis=1)


def test_the_corrected_interval_keeps_its_promise_and_the_plain_one_does_not():
    found = differences(simulations=800, repeats=10, count=5, n=100, seed=0)
    wrong = {ratio: np.mean([not low <= 0 <= high for low, high in _intervals(found, ratio)]) for ratio in (0.25, 0.0)}
    assert wrong[0.25] < 0.08  # promised: 0.05; two standard errors of 800 simulations are 0.015
    assert wrong[0.25] > 0.005  # nor so wide that it says nothing
    assert wrong[0.0] > 0.3  # the twin that must fail: folds taken for independent


def _intervals(found, ratio):
    for one in found:
        interval = corrected(one, ratio)[1]
        yield interval.low, interval.high


def test_means_over_folds_and_verdict():
    folds = scene()
    found = compare_folds(folds, options())
    each = [[roc_auc_score(one.truth.values, one.scores[name].probabilities) for one in folds] for name in ("network", "logistic")]
    primary = found["primary"]
    assert primary["model_number"]["value"] == pytest.approx(np.mean(each[0]))
    mean, around = corrected(np.subtract(*each), 40 / 160)
    assert (primary["difference"]["value"], primary["difference"]["low"]) == pytest.approx((mean, around.low))
    assert primary["verdict"] == "useful" and found["folds"]["ratio"] == pytest.approx(0.25)
    assert (found["folds"]["repeats"], found["folds"]["folds"], found["folds"]["count"], found["folds"]["used"]) == (2, 5, 10, 10)
    assert [one["values"]["network"] for one in found["folds"]["table"]] == pytest.approx(each[0])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_order_of_the_folds_changes_nothing():
    folds = scene()
    assert compare_folds(folds[::-1], options()) == compare_folds(folds, options())


def test_a_worse_model_and_one_that_is_no_better():
    worse = compare_folds(scene(clear={"network": 0.6, "logistic": 2.5}), options())["primary"]
    assert worse["verdict"] == "worse" and worse["detectable"] > 0
    alike = compare_folds(scene(clear={"network": 1.2, "logistic": 1.2}), options())["primary"]
    assert alike["verdict"] == "not_shown" and "do not show" in alike["plain"]


def test_pooled_numbers_are_of_the_first_repeat_taken_together():
    folds = scene()
    found = compare_folds(folds, options())["folds"]["pooled"]
    first = [one for one in folds if one.repeat == 0]
    labels = np.concatenate([one.truth.values for one in first])
    said = np.concatenate([one.scores["network"].probabilities for one in first])
    cell = found["models"]["network"]["auroc"]
    assert cell["value"] == pytest.approx(roc_auc_score(labels, said)) and cell["low"] < cell["value"] < cell["high"]
    assert found["cases"] == 200 and found["difference"]["low"] is not None and "bootstrap by patient" in found["method"]


def test_prevalence_of_a_fold_comes_from_the_other_folds():
    folds = scene(n=60, repeats=1)
    found = compare_folds(folds, options(metric="brier"))
    row = next(one for one in found["folds"]["table"] if one["fold"] == 2)
    elsewhere = np.concatenate([one.truth.values for one in folds if one.fold != 2]).mean()
    assert row["values"]["prevalence"] == pytest.approx(np.mean((folds[2].truth.values - elsewhere) ** 2))
    given = compare_folds(folds, options(metric="brier"), train_rates=[0.9])["folds"]["table"][2]["values"]["prevalence"]
    assert given == pytest.approx(np.mean((folds[2].truth.values - 0.9) ** 2))


def test_best_on_the_same_folds_is_said():
    found = compare_folds(scene(), options(against="best"))
    assert found["primary"]["against"] == "forest" and found["primary"]["chosen_on_folds"] and found["folds"]["chosen_on_folds"]
    assert "same folds" in found["primary"]["chosen"] and "flatters" in found["folds"]["sentence"]


def test_best_by_validate_parts_inside_the_folds():
    found = compare_folds(scene(validate={"logistic": 0.9, "forest": 0.7}), options(against="best"))
    assert found["primary"]["against"] == "logistic" and not found["primary"]["chosen_on_folds"]
    assert found["primary"]["chosen"] == "the best on the validate parts inside the folds" and "flatters" not in found["folds"]["sentence"]
    one = compare_folds(scene(clear={"network": 2, "logistic": 1}), options(against="best"))["primary"]
    assert one["against"] == "logistic" and one["chosen"] == "the only fitted baseline"


def test_equal_folds_give_a_sentence_and_no_nan():
    folds = [replace(one, scores={**one.scores, "logistic": replace(one.scores["network"], kind="baseline")}) for one in scene()]
    found = compare_folds(folds, options())
    assert found["primary"]["verdict"] == "not_shown" and "both are the same in every fold" in found["primary"]["words"]
    assert found["primary"]["difference"]["low"] is None and json.dumps(found, allow_nan=False)
    assert not any(" nan" in line for line in sentences(found, 0))
    constant = judge_folds(*corrected([0.1] * 5, 0.25), 5, 0.01)
    assert constant["verdict"] == "none" and "the difference is the same in every fold" in constant["words"]


def test_a_fold_without_the_outcome_is_left_out_and_counted():
    folds = scene()
    empty = replace(folds[3].truth, values=np.zeros(40))
    found = compare_folds([*folds[:3], replace(folds[3], truth=empty), *folds[4:]], options())
    assert found["folds"]["used"] == 9 and "undefined in 1 fold" in found["folds"]["sentence"]
    assert found["primary"]["model_number"]["folds"] == 9 and found["folds"]["table"][3]["difference"] is None


def test_sentences_say_what_is_estimated():
    lines = sentences(compare_folds(scene(), options()), 0)
    assert any("the estimate is of the procedure, the bundle is refitted on all rows" in line for line in lines)
    assert any("10 folds (5-fold, 2 times over)" in line for line in lines)
    assert "held-out case" in lines[-2] and lines[-1] == "No test part was opened." and not any("test case" in one for one in lines)


def test_intervals_of_a_number_stay_within_it():
    found = compare_folds(scene(n=60, clear={"network": 6.0, "logistic": 1.0}), options())
    assert all(one["numbers"]["auroc"]["high"] is None or one["numbers"]["auroc"]["high"] <= 1 for one in found["models"])


def test_ordinal_and_regression_folds():
    random = np.random.default_rng(0)
    folds, numbers = [], []
    for fold in range(5):
        values = random.choice(3, 40)
        said = np.eye(3)[values] * 0.4 + 0.2
        models = {"network": ModelScores(said, values), "logistic": ModelScores(said[::-1], values[::-1], "baseline")}
        folds.append(FoldScores(0, fold, Truth("ordinal", ("a", "b", "c"), values, np.ones(40, bool)), None, models, 160))
        real = {"network": ModelScores(values + random.normal(size=40), None), "ridge": ModelScores(values * 0.0, None, "baseline")}
        numbers.append(FoldScores(0, fold, Truth("regression", (), values, np.ones(40, bool)), None, real, 160))
    ordinal = compare_folds(folds, options(metric="kappa"))
    assert ordinal["primary"]["verdict"] == "useful" and len(ordinal["per_class"]) == 3
    found = compare_folds(numbers, options(metric="rmse", against="ridge"))
    assert found["primary"]["lower_is_better"] and found["curves"][0]["observed"]["bins"] and json.dumps(found, allow_nan=False)
    with pytest.raises(RecipeError, match="does not fit"):
        compare_folds(numbers, options(metric="auroc", against="ridge"))


def test_what_does_not_fit_is_refused():
    folds = scene(n=60, repeats=1)
    both = replace(folds[1], patients=[folds[0].patients[0], *folds[1].patients[1:]])
    with pytest.raises(LeakError, match="held out by two folds") as told:
        compare_folds([folds[0], both, *folds[2:]], options())
    assert folds[0].patients[0] not in str(told.value)
    with pytest.raises(ValueError, match="stands twice"):
        compare_folds([folds[0], *folds], options())
    with pytest.raises(ValueError, match="other models"):
        compare_folds([replace(folds[0], scores={"network": folds[0].scores["network"]}), *folds[1:]], options())
    with pytest.raises(ValueError, match="n_train"):
        compare_folds([replace(folds[0], n_train=0), *folds[1:]], options())
    with pytest.raises(ValueError, match="no folds"):
        compare_folds([], options())
    with pytest.raises(ValueError, match="train_rates"):
        compare_folds(folds[:1], options())


def beats(gone=(), records=22, count=5, seed=0):
    """Folds of whole records with beats N, S, V and F; `gone` are (fold, class number) that a fold does not hold."""
    random = np.random.default_rng(seed)
    folds = []
    for fold in range(count):
        names = np.repeat([f"r{one}" for one in range(fold, records, count)], 60)
        values = random.choice(4, len(names), p=[0.7, 0.1, 0.15, 0.05])
        values[:4] = range(4)
        for where, number in gone:
            values[(values == number) & (where == fold)] = 0
        scores = {}
        for name, clear, kind in (("network", 2.5, "network"), ("boosting", 1.5, "baseline"), ("logistic", 0.8, "baseline")):
            logits = random.normal(size=(len(names), 4)) + clear * np.eye(4)[values]
            said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            scores[name] = ModelScores(said, said.argmax(axis=1), kind)
        truth = Truth("multiclass", ("N", "S", "V", "F"), values, np.ones(len(names), bool), "beat")
        folds.append(FoldScores(0, fold, truth, list(names), scores, 1000))
    return folds


def test_classes_that_a_fold_does_not_hold_are_said():
    wanted = ComparisonOptions(primary=PrimaryOptions(metric="macro_f1", against="boosting"), bootstrap=200)
    assert compare_folds(beats(), wanted)["folds"]["absent_sentence"] == ""
    found = compare_folds(beats(gone=[(0, 3), (3, 3), (2, 1)]), wanted)["folds"]
    assert found["absent"] == {"F": 2, "S": 1}
    assert found["absent_sentence"] == (
        "Averages over classes run, in each fold, over the classes that its cases hold: F is left out in 2 of 5 folds, S in 1; "
        "the folds taken together leave out only what no fold holds."
    )
    named = wanted.model_copy(update={"classes": ("N", "S", "V")})
    assert compare_folds(beats(gone=[(0, 3), (2, 1)]), named)["folds"]["absent"] == {"S": 1}


def test_few_records_keep_the_fold_interval_and_say_why_the_pooled_numbers_have_none():
    found = compare_folds(beats(), options(metric="macro_f1", against="boosting"))
    assert found["folds"]["pooled"]["none"] == "22 patients: too few for an interval by resampling"
    assert found["primary"]["difference"]["low"] is not None and found["models"][0]["numbers"]["macro_f1"]["low"] is not None
    assert found["folds"]["pooled"]["models"]["network"]["macro_f1"]["low"] is None
    unknown = [replace(one, patients=None, truth=_first(one.truth, 5), scores=_firsts(one.scores, 5)) for one in beats()]
    none = compare_folds(unknown, options(metric="accuracy", against="boosting"))["folds"]["pooled"]["none"]
    assert none == "25 cases: too few for an interval by resampling"


def _first(truth, n):
    return replace(truth, values=truth.values[:n], known=truth.known[:n])


def _firsts(scores, n):
    return {name: replace(one, probabilities=one.probabilities[:n], decisions=one.decisions[:n]) for name, one in scores.items()}


def test_pooled_sensitivity_and_ppv_of_each_class_for_every_model():
    folds = beats()
    found = compare_folds(folds, options(metric="macro_f1", against="boosting"))["per_class"]
    values = np.concatenate([one.truth.values for one in folds])
    for name in ("network", "boosting", "logistic"):
        decided = np.concatenate([one.scores[name].decisions for one in folds])
        for number in (1, 2):
            cells = found[number]["models"][name]
            hits = np.sum((values == number) & (decided == number))
            assert cells["sensitivity"]["value"] == pytest.approx(hits / np.sum(values == number))
            assert cells["ppv"]["value"] == pytest.approx(hits / np.sum(decided == number))
            assert found[number]["cases"] == np.sum(values == number) and found[number]["of"] == len(values)

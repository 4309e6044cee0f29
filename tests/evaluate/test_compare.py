"""The whole comparison: roles, counts, verdict, priors, warnings, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from meddx.errors import DataError, RecipeError
from meddx.evaluate.compare import compare
from meddx.evaluate.options import ComparisonOptions, PrimaryOptions
from meddx.evaluate.types import ModelScores, Truth
from meddx.evaluate.words import sentences

_spec = importlib.util.spec_from_file_location("evaluate_scenes", Path(__file__).with_name("scenes.py"))
assert _spec and _spec.loader
scenes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenes)


def run(**scene):
    models, truth, patients = scene.pop("models"), scene.pop("truth"), scene.pop("patients")
    return compare(models, truth, patients, scene.pop("options"), train_rates=scene.pop("train_rates"))


def row(comparison, name):
    return next(one for one in comparison["models"] if one["name"] == name)


def test_a_truly_better_model_is_useful():
    found = run(**scenes.scene(600))
    primary = found["primary"]
    assert (primary["model"], primary["against"], primary["verdict"]) == ("network", "logistic", "useful")
    assert primary["difference"]["low"] > 0.01 and primary["words"] == "better, and useful"
    assert primary["sentence"].startswith("network AUROC 0.") and "against logistic 0." in primary["sentence"]
    assert primary["plain"] == "network is better than logistic, by more than the smallest difference worth having."
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_worse_model_is_worse_and_the_order_is_said():
    found = run(**scenes.scene(600, strong=0.8, weak=2.0))
    assert found["primary"]["verdict"] == "worse" and "is worse than logistic" in found["primary"]["plain"]
    assert [one["name"] for one in found["models"]] == ["network", "logistic", "prevalence"]
    assert [one["role"] for one in found["models"]] == ["model", "against", ""]


@pytest.mark.parametrize("metric", ["brier", "log_loss", "ece"])
def test_lower_is_better_is_turned(metric):
    scene = scenes.scene(600, strong=2.5, weak=0.6)
    scene["models"]["logistic"] = replace(scene["models"]["logistic"], probabilities=np.full(600, 0.9))
    scene["options"] = scenes.options(metric=metric)
    primary = run(**scene)["primary"]
    assert primary["model_number"]["value"] < primary["against_number"]["value"]
    assert primary["difference"]["value"] > 0 and primary["verdict"] == "useful" and "turned so that + is better" in primary["sentence"]


def test_prevalence_is_always_in_the_table_and_knows_nothing():
    found = run(**scenes.scene())
    assert row(found, "prevalence")["numbers"]["auroc"]["value"] == 0.5
    assert row(found, "prevalence")["calibration"]["slope"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "the probabilities are all alike",
    }
    given = scenes.scene()
    given["models"]["prevalence"] = ModelScores(np.full(300, 0.3), np.zeros(300), "baseline")
    assert row(run(**given), "prevalence")["calibration"]["in_the_large"]["value"] == pytest.approx(0.3 - given["truth"].values.mean())


def test_best_is_chosen_on_validate_never_on_test():
    scene = scenes.scene(strong=2.0, weak=1.5)
    random = np.random.default_rng(9)
    scene["models"]["weak"] = replace(scenes.seen(random, scene["truth"].values, 0.5, "baseline"), validate_score=0.9)
    scene["models"]["logistic"] = replace(scene["models"]["logistic"], validate_score=0.8)
    scene["options"] = scenes.options(against="best")
    found = run(**scene)["primary"]
    assert (found["against"], found["chosen"]) == ("weak", "the best on the validate part")
    scene["options"] = scenes.options(against="best", metric="brier")
    assert run(**scene)["primary"]["against"] == "logistic"


def test_best_needs_a_validate_score():
    scene = scenes.scene()
    scene["options"] = scenes.options(against="best")
    with pytest.raises(RecipeError, match="best needs"):
        run(**scene)


def test_names_that_are_not_there():
    scene = scenes.scene()
    scene["options"] = scenes.options(against="forest")
    with pytest.raises(RecipeError, match="no predictions of 'forest'"):
        run(**scene)
    scene["options"] = scenes.options(model="fusion")
    with pytest.raises(RecipeError, match="fusion"):
        run(**scene)
    scene["options"], scene["models"]["second"] = scenes.options(), scene["models"]["network"]
    with pytest.raises(RecipeError, match="2 networks"):
        compare(scene["models"], scene["truth"], None, ComparisonOptions(primary=PrimaryOptions(against="logistic")), train_rates=[0.4])


def test_cases_without_a_score_or_label_are_counted_and_left_out_for_all():
    scene = scenes.scene(300)
    said = scene["models"]["network"].probabilities.copy()
    said[:20] = np.nan
    known = np.ones(300, bool)
    known[15:30] = False
    values = np.where(known, scene["truth"].values, np.nan)
    scene["models"]["network"] = replace(scene["models"]["network"], probabilities=said)
    scene["truth"] = replace(scene["truth"], known=known, values=values)
    found = run(**scene)
    cases = found["cases"]
    assert (cases["given"], cases["labelled"], cases["unlabelled"], cases["left_out"], cases["compared"]) == (300, 285, 15, 15, 270)
    assert cases["not_scored"] == {"prevalence": 0, "logistic": 0, "network": 15}
    expected = roc_auc_score(values[30:], scene["models"]["logistic"].probabilities[30:])
    assert row(found, "logistic")["numbers"]["auroc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert cases["outcomes"][0]["left_out_rate"] == pytest.approx(values[:15].mean())
    assert any("15 labelled test cases of 285 could not be scored" in one for one in found["warnings"])


def test_nothing_to_compare_is_refused():
    scene = scenes.scene(50)
    with pytest.raises(DataError, match="no case of the test part has a label"):
        run(**{**scene, "truth": replace(scene["truth"], known=np.zeros(50, bool))})
    scene["models"]["network"] = replace(scene["models"]["network"], probabilities=np.full(50, np.nan))
    with pytest.raises(DataError, match="scored by network"):
        run(**scene)


def test_what_is_no_probability_is_refused():
    scene = scenes.scene(50)
    scene["models"]["network"] = ModelScores(np.linspace(-3, 3, 50), None)
    with pytest.raises(DataError, match="not between 0 and 1"):
        run(**scene)
    scene["models"]["network"] = ModelScores(np.zeros(49), None)
    with pytest.raises(ValueError, match="shape"):
        run(**scene)


def test_few_patients_give_no_interval_and_no_verdict():
    found = run(**scenes.scene(200, cases_a_patient=10))
    assert found["primary"]["verdict"] == "none" and "20; 30 are needed" in found["primary"]["words"]
    assert found["primary"]["difference"]["value"] is not None and found["primary"]["difference"]["low"] is None
    assert all(cell["low"] is None for one in found["models"] for cell in one["numbers"].values())
    assert "do not allow a verdict" in sentences(found)[0]
    json.dumps(found, allow_nan=False)


def test_one_outcome_only_is_a_sentence_and_not_a_crash():
    scene = scenes.scene(60)
    scene["truth"] = replace(scene["truth"], values=np.zeros(60))
    found = run(**scene)
    assert row(found, "network")["numbers"]["auroc"] == {"value": None, "low": None, "high": None, "reason": "no case has the outcome"}
    assert found["primary"]["verdict"] == "none" and "undefined" in found["primary"]["sentence"]


def test_the_same_model_twice_is_not_better():
    scene = scenes.scene()
    scene["models"]["network"] = replace(scene["models"]["logistic"], kind="network")
    primary = run(**scene)["primary"]
    assert primary["verdict"] == "not_shown" and "same in every resample" in primary["words"] and primary["detectable"] is None


def test_detectable_comes_from_the_spread():
    small, large = (run(**scenes.scene(n))["primary"]["detectable"] for n in (150, 1350))
    assert 2 < small / large < 4.5


def test_unknown_patients_are_said():
    scene = scenes.scene()
    scene["patients"] = None
    found = run(**scene)
    assert any("not known: intervals may be too narrow" in one for one in found["warnings"])
    some = scenes.scene()
    some["patients"][:3] = [None, None, None]
    assert any("The patient of 3 cases is not known" in one for one in run(**some)["warnings"])


def test_the_row_order_changes_nothing():
    scene = scenes.scene(200, cases_a_patient=2)
    order = np.random.default_rng(1).permutation(200)
    turned = {
        **scene,
        "patients": [scene["patients"][one] for one in order],
        "truth": replace(scene["truth"], values=scene["truth"].values[order], known=scene["truth"].known[order]),
        "models": {
            name: replace(one, probabilities=one.probabilities[order], decisions=one.decisions[order])
            for name, one in scene["models"].items()
        },
    }
    first, second = run(**scene)["primary"]["difference"], run(**turned)["primary"]["difference"]
    assert first == pytest.approx(second, abs=1e-12)


def test_secondary_lists_all_else_and_not_the_primary():
    found = run(**scenes.scene())
    pairs = {(one["against"], one["metric"]) for one in found["secondary"]}
    assert ("logistic", "auroc") not in pairs and ("logistic", "brier") in pairs and ("prevalence", "auroc") in pairs
    assert all("verdict" not in one for one in found["secondary"])
    few = scenes.scene()
    few["options"] = ComparisonOptions(primary=PrimaryOptions(against="logistic"), also=("brier",), bootstrap=300)
    assert list(run(**few)["metrics"]) == ["auroc", "brier"]


def test_a_prior_is_compared_by_rank_where_it_is_there():
    scene = scenes.scene(400)
    labels = scene["truth"].values
    score = -(labels + np.random.default_rng(3).normal(size=400)) * 1e6
    score[:100] = np.nan
    scene["models"]["physician"] = ModelScores(score, None, "prior", higher_means="negative")
    found = run(**scene)
    prior = found["priors"][0]
    assert prior["cases"] == 300 and prior["left_out"]["cases"] == 100 and prior["left_out"]["rate"] == pytest.approx(labels[:100].mean())
    area = next(one for one in prior["numbers"] if one["metric"] == "auroc")
    assert area["prior"]["value"] == pytest.approx(roc_auc_score(labels[100:], -score[100:]), abs=1e-12)
    assert area["model"]["value"] == pytest.approx(roc_auc_score(labels[100:], scene["models"]["network"].probabilities[100:]), abs=1e-12)
    assert area["difference"]["low"] < area["difference"]["value"] < area["difference"]["high"]
    assert found["cases"]["compared"] == 400 and "physician" not in {one["name"] for one in found["models"]}


def test_a_prior_that_is_never_there_does_not_crash():
    scene = scenes.scene()
    scene["models"]["physician"] = ModelScores(np.full(300, np.nan), None, "prior")
    assert run(**scene)["priors"][0]["numbers"] == []


def three_classes(seed=0, n=300):
    random = np.random.default_rng(seed)
    values = random.integers(0, 3, n)
    logits = random.normal(size=(n, 3)) + np.eye(3)[values]
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    models = {"network": ModelScores(said, said.argmax(axis=1)), "logistic": ModelScores(said[::-1], said[::-1].argmax(axis=1), "baseline")}
    return models, Truth("multiclass", ("a", "b", "c"), values, np.ones(n, bool), "tissue")


def test_multiclass():
    models, truth = three_classes()
    found = compare(models, truth, None, scenes.options(), train_rates=[1 / 3] * 3)
    assert found["primary"]["verdict"] == "useful" and "macro AUROC" in found["primary"]["sentence"]
    assert [one["class"] for one in row(found, "network")["classes"]] == ["a", "b", "c"] and len(found["curves"]) == 3
    assert np.array(row(found, "network")["confusion"]).sum() == 300
    with pytest.raises(RecipeError, match="yes-or-no"):
        compare({**models, "old": ModelScores(np.zeros(300), None, "prior")}, truth, None, scenes.options(), train_rates=[1 / 3] * 3)


def test_multilabel_with_unknown_labels():
    random = np.random.default_rng(0)
    values = (random.random((300, 2)) < 0.4).astype(float)
    said = 1 / (1 + np.exp(-(2 * values - 1 + random.normal(size=(300, 2)))))
    known = random.random((300, 2)) < 0.9
    models = {"network": ModelScores(said, said > 0.5), "logistic": ModelScores(np.full((300, 2), 0.9), said > 2, "baseline")}
    truth = Truth("multilabel", ("effusion", "nodule"), np.where(known, values, np.nan), known)
    found = compare(models, truth, None, scenes.options(), train_rates=[0.4, 0.1])
    assert found["primary"]["verdict"] == "useful" and row(found, "network")["confusion"] is None
    assert found["cases"]["outcomes"][0]["of"] == int((known[:, 0] & known.any(axis=1)).sum())
    assert any("made up otherwise" in one and "nodule 10 % to" in one for one in found["warnings"])

"""What must stand in the first paragraph: a missed goal, bad calibration, another mixture; and silence when all is well."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meddx.evaluate.compare import compare
from meddx.evaluate.warn import reached

_spec = importlib.util.spec_from_file_location("evaluate_scenes", Path(__file__).with_name("scenes.py"))
assert _spec and _spec.loader
scenes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenes)


def warnings(change=None, *, goal="youden", rates=(0.4,), n=2000, cases_a_patient=1):
    scene = scenes.scene(n, cases_a_patient=cases_a_patient)
    model = scene["models"]["network"]
    said = model.probabilities if change is None else change(model.probabilities)
    scene["models"]["network"] = replace(model, probabilities=said, threshold={"value": 0.4, "goal": goal})
    return compare(scene["models"], scene["truth"], scene["patients"], scene["options"], train_rates=rates)["warnings"]


def stretched(by, shift=0.0):
    return lambda said: 1 / (1 + np.exp(-(by * np.log(said / (1 - said)) + shift)))


def test_nothing_to_say_when_all_is_well():
    assert warnings(goal="sensitivity >= 0.50") == []


def test_a_missed_goal():
    (found,) = warnings(goal="sensitivity >= 0.97")
    assert found.startswith("The decisions of network miss their goal: sensitivity of at least 0.97 was asked, on the test part it is 0.")
    assert "Wilson" in found and "by chance" not in found and "can be chance" not in found


def test_a_goal_missed_by_chance_says_so():
    scene = scenes.scene(100)
    labels = scene["truth"].values
    hit = (scene["models"]["network"].decisions[labels == 1]).mean()
    scene["models"]["network"] = replace(scene["models"]["network"], threshold={"goal": f"sensitivity >= {hit + 0.01:.2f}"})
    found = compare(scene["models"], scene["truth"], scene["patients"], scene["options"], train_rates=[0.4])["warnings"]
    assert any("so this can be chance" in one for one in found)


def test_several_cases_a_patient_take_the_bootstrap():
    (found,) = warnings(goal="ppv >= 0.99", cases_a_patient=4)
    assert "bootstrap by patient" in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stretched(2.5), "too extreme"),
        (stretched(0.4), "too timid"),
        (stretched(1, 0.8), "too high on average"),
        (stretched(1, -0.8), "too low on average"),
    ],
)
def test_calibration(change, words):
    assert any(words in one for one in warnings(change))


def test_another_mixture():
    (found,) = warnings(rates=(0.7,))
    assert found.startswith("The outcome is less frequent in the test part (") and found.endswith("than it was in training (70 %).")
    assert warnings(rates=(0.41,)) == []


def test_reached_by_hand():
    from meddx.evaluate.types import ModelScores

    scores = ModelScores(np.zeros(6), None, threshold={"goal": "specificity >= 0.75"})
    found = reached(scores, [0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 1, 0], {}, True)
    assert found is not None and (found["hits"], found["of"], found["value"], found["met"]) == (3, 4, 0.75, True)
    ppv = reached(replace(scores, threshold={"goal": "ppv >= 0.5"}), [0, 1], [0, 0], {}, True)
    assert ppv is not None and ppv["value"] is None and not ppv["met"]
    assert reached(replace(scores, threshold={"goal": "youden"}), [0, 1], [0, 1], {}, True) is None
    assert reached(replace(scores, threshold=None), [0, 1], [0, 1], {}, True) is None


def test_overconfidence_of_many_classes():
    random = np.random.default_rng(0)
    values = random.integers(0, 3, 400)
    from meddx.evaluate.types import ModelScores, Truth

    logits = 6 * (random.normal(size=(400, 3)) + 0.5 * np.eye(3)[values])
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    models = {"network": ModelScores(said, said.argmax(axis=1)), "logistic": ModelScores(np.full((400, 3), 1 / 3), None, "baseline")}
    truth = Truth("multiclass", ("a", "b", "c"), values, np.ones(400, bool))
    found = compare(models, truth, None, scenes.options(), train_rates=[1 / 3] * 3)["warnings"]
    assert any("too sure of its first choice" in one for one in found)

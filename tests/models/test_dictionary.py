"""The dictionary baseline: what train knew is found again, longest first; through the bytes of a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dictionary_helper import CLASSES, SPECS, Entity, Known, head_of, labels, prepared

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.types import Prepared
from meddx.models.baselines import baseline_logits, fit_baseline
from meddx.models.dictionary import NOWHERE, SURE, check_dictionary, dictionary_logits, empty_dictionary, fit_dictionary
from meddx.models.heads import make_head
from meddx.models.options import BaselineOptions
from meddx.predict.estimators import dump_estimator, load_estimator


def fitted(texts: list[str], entities: list[list[Entity]], **more: Any) -> Any:
    """In one fold, so that a name must be meant in half of its places."""
    split = [one.split() for one in texts]
    more = {"groups": np.zeros(len(texts)), **more}
    return fit_dictionary(prepared(split), labels(split, entities), 2, seed=0, **more)


def tagged(model: Any, text: str) -> list[tuple[str, str]]:
    """(words, label) of each entity that the tags head reads from the logits."""
    words = text.split()
    (found,) = make_head(head_of()).spans(dictionary_logits(model, head_of(), prepared([words])))  # type: ignore[attr-defined]
    return [(" ".join(words[first : last + 1]), CLASSES[label]) for first, last, label, _ in found]


def test_names_of_train_are_found_and_the_longest_wins() -> None:
    model = fitted(
        ["acute renal failure today", "renal failure and aspirin", "no failure"],
        [[(0, 3, 1)], [(0, 2, 1), (3, 1, 0)], []],
    )
    assert tagged(model, "Aspirin in acute renal failure") == [("Aspirin", "drug"), ("acute renal failure", "disease")]
    assert tagged(model, "renal failure renal failure") == [("renal failure", "disease")] * 2
    assert tagged(model, "renal disease , failure") == []


def test_a_name_that_seldom_is_meant_is_left_out() -> None:
    texts = ["lead poisons", "lead us", "lead on", "gold heals", "gold shines"]
    entities = [[(0, 1, 0)], [], [], [(0, 1, 0)], []]
    assert tagged(fitted(texts, entities), "lead and gold") == [("gold", "drug")]
    assert tagged(fitted(texts[:2], entities[:2]), "lead and gold") == [("lead", "drug")]


def test_a_name_inside_a_longer_one_does_not_count_against_it() -> None:
    texts = ["cancer", "breast cancer", "colon cancer", "lung cancer"]
    entities = [[(0, 1, 1)], [(0, 2, 1)], [(0, 2, 1)], [(0, 2, 1)]]
    assert tagged(fitted(texts, entities), "skin cancer") == [("cancer", "disease")]
    as_others = [entities[0], [], [], []]  # the same words outside any entity do count
    assert tagged(fitted(texts, as_others), "skin cancer") == []


def test_the_label_that_a_name_most_often_has_is_kept() -> None:
    model = fitted(["iron", "iron", "iron"], [[(0, 1, 0)], [(0, 1, 1)], [(0, 1, 1)]])
    assert tagged(model, "iron") == [("iron", "disease")]


def test_a_short_word_in_capitals_is_another_word() -> None:
    model = fitted(["AS hurts", "as usual", "as ever", "as before"], [[(0, 1, 1)], [], [], []])
    assert tagged(model, "AS as") == [("AS", "disease")]
    assert tagged(fitted(["asthma attack"], [[(0, 1, 1)]]), "ASTHMA") == [("ASTHMA", "disease")]  # a heading


def test_a_name_does_not_reach_over_the_end_of_a_text() -> None:
    model = fitted(["renal failure"], [[(0, 2, 1)]])
    split = [["acute", "renal"], ["failure", "again"]]
    logits = dictionary_logits(model, head_of(), prepared(split))
    assert make_head(head_of()).spans(logits) == [[], []]  # type: ignore[attr-defined]


def test_the_layout_is_that_of_a_tags_head() -> None:
    model = fitted(["aspirin helps"], [[(0, 1, 0)]])
    logits = dictionary_logits(model, head_of(), prepared([["aspirin", "now"], []]))
    assert logits.shape == (2, make_head(head_of()).n_outputs) and logits.dtype == np.float64
    emissions = logits[:, : 8 * 5].reshape(2, 8, 5)
    assert emissions[0, 0].tolist() == [0, SURE, 0, 0, 0] and emissions[0, 1].tolist() == [SURE, 0, 0, 0, 0]
    assert (emissions[0, 2:] == NOWHERE).all() and (emissions[1] == NOWHERE).all() and (logits[:, 40:] == 0).all()


def test_the_folds_choose_the_share_that_tags_best() -> None:
    """`flu` is meant in one of three places: kept where that pays, as here, left out by the usual half."""
    texts = ["flu"] * 60
    entities: list[list[Entity]] = [[(0, 1, 1)] if row % 2 == 0 else [] for row in range(40)] + [[]] * 20
    assert tagged(fitted(texts, entities), "flu") == []
    assert tagged(fitted(texts, entities, groups=None), "flu") == [("flu", "disease")]
    some = [*entities[:40], *([[]] * 400)]
    assert tagged(fitted(["flu"] * 440, some, groups=None), "flu") == []


def test_it_goes_through_a_bundle_and_holds_no_word() -> None:
    split = [one.split() for one in ("acute renal failure", "aspirin")]
    known = labels(split, [[(1, 2, 1)], [(0, 1, 0)]])
    for options in (BaselineOptions(kind="dictionary"), BaselineOptions(kind="dictionary", inputs=("note",))):
        model = fit_baseline(options, SPECS, {"note": prepared(split)}, known, head_of(), seed=0)
        data = dump_estimator(model)
        assert data == dump_estimator(fit_baseline(options, SPECS, {"note": prepared(split)}, known, head_of(), seed=0))
        there = {"note": prepared(split)}
        again = baseline_logits(load_estimator(data), head_of(), SPECS, there)
        assert np.array_equal(again, baseline_logits(model, head_of(), SPECS, there))
        assert b"renal" not in data and b"aspirin" not in data
        assert sum(len(one) for one in make_head(head_of()).spans(again)) == 2  # type: ignore[attr-defined]


def test_prevalence_tags_nothing() -> None:
    split = [["aspirin", "helps"]]
    model = fit_baseline(
        BaselineOptions(kind="prevalence"), SPECS, {"note": prepared(split)}, labels(split, [[(0, 1, 0)]]), head_of(), seed=0
    )
    logits = baseline_logits(load_estimator(dump_estimator(model)), head_of(), SPECS, {"note": prepared(split)})
    assert make_head(head_of()).spans(logits) == [[]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["logistic", "linear", "forest", "boosting"])
def test_other_baselines_refuse_tags(kind: str) -> None:
    with pytest.raises(RecipeError, match=f"{kind} does not answer a target of kind tags"):
        fit_baseline(BaselineOptions(kind=kind), SPECS, {}, Known(np.zeros(0), np.zeros(0)), head_of(), seed=0)  # type: ignore[arg-type]


def test_a_dictionary_refuses_other_targets_and_other_inputs() -> None:
    nothing = Known(np.zeros(0), np.zeros(0))
    dictionary = BaselineOptions(kind="dictionary")
    with pytest.raises(RecipeError, match="does not answer a binary target"):
        fit_baseline(dictionary, SPECS, {}, nothing, {"kind": "binary", "classes": ["no", "yes"]}, seed=0)
    for specs in ({"note": {"kind": "text"}}, {"one": SPECS["note"], "two": SPECS["note"]}):
        with pytest.raises(RecipeError, match="one input of kind tokens"):
            fit_baseline(dictionary, specs, {}, nothing, head_of(), seed=0)


def test_no_label_and_no_hash_are_said() -> None:
    one = prepared([["a"]])
    with pytest.raises(DataError, match="no case of train has a label"):
        fit_dictionary(one, Known(np.zeros((1, 8), np.int64), np.zeros((1, 8), bool)), 2, seed=0)
    with pytest.raises(DataError, match="hashes"):
        dictionary_logits(empty_dictionary(), head_of(), Prepared(one.arrays, one.present))


def test_unlabelled_texts_are_not_counted() -> None:
    split = [["gold"], ["gold"], ["gold"]]
    known = labels(split, [[(0, 1, 0)], [], []])
    known.known[1:] = False
    assert tagged(fit_dictionary(prepared(split), known, 2, seed=0, groups=np.zeros(3)), "gold") == [("gold", "drug")]


GOOD = {"keys": np.zeros(1, np.uint64), "sizes": np.ones(1, np.int64), "labels": np.zeros(1, np.int64)}


@pytest.mark.parametrize(
    "page",
    [
        None,
        {**GOOD, "keys": [0]},
        {**GOOD, "keys": np.zeros(2, np.uint64)},
        {**GOOD, "sizes": np.zeros(1, np.int64)},
        {**GOOD, "labels": np.full(1, -1)},
        {**GOOD, "labels": np.zeros((1, 1), np.int64)},
        {**GOOD, "sizes": np.ones(1, np.float64)},
        {"keys": GOOD["keys"]},
    ],
)
def test_a_damaged_dictionary_is_refused_when_it_is_opened(page: Any) -> None:
    check_dictionary({"dictionary": GOOD})
    load_estimator(dump_estimator({"dictionary": GOOD}))
    for model in ({"dictionary": page}, {"inputs": ["note"], "model": {"dictionary": page}}):
        with pytest.raises(BundleError, match="not a dictionary"):
            load_estimator(dump_estimator(model))


def test_a_dictionary_of_another_head_is_refused() -> None:
    there = {"note": prepared([["a"]])}
    with pytest.raises(BundleError, match="does not fit the labels"):
        baseline_logits({"dictionary": {**GOOD, "labels": np.full(1, 2)}}, head_of(), SPECS, there)
    with pytest.raises(BundleError, match="length of the texts"):
        baseline_logits({"dictionary": GOOD}, head_of(9), SPECS, there)
    with pytest.raises(BundleError, match="does not answer a binary"):
        baseline_logits({"dictionary": GOOD}, {"kind": "binary", "classes": ["a", "b"]}, SPECS, there)
    with pytest.raises(BundleError, match="tags no input"):
        baseline_logits([], head_of(), SPECS, there)

"""Bundles that tag words: entities at their places in the text, and what the pages of calibration, threshold and columns say of them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tags_helper import CLASSES, head_of, notes, preparations_of, tags_bundle

from meddx.dataset.options import CohortOptions
from meddx.dataset.target import Labels
from meddx.errors import BundleError, RecipeError
from meddx.inputs.types import Prepared
from meddx.models.heads import make_head
from meddx.predict import bundle as bundles
from meddx.predict.bundle import Bundle
from meddx.predict.calibrate import apply_calibration, check_calibration, fit_calibration, n_logits
from meddx.predict.engine import EnginePlan, rows_at_once
from meddx.predict.manifest import HeadPage
from meddx.predict.options import ThresholdOptions
from meddx.predict.spans import TYPE, column, spans_of, words_input
from meddx.predict.threshold import choose_thresholds
from meddx.storage import StoragePath

FIRST = ["case_id", "patient_id", "status", "error"]


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(tags_bundle(StoragePath.of(tmp_path_factory.mktemp("bundles") / "dictionary")))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(tags_bundle(StoragePath.of(tmp_path_factory.mktemp("bundles") / "gru"), "gru"))


def found(table: pa.Table) -> list[list[tuple[int, int, int]] | None]:
    return [
        None if one is None else [(span["start"], span["end"], CLASSES.index(span["label"])) for span in one]
        for one in table["spans"].to_pylist()
    ]


def test_entities_come_at_their_places_in_the_text(dictionary: Bundle) -> None:
    table, entities = notes(40, seed=9)
    said = dictionary.predict(table)
    assert said.column_names == [*FIRST, "spans", "bundle"] and said.schema == dictionary.schema()
    assert said.schema.field("spans").type == TYPE
    assert set(said["status"].to_pylist()) == {"scored"}
    assert found(said) == entities and any(not one for one in entities)
    for text, one in zip(table["note"].to_pylist(), said["spans"].to_pylist(), strict=True):
        for span in one:
            assert text[span["start"] : span["end"]] in ("aspirin", "valproic acid", "renal failure", "asthma", "acute renal failure")
            assert 0.99 < span["score"] <= 1


def test_prevalence_finds_nothing(tmp_path: Any) -> None:
    said = Bundle.load(tags_bundle(StoragePath.of(tmp_path / "b"), "prevalence")).predict(notes(5)[0])
    assert said["spans"].to_pylist() == [[]] * 5


def test_rows_without_an_answer_have_nulls_and_a_text_without_entities_an_empty_list(dictionary: Bundle) -> None:
    rows = [{"note": text} for text in ("no names here", None, " ", "word " * 30, "asthma")]
    said = dictionary.predict(rows)
    assert said["status"].to_pylist() == ["scored", "quarantined", "quarantined", "quarantined", "scored"]
    assert said["error"].to_pylist() == [None, "input_absent", "text_empty", "text_too_long", None]
    assert found(said) == [[], None, None, None, [(0, 6, 1)]]
    nothing = dictionary.predict(rows[1:3])
    assert nothing.schema == dictionary.schema() and nothing["spans"].null_count == 2
    assert dictionary.predict(notes(1)[0].slice(0, 0)).schema == dictionary.schema()


def test_outside_the_cohort_nothing_is_said_unless_it_is_wished(tmp_path: Any) -> None:
    path = tags_bundle(StoragePath.of(tmp_path / "b"), cohort=CohortOptions(keep={"adult": "age >= 18"}))
    rows = [{"note": "asthma", "age": age} for age in (4, 40)]
    bundle = Bundle.load(path)
    assert found(bundle.predict(rows)) == [None, [(0, 6, 1)]]
    everything = bundle.predict(rows, score_outside=True)
    assert found(everything) == [[(0, 6, 1)]] * 2 and everything["status"].to_pylist() == ["outside_cohort", "scored"]


@pytest.mark.parametrize("kind", ["dictionary", "network"])
def test_one_row_is_tagged_as_all_are(kind: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(kind)
    table, _ = notes(70, seed=3)
    everything = bundle.predict(table)
    assert any(everything["spans"].to_pylist())
    for rows in ([0], [69], [5, 4, 30]):
        assert bundle.predict(table.take(rows)).equals(everything.take(rows))
    assert bundle.predict(table.to_pylist()).equals(everything)
    assert bundle.predict(table.to_pandas()).equals(everything)


def test_in_small_steps_the_answers_are_the_same(network: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = notes(70, seed=3)
    everything = network.predict(table, outputs=["embedding"])
    monkeypatch.setattr(bundles, "rows_at_once", lambda *given: 16)
    assert network.predict(table, outputs=["embedding"]).combine_chunks().equals(everything.combine_chunks())


def test_a_network_gives_its_features_beside_the_entities(network: Bundle) -> None:
    table, _ = notes(6)
    said = network.predict(table, outputs=["embedding"])
    assert said.column_names == [*FIRST, "spans", "embedding", "bundle"] and said.schema == network.schema(["embedding"])
    assert {len(one) for one in said["embedding"].to_pylist()} == {16}
    assert said.drop_columns("embedding").equals(network.predict(table))
    rows = [{"note": None}, {"note": "asthma"}]
    assert [one is None for one in network.predict(rows, outputs=["embedding"])["embedding"].to_pylist()] == [True, False]


def test_the_page_names_the_words(dictionary: Bundle) -> None:
    page = dictionary.manifest
    assert dictionary.head == head_of() == page["head"] and page["calibration"] == {"kind": "none"} and page["threshold"] == {}
    (read,) = dictionary.contract
    assert (read.name, read.use, read.required, read.tokens, read.characters) == ("note", "tokens", True, 24, 8)
    assert read.words is not None and read.words > 10


def test_logits_that_are_not_finite_quarantine_their_row_alone(network: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = notes(5)
    whole = network.predict(table)
    usual = bundles.network_features

    def broken(*given: Any, **more: Any) -> Any:
        logits, features = usual(*given, **more)
        logits[2, 7] = np.nan
        return logits, features

    monkeypatch.setattr(bundles, "network_features", broken)
    said = network.predict(table)
    assert said["error"].to_pylist() == [None, None, "not_finite", None, None]
    assert said["spans"][2].as_py() is None and said.take([0, 1, 3, 4]).equals(whole.take([0, 1, 3, 4]))


@pytest.mark.parametrize(
    "change",
    [
        {"head": {**head_of(), "tokens": 23}},
        {"head": {"kind": "tags", "classes": CLASSES}},
        {"head": {"kind": "tags", "classes": [], "tokens": 24}},
        {"head": {"kind": "binary", "classes": CLASSES}, "threshold": {"value": 0.5}},
        {"head": {"kind": "binary", "classes": CLASSES, "tokens": 24}, "threshold": {"value": 0.5}},
        {"calibration": {"kind": "temperature", "temperature": 1.0, "bias": [0.0] * n_logits(head_of())}},
        {"calibration": {"kind": "logistic", "intercept": [0.0], "slope": [1.0]}},
    ],
)
@pytest.mark.parametrize("kind", ["dictionary", "gru"])
def test_a_page_that_does_not_fit_is_refused(tmp_path: Any, change: dict[str, Any], kind: str) -> None:
    from predict_helper import edit

    path = tags_bundle(StoragePath.of(tmp_path / "b"), kind)
    edit(path, name="another")
    Bundle.load(path)
    edit(path, **change)
    with pytest.raises(BundleError):
        Bundle.load(path).predict([{"note": "asthma"}])


def test_two_texts_to_tag_are_refused() -> None:
    spec = {"kind": "tokens", "tokens": 24}
    assert words_input(head_of(), {"age": {"kind": "table"}, "note": spec}) == "note"
    for specs in ({}, {"one": spec, "two": spec}, {"note": {**spec, "tokens": 25}}):
        with pytest.raises(BundleError, match="one input of words"):
            words_input(head_of(), specs)


def test_a_head_has_tokens_where_it_tags_and_nowhere_else() -> None:
    assert HeadPage(kind="tags", classes=("a",), tokens=5).page == {"kind": "tags", "classes": ["a"], "tokens": 5}
    for page in ({"kind": "tags", "classes": ("a",), "tokens": 0}, {"kind": "multiclass", "classes": ("a", "b"), "tokens": 5}):
        with pytest.raises(ValidationError):
            HeadPage.model_validate(page)


def test_tags_are_calibrated_by_nothing_and_have_no_threshold() -> None:
    head, labels = head_of(), Labels(np.zeros((3, 24), np.int64), np.ones((3, 24), bool))
    logits = np.random.default_rng(0).normal(size=(3, n_logits(head)))
    assert logits.shape[1] == make_head(head).n_outputs
    for kind in (None, "none"):
        assert fit_calibration(kind, head, logits, labels) == {"kind": "none"}  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="not for tags"):
        fit_calibration("temperature", head, logits, labels)
    assert np.array_equal(apply_calibration({"kind": "none"}, head, logits), logits)
    assert choose_thresholds(ThresholdOptions(), head, logits, labels) == {}
    check_calibration({"kind": "none"}, head)


LIST = st.one_of(st.none(), st.lists(st.tuples(st.integers(0, 9), st.integers(10, 99), st.integers(0, 1), st.floats(0, 1)), max_size=3))


@given(st.lists(LIST, max_size=6))
def test_the_column_holds_what_was_found(lists: list[Any]) -> None:
    rows = np.flatnonzero([one is not None for one in lists]).astype(np.int64)
    made = column(len(lists), rows, [one for one in lists if one is not None], CLASSES)
    made.validate(full=True)
    names = ("start", "end", "label", "score")
    expected = [None if one is None else [dict(zip(names, (a, b, CLASSES[c], d), strict=True)) for a, b, c, d in one] for one in lists]
    assert made.type == TYPE and made.to_pylist() == expected


def test_places_are_those_of_the_first_and_the_last_word() -> None:
    head = {"kind": "tags", "classes": ["x"], "tokens": 3}
    emissions = np.full((1, 3, 3), -1e9)
    emissions[0] = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
    logits = np.concatenate([emissions.reshape(1, -1), np.zeros((1, 15))], axis=1)
    words = Prepared({}, np.ones(1, bool), aside={"start": np.array([[0, 4, 9]]), "end": np.array([[3, 8, 15]])})
    ((start, end, label, score),) = spans_of(head, logits, words)[0]
    assert (start, end, label) == (4, 15, 0) and 0.99 < score < 1
    assert json.dumps([start, end, score])  # plain numbers


def test_long_texts_are_prepared_a_few_at_a_time() -> None:
    head = {"kind": "tags", "classes": list("abcde"), "tokens": 512}
    spec = {"kind": "tokens", "tokens": 512, "characters": 16}
    rows = rows_at_once(EnginePlan(batch_rows=8), {"note": spec}, n_logits(head))
    assert rows % 8 == 0 and 8 * rows * n_logits(head) < 64 << 20
    assert rows_at_once(EnginePlan(), {"t": {"kind": "table"}}, 1) == 4096
    assert rows_at_once(EnginePlan(batch_rows=8), {"v": {"kind": "volume", "channels": 1, "size": [512] * 3}}, 1) == 8


@pytest.mark.slow
def test_many_long_texts_fit_into_memory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(tags_bundle(StoragePath.of(tmp_path / "b"), tokens=512))
    rows = pa.table({"note": ["asthma " * 20] * 1500})

    def peak() -> float:
        tracemalloc.start()
        bundle.predict(rows)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top / 2**20

    assert peak() < 80
    monkeypatch.setattr(bundles, "rows_at_once", lambda *given: 4096)
    assert peak() > 120


def test_preparations_say_how_long_a_text_may_be() -> None:
    assert preparations_of(notes(9)[0], 12).specs()["note"]["tokens"] == 12

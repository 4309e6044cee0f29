"""A row that is not as those of train: scored with a warning, quarantined or passed over, as the caller says; and what the page states."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from predict_helper import sign_again

from meddx.errors import RecipeError
from meddx.predict.bundle import Bundle
from meddx.predict.contract import MORE, MOST, Warned, judge
from meddx.predict.options import ContractOptions
from meddx.storage import StoragePath

FAR = 50.0  # `size` and `texture` are standard normal in train


@pytest.fixture(scope="module")
def path(make_bundle) -> StoragePath:
    return make_bundle()


@pytest.fixture(scope="module")
def bundle(path) -> Bundle:
    return Bundle.load(path)


@pytest.fixture(scope="module")
def rows(patients: pa.Table) -> pa.Table:
    """Six cases: as in train, `size` far off, both far off, an unknown site, no `size`, and as in train."""
    some = patients.slice(1, 6)
    return (
        some.set_column(some.column_names.index("size"), "size", pa.array([0.0, FAR, -FAR, 0.0, None, 0.5]))
        .set_column(some.column_names.index("texture"), "texture", pa.array([0.0, 0.0, FAR, 0.0, 0.0, None]))
        .set_column(some.column_names.index("site"), "site", pa.array(["north", "north", "south", "mars", "east", "east"]))
    )


def old(bundle: Bundle) -> Bundle:
    """As though it had been made before contracts were stated."""
    bare = tuple(dataclasses.replace(one, normal=None) for one in bundle.preparations.inputs)
    return dataclasses.replace(bundle, preparations=dataclasses.replace(bundle.preparations, inputs=bare))


def test_a_row_outside_is_scored_and_the_warning_says_why(bundle: Bundle, rows: pa.Table) -> None:
    found = bundle.predict(rows)
    assert set(found["status"].to_pylist()) == {"scored"} and found["probability"].null_count == 0 and found["error"].null_count == 6
    assert found["warning"].to_pylist() == [None, "range:size", "range:size;range:texture", None, None, None]
    assert bundle.predict(rows, contract="warn").equals(found)


def test_quarantine_takes_its_reason_and_ignore_says_nothing(bundle: Bundle, rows: pa.Table) -> None:
    found = bundle.predict(rows, contract="quarantine")
    assert found["status"].to_pylist() == ["scored", "quarantined", "quarantined", "scored", "scored", "scored"]
    assert found["error"].to_pylist() == [None, "range:size", "range:size", None, None, None]
    assert found["warning"].null_count == 6 and found["probability"].null_count == found["decision"].null_count == 2
    quiet = bundle.predict(rows, contract="ignore")
    assert quiet["warning"].null_count == quiet["error"].null_count == 6
    assert quiet.drop_columns("warning").equals(bundle.predict(rows).drop_columns("warning"))


def test_each_kind_goes_its_own_way(bundle: Bundle, rows: pa.Table) -> None:
    found = bundle.predict(rows, contract={"range": "quarantine", "category": "warn", "missing": "warn"})
    assert found["error"].to_pylist() == [None, "range:size", "range:size", None, None, None]
    assert found["warning"].to_pylist() == [
        None,
        None,
        None,
        "category:site",
        "missing:size",
        None,
    ]  # train lacked `texture` here and there
    both = bundle.predict(rows, contract={"category": "quarantine", "missing": "quarantine"})
    assert both["error"].to_pylist() == [None, None, None, "category:site", "missing:size", None]
    assert both["warning"].to_pylist()[1] == "range:size"


def test_a_row_inside_has_the_same_answer_whatever_is_wished(bundle: Bundle, rows: pa.Table, patients: pa.Table) -> None:
    usual = old(bundle).predict(patients)
    assert "warning" not in usual.column_names
    for contract in ("warn", "quarantine", "ignore", {"category": "warn", "missing": "quarantine"}):
        found = bundle.predict(patients, contract=contract)
        assert found["warning"].null_count == len(patients) and found.drop_columns("warning").equals(usual)
        alone = bundle.predict(rows, contract=contract).drop_columns("warning").take([0, 5])
        assert alone.equals(old(bundle).predict(rows).take([0, 5]))  # whatever befalls its neighbours


def test_without_the_contract_a_wrong_unit_is_answered_in_silence(bundle: Bundle, rows: pa.Table) -> None:
    """The twin: nothing but the contract sees it."""
    found = old(bundle).predict(rows, contract="quarantine")
    assert set(found["status"].to_pylist()) == {"scored"} and found["error"].null_count == 6


def test_a_bundle_that_states_nothing_loads_and_warns_of_nothing(make_bundle, rows: pa.Table, patients: pa.Table) -> None:
    path = make_bundle("forest")
    new = Bundle.load(path)
    page = json.loads((path / "bundle.json").read_text())
    for one in page["inputs"]["inputs"]:
        del one["normal"]
    for column in page["columns"]:
        for fact in ("missing", "complete", "categories", "seen", "range"):
            column.pop(fact, None)
    (path / "bundle.json").replace(json.dumps(page).encode())
    sign_again(path)
    before = Bundle.load(path)
    assert not before.states_contract and new.states_contract
    assert "warning" not in before.schema().names and before.predict(rows).schema == before.schema()
    expected = new.predict(patients).drop_columns(["warning", "bundle"])
    assert before.predict(patients).drop_columns("bundle").equals(expected)


def test_the_page_states_what_is_normal(bundle: Bundle) -> None:
    size, texture, site = bundle.contract
    assert (size.use, size.missing, size.complete, texture.complete) == ("number", "filled", True, False)
    (low, high), (least, most) = size.seen, size.range
    assert -4 < low < -2 and 2 < high < 4 and least < 2 * low and most > 2 * high
    assert (site.use, site.missing, sorted(site.categories)) == ("category", "own_category", ["east", "north", "south"])
    page = json.loads(json.dumps(bundle.page.model_dump(mode="json", exclude_none=True)))
    assert page["columns"][0]["range"] == [least, most]


def test_the_page_of_a_picture_states_its_channels(make_bundle, patients: pa.Table) -> None:
    made = Bundle.load(make_bundle("cnn"))
    (film,) = made.contract
    assert (film.channels, film.channels_seen, film.bits_seen, film.missing) == (1, (1.0, 1.0), (8.0, 8.0), "refused")
    assert made.predict(patients)["warning"].null_count == len(patients)


def test_a_row_outside_the_cohort_that_is_scored_is_warned_of_too(make_bundle, rows: pa.Table) -> None:
    from meddx.dataset.options import CohortOptions

    made = Bundle.load(make_bundle(cohort=CohortOptions(keep={"old": "age >= 200"})))
    assert made.predict(rows)["warning"].null_count == 6
    assert made.predict(rows, score_outside=True)["warning"].to_pylist()[:3] == [None, "range:size", "range:size;range:texture"]


def test_one_bad_cell_costs_its_row_and_not_the_chunk(bundle: Bundle, rows: pa.Table) -> None:
    place = rows.column_names.index("size")
    texts = rows.set_column(place, "size", pa.array(["0", "50", "n/a?", "", None, "0.5"]))
    found = bundle.predict(texts)
    assert found["error"].to_pylist() == [None, None, "number_unreadable", None, None, None]
    assert found["warning"].to_pylist()[1] == "range:size"
    lists = rows.set_column(place, "size", pa.array([None, [1.0], None, None, None, None]))
    assert bundle.predict(lists)["error"].to_pylist() == [None, "number_unreadable", None, None, None, None]


def test_a_column_of_a_type_that_an_input_cannot_read_costs_the_rows_that_have_it(make_bundle, patients: pa.Table) -> None:
    made = Bundle.load(make_bundle("cnn"))
    texts = patients.slice(0, 3).set_column(patients.column_names.index("image"), "image", pa.array(["a.png", None, "b.png"]))
    assert made.predict(texts)["error"].to_pylist() == ["input_unreadable", "input_absent", "input_unreadable"]


def test_words_that_there_are_not_are_refused_with_the_nearest(bundle: Bundle, rows: pa.Table) -> None:
    wishes: list[tuple[Any, str]] = [("quarantin", "quarantine"), ({"rnage": "warn"}, "range"), ({"range": "wran"}, "warn")]
    for wish, nearest in wishes:
        with pytest.raises(RecipeError, match=f"did you mean '{nearest}'"):
            bundle.predict(rows, contract=wish)


def test_a_row_of_many_codes_names_the_first_ones() -> None:
    warned = Warned.nothing(3)
    for code in range(MOST + 3):
        warned.add(f"range:g{code}", np.array([1]))
    assert warned.texts.tolist() == [None, ";".join([*(f"range:g{code}" for code in range(MOST)), MORE]), None]


def test_a_row_that_is_bad_anyway_keeps_its_reason(bundle: Bundle, rows: pa.Table) -> None:
    prepared = bundle.preparations.transform(rows)
    error: np.ndarray = np.array([None, "number_unreadable", None, None, None, None], object)
    clean = error == None  # noqa: E711
    said = judge(bundle.preparations, prepared, ContractOptions(range="quarantine"), np.arange(6), error, clean)
    assert said is None and error.tolist() == [None, "number_unreadable", "range:size", None, None, None]


def test_one_word_stands_for_all_kinds_but_two() -> None:
    assert ContractOptions().page() == {}
    kinds = ContractOptions.model_fields.keys()
    assert {kind for kind in kinds if ContractOptions().of(kind) is None} == {"category", "missing"}

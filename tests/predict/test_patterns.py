"""meddx.predict.patterns: with inputs hidden the probabilities are to be believed too, and a twin with one calibration for all is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predict_helper import HEADS, edit
from scipy.special import expit

from meddx.dataset.options import CohortOptions
from meddx.dataset.target import Labels
from meddx.errors import BundleError
from meddx.evaluate.calibration import slope
from meddx.inputs.options import EventsInput, ImageInput, TableInput, TextInput
from meddx.inputs.prepare import fit
from meddx.predict.bundle import Bundle, write_bundle
from meddx.predict.calibrate import apply_calibration, check_calibration, fit_calibration
from meddx.predict.engine import network_logits
from meddx.predict.patterns import (
    NOTHING,
    apply_by_pattern,
    calibrate_by_pattern,
    check_patterns,
    fit_patterns,
    hidden,
    key_of,
    logits_by_pattern,
    page_of,
    patterns_of,
    present_of,
)
from meddx.storage import StoragePath

BINARY = {"kind": "binary", "classes": ["no", "yes"]}
INPUTS = {"table": False, "labs": True, "note": True}
EMPTY: Mapping[str, np.ndarray] = {}


class World:
    """A network that is right with everything there and answers with thrice the logit that it should where an input is absent."""

    def __init__(self, n: int, seed: int, absent: float = 0.15, strength: float = 1.2) -> None:
        rng = np.random.default_rng(seed)
        self.scores = dict(zip(INPUTS, strength * rng.normal(size=(3, n)), strict=True))
        self.present = {name: rng.random(n) >= absent for name, optional in INPUTS.items() if optional}
        self.truth = (rng.random(n) < expit(sum(self.scores.values()))).astype(np.float32)
        self.labels = Labels(self.truth, np.ones(n, bool))

    def there(self, pattern: frozenset[str] = NOTHING) -> dict[str, np.ndarray]:
        return {name: there & (name not in pattern) for name, there in self.present.items()}

    def logits(self, pattern: frozenset[str] = NOTHING) -> np.ndarray:
        there = self.there(pattern)
        total = sum(score * there.get(name, 1) for name, score in self.scores.items())
        lacks = sum(~one for one in there.values())
        return (total * np.where(lacks, 3.0, 1.0))[:, None]

    def all_logits(self) -> dict[frozenset[str], np.ndarray]:
        return {pattern: self.logits(pattern) for pattern in patterns_of(INPUTS)}


def slope_of(world: World, probabilities: np.ndarray, pattern: frozenset[str]) -> float:
    """Of the cases that lack just these inputs, most of them because they were hidden."""
    rows = np.all([there == (name not in pattern) for name, there in world.there(pattern).items()], axis=0)
    return slope(world.truth[rows], probabilities[rows, 0], np.arange(rows.sum()))[0]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    world = World(20_000, seed=0)
    return calibrate_by_pattern(None, BINARY, world.all_logits(), world.present, world.labels)


@pytest.mark.parametrize("pattern", patterns_of(INPUTS), ids=key_of)
def test_hidden_inputs_are_calibrated_and_the_twin_is_not(fitted: dict[str, Any], pattern: frozenset[str]) -> None:
    other = World(20_000, seed=1)
    said = apply_by_pattern(fitted, BINARY, other.logits(pattern), other.there(pattern))
    assert 0.9 < slope_of(other, said, pattern) < 1.1
    one_for_all = {key: value for key, value in fitted.items() if key != "absent"}
    twin = apply_by_pattern(one_for_all, BINARY, other.logits(pattern), other.there(pattern))
    assert not 0.9 < slope_of(other, twin, pattern) < 1.1


def test_cases_that_lack_something_by_themselves_get_the_same_page(fitted: dict[str, Any]) -> None:
    """Whether the caller hid the labs or nobody brought them, the answer is one."""
    world = World(400, seed=2)
    lacking = ~world.present["labs"] & world.present["note"]
    as_they_are = apply_by_pattern(fitted, BINARY, world.logits(), world.present)[lacking]
    asked = apply_by_pattern(fitted, BINARY, world.logits(frozenset(["labs"])), world.there(frozenset(["labs"])))[lacking]
    assert lacking.sum() > 20 and (as_they_are == asked).all()
    assert (as_they_are == apply_calibration(fitted["absent"]["labs"], BINARY, world.logits()[lacking])).all()


def test_a_row_does_not_hang_on_its_neighbours(fitted: dict[str, Any]) -> None:
    world = World(40, seed=3, absent=0.5)
    together = apply_by_pattern(fitted, BINARY, world.logits(), world.present)
    for row in range(40):
        alone = apply_by_pattern(fitted, BINARY, world.logits()[[row]], {name: one[[row]] for name, one in world.present.items()})
        assert alone[0, 0] == together[row, 0]


def test_pages_say_on_how_many_cases_they_stand_and_pass_the_check(fitted: dict[str, Any]) -> None:
    assert list(fitted["absent"]) == ["", "labs", "note", "labs+note"]
    cases = {key: page["cases"] for key, page in fitted["absent"].items()}
    assert cases["labs+note"] == 20_000 and 0.7 * 20_000 < cases[""] < 0.75 * 20_000 < cases["labs"] < 0.87 * 20_000
    check_calibration(fitted, BINARY)
    check_patterns(fitted, INPUTS)


def test_too_few_cases_borrow_from_the_nearest_or_from_all() -> None:
    world = World(300, seed=4, absent=0.9)  # hardly any case has everything
    found = fit_patterns(None, BINARY, world.all_logits(), world.present, world.labels)
    assert "cases" in found["labs+note"] and "too few" in found[""]["notes"][-1] and "too few" in found["labs"]["notes"][-1]
    assert found["labs"]["slope"] == found["labs+note"]["slope"] and "cases without labs+note" in found["labs"]["notes"][-1]
    few = World(45, seed=5)
    whole = fit_calibration(None, BINARY, few.logits(), few.labels)
    for page in fit_patterns(None, BINARY, few.all_logits(), few.present, few.labels).values():
        assert page["slope"] == whole["slope"] and "all cases as they are" in page["notes"][-1]
    rare = World(2000, seed=6)
    one_class = Labels(np.where(np.arange(2000) < 9, 1, 0).astype(np.float32), np.ones(2000, bool))  # nine of a class
    pages = fit_patterns(None, BINARY, rare.all_logits(), rare.present, one_class)
    assert all("too few" in page["notes"][-1] for page in pages.values())


def test_unknown_labels_do_not_count() -> None:
    world = World(3000, seed=7)
    known = np.random.default_rng(0).random(3000) < 0.5
    found = fit_patterns(None, BINARY, world.all_logits(), world.present, Labels(world.truth, known))
    spoiled = fit_patterns(None, BINARY, world.all_logits(), world.present, Labels(np.where(known, world.truth, 1 - world.truth), known))
    assert found == spoiled and found["labs+note"]["cases"] == known.sum()


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "ordinal", "regression"])
def test_other_kinds_of_answer(kind: str) -> None:
    rng = np.random.default_rng(8)
    world, head = World(4000, seed=8), HEADS[kind]
    width = {"multiclass": 3, "multilabel": 2, "ordinal": 2, "regression": 1}[kind]
    logits = {pattern: one + np.linspace(0.5, -0.5, width) for pattern, one in world.all_logits().items()}
    values = {
        "multiclass": rng.integers(0, 3, 4000), "multilabel": rng.integers(0, 2, (4000, 2)).astype(np.float32),
        "ordinal": rng.integers(0, 3, 4000), "regression": 50 + 20 * sum(world.scores.values()),
    }[kind]  # fmt: skip
    labels = Labels(values, np.ones(values.shape, bool))
    found = calibrate_by_pattern(None, head, logits, world.present, labels)
    assert [one.get("cases", 0) > 0 for one in found["absent"].values()] == [True] * 4
    check_calibration(found, head)
    said = apply_by_pattern(found, head, logits[NOTHING], world.present)
    assert said.shape == (4000, {"multiclass": 3, "multilabel": 2, "ordinal": 3, "regression": 1}[kind])
    lacks_note = world.present["labs"] & ~world.present["note"]
    assert (said[lacks_note] == apply_calibration(found["absent"]["note"], head, logits[NOTHING][lacks_note])).all()


def test_without_patterns_all_is_as_before() -> None:
    world = World(500, seed=9)
    plain = fit_calibration(None, BINARY, world.logits(), world.labels)
    for present in (world.present, EMPTY):
        assert (apply_by_pattern(plain, BINARY, world.logits(), present) == apply_calibration(plain, BINARY, world.logits())).all()
    assert calibrate_by_pattern(None, BINARY, {NOTHING: world.logits()}, {}, world.labels) == plain
    assert calibrate_by_pattern("none", BINARY, world.all_logits(), world.present, world.labels) == {"kind": "none"}


def test_who_does_not_look_at_an_input_does_not_learn_from_who_lacks_it() -> None:
    """Here who lacks a note dies more often; a model without notes must not know, and the constant one stays constant."""
    world = World(4000, seed=10)
    labels = Labels(np.where(world.present["note"], world.truth, 1).astype(np.float32), np.ones(4000, bool))
    table_alone = dict.fromkeys(patterns_of(INPUTS), world.scores["table"][:, None])
    assert calibrate_by_pattern(None, BINARY, table_alone, world.present, labels) == fit_calibration(
        None, BINARY, table_alone[NOTHING], labels
    )
    reads_labs = {one: (world.scores["table"] + world.scores["labs"] * world.there(one)["labs"])[:, None] for one in patterns_of(INPUTS)}
    found = calibrate_by_pattern(None, BINARY, reads_labs, world.present, labels)
    assert {key: page["cases"] for key, page in found["absent"].items()} == {"": world.present["labs"].sum(), "labs": 4000}
    said = apply_by_pattern(found, BINARY, reads_labs[NOTHING], world.there(frozenset(["note"])))
    assert (said == apply_by_pattern(found, BINARY, reads_labs[NOTHING], world.there())).all()
    twin = calibrate_by_pattern(None, BINARY, world.all_logits(), world.present, labels)
    assert list(twin["absent"]) == ["", "labs", "note", "labs+note"]


def test_which_patterns_are_asked_for() -> None:
    assert [key_of(one) for one in patterns_of(INPUTS)] == ["", "labs", "note", "labs+note"]
    assert [key_of(one) for one in patterns_of({"labs": True, "note": True})] == ["", "labs", "note"]  # not all at once
    assert patterns_of({"table": False}) == [NOTHING]
    assert len(patterns_of({"table": False, **dict.fromkeys("abcd", True)})) == 16
    assert [key_of(one) for one in patterns_of({"table": False, **dict.fromkeys("abcde", True)})] == ["", *"abcde"]
    assert patterns_of({"table": False, "a+b": True}) == [NOTHING]  # the name would read as two inputs


@settings(max_examples=60, deadline=None)
@given(st.sets(st.frozensets(st.sampled_from("abcd"))), st.frozensets(st.sampled_from("abcd")))
def test_every_pattern_has_a_page(fitted_ones: set[frozenset[str]], asked: frozenset[str]) -> None:
    calibration = {"kind": "none", "absent": {key_of(one): {"kind": "none", "name": key_of(one)} for one in fitted_ones}}
    found = page_of(calibration, asked)
    if not fitted_ones:
        assert found is calibration
    else:
        far = {one: len(one ^ asked) for one in fitted_ones}
        assert far[frozenset(found["name"].split("+")) - {""}] == min(far.values())


@pytest.mark.parametrize(
    "absent",
    [
        [],
        {"labs": None},
        {"labs": {"kind": "isotonic"}},
        {"labs": {"kind": "logistic", "slope": [-1.0], "intercept": [0.0]}},
        {"labs": {"kind": "none", "absent": {}}},
    ],
)
def test_damaged_patterns_are_refused(absent: Any) -> None:
    with pytest.raises(BundleError, match="calibration"):
        check_calibration({"kind": "none", "absent": absent}, BINARY)


@pytest.mark.parametrize("key", ["table", "film", "note+labs", "labs+", "+"])
def test_patterns_of_other_inputs_are_refused(key: str) -> None:
    with pytest.raises(BundleError, match="does not have"):
        check_patterns({"absent": {key: {"kind": "none"}}}, INPUTS)


@pytest.mark.slow
class TestInABundle:
    @pytest.fixture(scope="class")
    def stays(self, patients: pa.Table) -> pa.Table:
        rng = np.random.default_rng(0)
        image = [None if rng.random() < 0.3 else one for one in patients["image"].to_pylist()]
        note = [None if rng.random() < 0.3 else " ".join(rng.choice(["cough", "fever", "rash"], 4)) for _ in range(patients.num_rows)]
        labs = [[] if rng.random() < 0.3 else [{"@time": -1.0, "item": "k", "value": float(rng.normal())}] for _ in note]
        kind = pa.list_(pa.struct([("@time", pa.float64()), ("item", pa.string()), ("value", pa.float64())]))
        table = patients.set_column(patients.schema.get_field_index("image"), "image", pa.array(image, pa.binary()))
        return table.append_column("note", pa.array(note, pa.string())).append_column("labs", pa.array(labs, kind))

    @pytest.fixture(scope="class")
    def made(self, stays: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[StoragePath, Any]:
        inputs: Any = {
            "table": TableInput(),
            "film": ImageInput(kind="image", size=16, optional=True),
            "note": TextInput(kind="text", column="note", max_tokens=8, optional=True),
            "labs": EventsInput.model_validate(
                {"kind": "events", "from": "labs", "variable": "item", "value": "value", "window": ["-6h", "0h"], "optional": True}
            ),
        }
        preparations = fit(inputs, {"table": ["size", "texture", "site"]}, stays)
        parts = self.parts(preparations)
        pages = {"": 1.0, "film": 2.0, "film+note": 3.0, "labs": 4.0}
        calibration = {
            "kind": "logistic", "slope": [1.0], "intercept": [0.0],
            "absent": {key: {"kind": "logistic", "slope": [1.0], "intercept": [shift]} for key, shift in pages.items()},
        }  # fmt: skip
        path = StoragePath.of(tmp_path_factory.mktemp("patterns") / "bundle")
        write_bundle(
            path, name="net", head=HEADS["binary"], preparations=preparations, predictor=parts, calibration=calibration,
            threshold={"value": 0.5}, cohort=CohortOptions(), target={}, about={},
        )  # fmt: skip
        return path, preparations

    @staticmethod
    def parts(preparations: Any) -> Any:
        import torch

        from meddx.models.build import build_model
        from meddx.models.options import DEFAULT_ENCODER, EncoderOptions, ModelOptions
        from meddx.predict.networks import NetworkParts

        specs = preparations.specs()
        encoders = {name: EncoderOptions(kind=DEFAULT_ENCODER[spec["kind"]]) for name, spec in specs.items()}
        torch.manual_seed(0)
        model = build_model(ModelOptions(hidden=16), encoders, specs, HEADS["binary"])
        pages = {name: one.model_dump(mode="json") for name, one in encoders.items()}
        return NetworkParts(ModelOptions(hidden=16).model_dump(mode="json"), pages, model.state_dict())

    def test_each_row_gets_its_page_absent_or_hidden(self, made: tuple[StoragePath, Any], stays: pa.Table) -> None:
        bundle = Bundle.load(made[0])
        prepared = made[1].transform(stays)
        raw = bundle.logits(prepared)[:, 0]
        film, note, labs = (prepared[name].present for name in ("film", "note", "labs"))
        said = bundle.predict(stays)["probability"].to_numpy()
        assert 30 < film.sum() < 270 and 30 < note.sum() < 270 and 30 < labs.sum() < 270
        for rows, shift in ((film & note & labs, 1.0), (~film & note & labs, 2.0), (~film & ~note & labs, 3.0), (film & note & ~labs, 4.0)):
            assert rows.any()
            np.testing.assert_allclose(said[rows], expit(raw[rows] + shift), rtol=1e-12)
        hid = bundle.predict(stays, without=["film"])["probability"].to_numpy()
        assert (hid[~film] == said[~film]).all()
        both = bundle.predict(stays, without=["film", "note"])["probability"].to_numpy()
        none = bundle.logits(hidden(made[1], prepared, ["film", "note"]))[:, 0]
        np.testing.assert_allclose(both[labs], expit(none[labs] + 3.0), rtol=1e-12)

    def test_hiding_prepared_rows_is_not_bringing_the_columns(self, made: tuple[StoragePath, Any], stays: pa.Table) -> None:
        bundle, preparations = Bundle.load(made[0]), made[1]
        for names in (["film"], ["note", "labs"]):
            gone = preparations.transform(stays.drop([{"film": "image"}.get(name, name) for name in names]))
            shown = hidden(preparations, preparations.transform(stays), names)
            for name in preparations.names:
                assert (shown[name].present == gone[name].present).all()
                for key, values in gone[name].arrays.items():
                    np.testing.assert_array_equal(shown[name].arrays[key], values)
                for key, values in gone[name].aside.items():
                    np.testing.assert_array_equal(shown[name].aside[key], values)
            assert (bundle.logits(shown) == bundle.logits(gone)).all()
            assert (network_logits(bundle.predictor, shown, bundle.plan) == network_logits(bundle.predictor, gone, bundle.plan)).all()

    def test_every_pattern_is_asked_of_the_network(self, made: tuple[StoragePath, Any], stays: pa.Table) -> None:
        bundle, preparations = Bundle.load(made[0]), made[1]
        prepared = preparations.transform(stays)
        found = logits_by_pattern(preparations, prepared, bundle.logits)
        assert len(found) == 8 and list(present_of(preparations, prepared)) == ["film", "note", "labs"]
        assert (found[NOTHING] == bundle.logits(prepared)).all()
        film = prepared["film"].present
        assert (found[frozenset(["film"])][~film] == found[NOTHING][~film]).all()
        assert (found[frozenset(["film"])][film] != found[NOTHING][film]).all()

    def test_a_pattern_of_another_bundle_is_refused(self, made: tuple[StoragePath, Any], tmp_path: Any) -> None:
        import shutil

        copy = tmp_path / "copy"
        shutil.copytree(made[0].uri, copy)
        edit(StoragePath.of(copy), calibration={"kind": "none", "absent": {"table": {"kind": "none"}}})
        with pytest.raises(BundleError, match="does not have"):
            Bundle.load(copy)

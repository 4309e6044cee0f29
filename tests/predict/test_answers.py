"""Ordinal and regression bundles, the offset of a network, and the columns that each kind of answer has."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from predict_helper import HEADS, edit, network_parts

from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError
from meddx.inputs.options import TableInput
from meddx.inputs.prepare import fit
from meddx.predict.bundle import Bundle, write_bundle
from meddx.predict.manifest import HeadPage
from meddx.predict.outcome import Answers, assemble, decide, median_class, numbers_of, schema
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow
FIRST = ["case_id", "patient_id", "status", "error", "warning"]


def said(decisions: list) -> list[str]:
    ((codes, words),) = decisions
    return [words[code] for code in codes]


@pytest.mark.parametrize("kind", ["ordinal", "regression"])
@pytest.mark.parametrize("predictor", ["mlp", "linear", "prevalence"])
def test_one_row_scores_as_all_do(make_bundle, patients, predictor: str, kind: str) -> None:
    bundle = Bundle.load(make_bundle(predictor, kind))
    assert bundle.head == HEADS[kind]
    everything = bundle.predict(patients)
    assert everything.schema == bundle.schema()
    assert set(everything["status"].to_pylist()) == {"scored"}
    for rows in ([0], [299], [5, 4, 250]):
        assert bundle.predict(patients.take(rows)).equals(everything.take(rows))


def test_an_ordinal_case_gets_chances_and_the_median_class(make_bundle, patients) -> None:
    found = Bundle.load(make_bundle("linear", "ordinal")).predict(patients)
    names = ["p_grade 1", "p_grade 2", "p_grade 3"]
    assert found.column_names == [*FIRST, *names, "decision", "bundle"]
    chances = np.stack([found[name].to_numpy() for name in names], 1)
    np.testing.assert_allclose(chances.sum(1), 1)
    decided = np.array([names.index(f"p_{one}") for one in found["decision"].to_pylist()])
    rows = np.arange(300)
    assert (chances.cumsum(1)[rows, decided] >= 0.5 - 1e-9).all()
    assert (np.where(decided > 0, chances.cumsum(1)[rows, decided - 1], 0) < 0.5).all()
    assert (decided == patients["grade"].to_numpy()).mean() > 0.6


def test_the_median_is_not_always_the_most_probable_class() -> None:
    page = HeadPage(kind="ordinal", classes=("a", "b", "c"))
    chances = np.array([[0.4, 0.25, 0.35], [0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.1, 0.4, 0.5]])
    assert median_class(chances).tolist() == [1, 0, 2, 1]
    assert said(decide(page, {}, {}, chances)) == ["b", "a", "c", "b"]
    assert said(decide(HeadPage(kind="multiclass", classes=page.classes), {}, {}, chances)) == ["a", "a", "c", "c"]
    assert median_class(np.array([[0.1] * 10])).tolist() == [4]  # five tenths, which do not add up to a half in binary


def test_a_number_comes_with_an_interval_that_holds_its_share(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("linear", "regression"))
    found = bundle.predict(patients)
    assert found.column_names == [*FIRST, "value", "low", "high", "bundle"]
    value, low, high = (found[name].to_numpy() for name in ("value", "low", "high"))
    reach = bundle.threshold["half_width"]
    assert reach > 0 and bundle.threshold["coverage"] == 0.9
    np.testing.assert_allclose(high - value, reach)
    np.testing.assert_allclose(value - low, reach)
    truth = 50 + 20 * patients["size"].to_numpy()
    assert 0.9 <= ((low <= truth) & (truth <= high)).mean() < 0.92
    assert np.corrcoef(value, truth)[0, 1] > 0.9


def test_rows_without_an_answer_have_nulls_in_every_column(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("linear", "regression", cohort=CohortOptions(keep={"adult": "age >= 18"})))
    found = bundle.predict(patients)
    outside = patients["age"].to_numpy() < 18
    for name in ("value", "low", "high"):
        assert (found[name].is_null().to_numpy() == outside).all()
    rows = patients.slice(0, 2).to_pylist()
    rows[1]["size"], rows[1]["age"] = "large", 40
    assert bundle.predict(rows)["value"].to_pylist()[1] is None


@pytest.fixture
def offset_pair(tmp_path, patients) -> list[Bundle]:  # noqa: ANN001
    preparations = fit({"table": TableInput()}, {"table": ["size", "texture"]}, patients)
    made = []
    for offset in (None, [-1.5]):
        path = StoragePath.of(tmp_path / f"bundle{offset is None}")
        write_bundle(
            path, name="mlp", head=HEADS["binary"], preparations=preparations,
            predictor=network_parts(preparations, HEADS["binary"], "mlp", offset), calibration={"kind": "none"},
            threshold={"value": 0.5}, cohort=CohortOptions(), target={}, about={},
        )  # fmt: skip
        made.append(Bundle.load(path))
    return made


def test_the_offset_is_added_to_the_logits_before_anything_else(offset_pair, patients) -> None:
    without, shifted = offset_pair
    prepared = without.preparations.transform(patients)
    np.testing.assert_allclose(shifted.logits(prepared), without.logits(prepared) - 1.5)
    odds = [np.log(p / (1 - p)) for p in (one.predict(patients)["probability"].to_numpy() for one in offset_pair)]
    np.testing.assert_allclose(odds[1], odds[0] - 1.5)
    assert "offset" not in without.manifest["predictor"] and shifted.manifest["predictor"]["offset"] == [-1.5]
    assert shifted.predict(patients.slice(7, 1)).equals(shifted.predict(patients).slice(7, 1))


@pytest.mark.parametrize("offset", [[1.0, 2.0], [], "x", [None], [float("nan")], {"a": 1}])
def test_an_offset_that_does_not_fit_is_refused(make_bundle, offset: object) -> None:
    path = make_bundle("mlp")
    page = json.loads((path / "bundle.json").read_text())
    edit(path, predictor={**page["predictor"], "offset": offset})
    with pytest.raises(BundleError, match="offset does not fit"):
        Bundle.load(path)


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("regression", {"threshold": {}}, "threshold does not fit"),
        ("regression", {"threshold": {"coverage": 0.9, "half_width": -1.0}}, "threshold does not fit"),
        ("regression", {"threshold": {"coverage": 1.5, "half_width": 1.0}}, "threshold does not fit"),
        ("regression", {"threshold": {"coverage": 0.9, "half_width": float("nan")}}, "threshold does not fit"),
        ("regression", {"head": {"kind": "regression", "mean": 1.0}}, "a mean and a std"),
        ("regression", {"head": {"kind": "regression", "mean": 1.0, "std": 0.0}}, "std"),
        ("regression", {"head": {"kind": "regression", "mean": float("nan"), "std": 1.0}}, "mean"),
        ("regression", {"calibration": {"kind": "linear", "intercept": 0.0, "slope": -1.0}}, "calibration does not fit"),
        ("ordinal", {"head": {"kind": "ordinal", "classes": ["a"]}}, "cannot have 1 classes"),
        ("ordinal", {"calibration": {"kind": "temperature", "temperature": 1.0, "bias": [0.0, 1.0]}}, "calibration does not fit"),
        ("binary", {"threshold": {"value": float("nan")}}, "threshold does not fit"),
        ("binary", {"columns": []}, "columns are not those"),
    ],
)
def test_a_page_that_says_something_else_is_refused(make_bundle, kind: str, changes: dict, message: str) -> None:
    path = make_bundle("prevalence", kind)
    edit(path, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle.load(path)


def test_embeddings_stand_where_answers_do() -> None:
    head = HeadPage(kind="regression", mean=0.0, std=1.0)
    ids = pa.table({"case_id": ["a", "b", "c"], "patient_id": pa.nulls(3, pa.string())})
    status, error = np.zeros(3, np.int8), np.full(3, None, object)
    values = np.array([[1.0], [2.0]])
    answers = Answers(np.array([0, 2]), numbers_of(head, {"half_width": 0.5}, values), [], np.array([[1, 2], [3, 4]], np.float32))
    found = assemble(head, "b", ids, status, error, answers, ("embedding",))
    assert found["embedding"].to_pylist() == [[1.0, 2.0], None, [3.0, 4.0]]
    assert found["low"].to_pylist() == [0.5, None, 1.5]
    assert assemble(head, "b", ids, status, error, None, ("embedding",))["embedding"].null_count == 3
    assert found.schema == schema(head, ["embedding"])
    assert "embedding" not in schema(head).names

"""predict(without=, outputs=): a hidden input is one that nobody brought; an embedding changes no answer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from predict_helper import HEADS

from meddx.dataset.options import CohortOptions
from meddx.errors import RecipeError
from meddx.inputs.options import ImageInput, TableInput
from meddx.inputs.prepare import fit
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.predict.bundle import Bundle, write_bundle
from meddx.predict.networks import NetworkParts
from meddx.predict.wishes import check_wishes
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, patients) -> Bundle:  # noqa: ANN001
    """A network on a needed table, an optional picture, and an optional table that shares a column with the first."""
    import torch

    from meddx.models.build import build_model

    inputs = {"table": TableInput(), "film": ImageInput(kind="image", size=16, optional=True), "more": TableInput(optional=True)}
    preparations = fit(inputs, {"table": ["size", "site"], "more": ["texture", "site"]}, patients)
    encoders = {name: EncoderOptions(kind=kind) for name, kind in (("table", "mlp"), ("film", "cnn"), ("more", "mlp"))}
    torch.manual_seed(0)
    model = build_model(ModelOptions(hidden=16), encoders, preparations.specs(), HEADS["binary"])
    pages = {name: one.model_dump(mode="json") for name, one in encoders.items()}
    path = StoragePath.of(tmp_path_factory.mktemp("wishes") / "bundle")
    write_bundle(
        path, name="net", head=HEADS["binary"], preparations=preparations,
        predictor=NetworkParts(ModelOptions(hidden=16).model_dump(mode="json"), pages, model.state_dict()),
        calibration={"kind": "none"}, threshold={"value": 0.5}, cohort=CohortOptions(keep={"adult": "age >= 18"}), target={}, about={},
    )  # fmt: skip
    return Bundle.load(path)


def test_a_hidden_input_is_one_whose_columns_are_not_there(bundle, patients) -> None:
    hidden = bundle.predict(patients, without=["film"])
    assert hidden.equals(bundle.predict(patients.drop(["image"])))
    assert not hidden["probability"].equals(bundle.predict(patients)["probability"])  # the twin: it does look at it
    broken = patients.set_column(patients.schema.get_field_index("image"), "image", pa.array([b"rubbish"] * 300))
    assert bundle.predict(broken, without=["film"]).equals(hidden)


def test_a_column_that_two_inputs_read_is_hidden_from_the_one_alone(bundle, patients) -> None:
    hidden = bundle.predict(patients, without=["more"])
    assert set(hidden["status"].to_pylist()) == {"scored", "outside_cohort"}
    texture = patients.schema.get_field_index("texture")
    moved = patients.set_column(texture, "texture", pa.array(np.arange(300.0)))
    assert bundle.predict(moved, without=["more"]).equals(hidden)
    site = patients.schema.get_field_index("site")
    assert not bundle.predict(patients.set_column(site, "site", pa.array(["east"] * 300)), without=["more"]).equals(hidden)
    assert bundle.predict(patients, without=["film", "more"]).num_rows == 300


def test_what_cannot_be_hidden(bundle, patients) -> None:
    with pytest.raises(RecipeError, match="cannot do without the input 'table'"):
        bundle.predict(patients, without=["table"])
    with pytest.raises(RecipeError, match=r"no input 'films' to do without(.|\n)*did you mean 'film'"):
        bundle.predict(patients, without=["films"])
    with pytest.raises(RecipeError, match="nothing is left"):
        check_wishes("network", {"a": True, "b": True}, ["a", "b"], [])
    with pytest.raises(RecipeError, match="no output 'attention'"):
        bundle.predict(patients, outputs=["attention"])


def test_an_embedding_changes_no_answer_and_is_null_where_there_is_none(bundle, patients) -> None:
    plain, found = bundle.predict(patients), bundle.predict(patients, outputs=["embedding"])
    assert found.schema == bundle.schema(["embedding"])
    assert found.drop(["embedding"]).equals(plain)
    outside = patients["age"].to_numpy() < 18
    assert (found["embedding"].is_null().to_numpy() == outside).all()
    assert {len(one) for one in found["embedding"].to_pylist() if one is not None} == {16}
    row = int(np.flatnonzero(~outside)[-1])
    assert bundle.predict(patients.slice(row, 1), outputs=["embedding"]).equals(found.slice(row, 1))
    weight, bias = bundle.predictor.answer.weight.detach().numpy(), bundle.predictor.answer.bias.detach().numpy()
    odds = np.array(found["embedding"].to_pylist()[row]) @ weight[0] + bias[0]
    assert found["probability"].to_pylist()[row] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
    assert bundle.predict(patients.slice(0, 0), outputs=["embedding"]).schema == found.schema


def test_a_baseline_has_no_embedding(make_bundle, patients) -> None:
    with pytest.raises(RecipeError, match="only a network"):
        Bundle.load(make_bundle("logistic")).predict(patients, outputs=["embedding"])

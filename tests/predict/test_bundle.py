"""meddx.predict.bundle: rows in, predictions out, whatever the rows come as; nothing heavy is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError, DataError, OutputError
from meddx.predict.bundle import Bundle
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

KINDS = ("binary", "multiclass", "multilabel")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("predictor", ["mlp", "logistic", "boosting", "forest", "prevalence"])
def test_every_predictor_and_answer_scores_one_row_as_it_scores_all(make_bundle, patients, predictor: str, kind: str) -> None:
    bundle = Bundle.load(make_bundle(predictor, kind))
    everything = bundle.predict(patients)
    assert everything.schema == bundle.schema()
    assert everything["case_id"].to_pylist() == patients["case_id"].to_pylist()
    assert set(everything["status"].to_pylist()) == {"scored"}
    for rows in ([0], [11], [299], [5, 4, 250]):
        assert bundle.predict(patients.take(rows)).equals(everything.take(rows))  # to the last bit


def test_pictures_score_alone_as_among_others(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("cnn"))
    everything = bundle.predict(patients)
    backwards = bundle.predict(patients.take(list(range(299, -1, -1))))
    assert backwards.take(list(range(299, -1, -1))).equals(everything)
    assert bundle.predict(patients.slice(17, 1)).equals(everything.slice(17, 1))


def test_columns_and_decisions_of_each_answer(make_bundle, patients) -> None:
    binary = Bundle.load(make_bundle("logistic", "binary"))
    found = binary.predict(patients)
    first, last = ["case_id", "patient_id", "status", "error", "warning"], ["bundle"]
    assert found.column_names == [*first, "probability", "decision", *last]
    assert found["bundle"].unique().to_pylist() == [binary.digest]
    chance, value = found["probability"].to_numpy(), binary.threshold["value"]
    assert found["decision"].to_pylist() == ["malignant" if one >= value else "benign" for one in chance]
    assert len(set(found["decision"].to_pylist())) == 2

    multiclass = Bundle.load(make_bundle("logistic", "multiclass")).predict(patients)
    names = ["p_grade 1", "p_grade 2", "p_grade 3"]
    assert multiclass.column_names == [*first, *names, "decision", *last]
    chances = np.stack([multiclass[name].to_numpy() for name in names], 1)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert multiclass["decision"].to_pylist() == [names[one][2:] for one in chances.argmax(1)]

    bundle = Bundle.load(make_bundle("logistic", "multilabel"))
    multilabel = bundle.predict(patients)
    assert multilabel.column_names == [*first, "p_oedema", "p_effusion", "decision_oedema", "decision_effusion", *last]
    value = bundle.threshold["labels"]["effusion"]["value"]
    yes = multilabel["p_effusion"].to_numpy() >= value
    assert multilabel["decision_effusion"].to_pylist() == np.where(yes, "1", "0").tolist()  # in the target's own words


def test_frame_table_and_dicts_give_the_same_whatever_the_order_of_columns(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("logistic"))
    expected = bundle.predict(patients)
    assert bundle.predict(patients.to_pandas()).equals(expected)
    assert bundle.predict(patients.to_pylist()).equals(expected)
    turned = patients.select(sorted(patients.column_names, reverse=True))
    assert bundle.predict(turned).equals(expected)
    assert bundle.predict(turned.to_pandas().convert_dtypes(dtype_backend="pyarrow")).equals(expected)
    assert bundle.predict(pa.concat_tables([patients.slice(0, 100), patients.slice(100)])).equals(expected)


def test_labels_and_other_columns_change_nothing(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("mlp"))
    expected = bundle.predict(patients)
    assert bundle.predict(patients.drop(["label", "grade", "image"])).equals(expected)
    wrong = patients.set_column(patients.schema.get_field_index("label"), "label", pa.array(["?"] * 300))
    assert bundle.predict(wrong).equals(expected)


def test_a_moved_bundle_gives_the_same_scores(make_bundle, patients, tmp_path: Path) -> None:
    path = make_bundle("mlp")
    expected = Bundle.load(path).predict(patients)
    (path / "record.json").replace(b"{}")  # the stage's record stands beside and is not part of it
    shutil.copytree(path.uri, tmp_path / "elsewhere")
    shutil.rmtree(path.uri)
    assert Bundle.load(str(tmp_path / "elsewhere")).predict(patients).equals(expected)


def test_rows_that_cannot_be_used_are_quarantined_and_the_others_scored(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("cnn"))
    expected = bundle.predict(patients.slice(0, 6))
    rows = patients.slice(0, 6).to_pylist()
    rows[1]["image"] = rows[1]["image"][:40]
    rows[2]["image"] = None
    rows[4]["image"] = b"not a picture"
    found = bundle.predict(rows)
    assert found["status"].to_pylist() == ["scored", "quarantined", "quarantined", "scored", "quarantined", "scored"]
    assert found["error"].to_pylist() == [None, "image_truncated", "input_absent", None, "image_unreadable", None]
    for name in ("probability", "decision"):
        values = found[name].to_pylist()
        assert [values[place] for place in (1, 2, 4)] == [None] * 3
        assert [values[place] for place in (0, 3, 5)] == [expected[name].to_pylist()[place] for place in (0, 3, 5)]
    nothing = bundle.predict([rows[2], rows[4]])
    assert nothing["probability"].null_count == 2
    assert bundle.predict(patients.slice(0, 0)).equals(bundle.schema().empty_table())


def test_text_in_a_numbers_place_is_one_bad_row(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("logistic"))
    rows = patients.slice(0, 3).to_pylist()
    expected = bundle.predict(rows)
    rows[1]["size"] = "large"
    found = bundle.predict(rows)
    assert found["error"].to_pylist() == [None, "number_unreadable", None]
    assert found.take([0, 2]).equals(expected.take([0, 2]))


def test_logits_that_are_not_finite_are_quarantined(make_bundle, patients) -> None:
    import torch

    bundle = Bundle.load(make_bundle("mlp"))

    class Broken(torch.nn.Module):
        def forward(self, batch: dict) -> torch.Tensor:
            numbers = batch["table"]["numbers"]
            return torch.where(numbers[:, :1] > 0, torch.nan, numbers[:, :1])

    object.__setattr__(bundle, "predictor", Broken())
    found = bundle.predict(patients)
    bad = np.array(found["status"].to_pylist()) == "quarantined"
    assert 50 < bad.sum() < 250
    assert set(np.array(found["error"].to_pylist(), object)[bad]) == {"not_finite"}
    assert (found["probability"].is_null().to_numpy() == bad).all()


def test_outside_the_cohort_is_marked_and_only_scored_on_request(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("logistic", cohort=CohortOptions(keep={"adult": "age >= 18"})))
    assert bundle.columns == ("size", "texture", "site", "age")
    found = bundle.predict(patients)
    outside = patients["age"].to_numpy() < 18
    assert 0 < outside.sum() < 300
    assert found["status"].to_pylist() == np.where(outside, "outside_cohort", "scored").tolist()
    assert (found["probability"].is_null().to_numpy() == outside).all()
    assert (found["decision"].is_null().to_numpy() == outside).all()
    everything = bundle.predict(patients, score_outside=True)
    assert everything["probability"].null_count == 0
    assert everything["status"].equals(found["status"])
    rows = np.flatnonzero(~outside)
    assert everything.take(rows).equals(found.take(rows))


def test_a_missing_column_is_named_with_the_nearest(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("logistic", cohort=CohortOptions(keep={"adult": "age >= 18"})))
    with pytest.raises(DataError, match=r"lack 2 column\(s\).*'texture' \(is it 'textures'\?\), 'age'"):
        bundle.predict(patients.rename_columns(["textures" if name == "texture" else name for name in patients.column_names]).drop(["age"]))


def test_an_optional_input_may_be_missing_altogether(make_bundle, patients) -> None:
    bundle = Bundle.load(make_bundle("mlp", optional=True))
    found = bundle.predict(patients.drop(["site"]))
    assert set(found["status"].to_pylist()) == {"scored"}
    assert set(bundle.predict(patients.select(["case_id"]))["error"].to_pylist()) == {"input_absent"}


def test_the_contract_is_said_in_the_manifest(make_bundle) -> None:
    table, film = Bundle.load(make_bundle("logistic")), Bundle.load(make_bundle("cnn"))
    assert [(one.name, one.use, one.required, one.levels) for one in table.contract] == [
        ("size", "number", True, None), ("texture", "number", True, None), ("site", "category", True, 3),
    ]  # fmt: skip
    assert [(one.name, one.use, one.size, one.channels, one.bits) for one in film.contract] == [("image", "image", 16, 1, 8)]
    page = json.loads((make_bundle("logistic") / "bundle.json").read_text())
    assert page == table.manifest
    assert page["kind"] == "estimator"
    assert {"meddx", "python", "scikit-learn"} <= set(page["versions"])
    assert page["about"] == {"parts": "all of them"}


def test_the_same_parts_make_the_same_bytes(make_bundle) -> None:
    for predictor in ("logistic", "boosting", "mlp"):
        assert Bundle.load(make_bundle(predictor)).digest == Bundle.load(make_bundle(predictor)).digest
    assert Bundle.load(make_bundle("mlp")).digest != Bundle.load(make_bundle("logistic")).digest


def test_extra_files_travel_under_the_digests(make_bundle) -> None:
    path = make_bundle("logistic", extra={"card.md": b"# a card\n"})
    assert (path / "card.md").read_bytes() == b"# a card\n"
    before = Bundle.load(path).digest
    (path / "card.md").replace(b"# another\n")
    with pytest.raises(BundleError, match=r"card\.md differs"):
        Bundle.load(path)
    assert before != Bundle.load(make_bundle("logistic")).digest
    with pytest.raises(BundleError, match="cannot have the name"):
        make_bundle("logistic", extra={"bundle.json": b"{}"})
    with pytest.raises(BundleError, match="cannot have the name"):
        make_bundle("logistic", extra={"../escape": b""})


def test_another_bundle_is_not_overwritten_unless_asked(make_bundle, tmp_path: Path) -> None:
    from meddx.predict.files import publish, read_files

    logistic, forest = make_bundle("logistic"), make_bundle("forest")
    here = StoragePath.of(tmp_path / "bundle")
    first, digest = read_files(logistic)
    assert publish(here, first) == digest
    (here / "record.json").replace(b"{}")
    assert publish(here, first) == digest
    assert (here / "record.json").exists()  # the same bundle again: nothing is touched
    other, other_digest = read_files(forest)
    with pytest.raises(OutputError, match="another bundle"):
        publish(here, other)
    assert Bundle.load(here).digest == digest
    assert publish(here, other, replace=True) == other_digest
    assert Bundle.load(here).digest == other_digest
    assert not (here / "record.json").exists()


SCRIPT = """
import sys, pyarrow as pa
from meddx.predict.bundle import Bundle
bundle = Bundle.load(sys.argv[1])
found = bundle.predict([{"size": 0.1, "texture": None, "site": "north"}])
assert found["status"].to_pylist() == ["scored"], found
print(sorted(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize(
    "predictor, unwanted", [("mlp", ["ray", "cv2", "monai", "sklearn", "skops"]), ("logistic", ["ray", "cv2", "monai", "torch"])]
)
def test_predicting_a_table_imports_no_more_than_it_needs(make_bundle, predictor: str, unwanted: list[str]) -> None:
    command = [sys.executable, "-c", SCRIPT, str(make_bundle(predictor)), *unwanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

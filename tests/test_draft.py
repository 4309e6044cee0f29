"""A draft loads as it stands, says what it does not know, and runs on real data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meddx import recipe
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split, prepare_split
from meddx.draft import draft
from meddx.errors import RecipeError
from meddx.ingest.run import ingest
from meddx.recipe import Recipe
from meddx.storage import StoragePath
from meddx.yamltext import flow, scalar

pytestmark = pytest.mark.slow


def loaded(text: str, folder: Path) -> Recipe:
    page = folder / "page.yaml"
    page.write_text(text)
    return recipe.load(page)


def until_split(page: Recipe, folder: Path) -> Split:
    """What train would do first: ingest, split, all checks."""
    out = StoragePath.of(folder / "dataset")
    ingest(page.source, page.case, page.text_columns, out)
    return prepare_split(
        Dataset.open(out),
        case=page.case,
        cohort=page.cohort,
        target=page.target,
        split=page.split,
        timing=page.timing,
        inputs=page.inputs,
        never_inputs=page.never_inputs,
        fingerprint="x",
    )


def write(folder: Path, table: pd.DataFrame, name: str = "cases.csv") -> str:
    path = folder / name
    table.to_csv(path, index=False)
    return str(path)


def cases(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "case_no": [f"{i:04d}" for i in range(n)],
            "patient_nr": [f"p{i // 2}" for i in range(n)],
            "age": rng.integers(18, 90, n),
            "lab": rng.normal(size=n).round(3),
            "y": rng.choice(["NO", "<30", ">30"], n),
        }
    )


def test_labels_and_ids_survive_yaml(tmp_path: Path) -> None:
    page = loaded(draft(write(tmp_path, cases()), target="y", positive="<30"), tmp_path)
    assert page.target.positive == ("<30",) and page.target.negative == (">30", "NO")
    assert page.case.id == "case_no" and page.case.patient == "patient_nr" and page.name == "cases-y"
    split = until_split(page, tmp_path)
    assert split.case_ids[0] == "0000" and split.counts["train"]["positive"] > 0


@pytest.mark.parametrize(
    "labels", [("0012", "12"), ("1.0", "0.0"), ("yes", "no"), ("true", "false"), ("#a", "b: c"), ("~", "~x"), ("'", '"')]
)
def test_odd_labels(tmp_path: Path, labels: tuple[str, str]) -> None:
    table = cases()
    table["y"] = [labels[0] if i % 4 == 0 else labels[1] for i in range(len(table))]
    page = loaded(draft(write(tmp_path, table), target="y"), tmp_path)
    assert page.target.positive == (labels[0],) and page.target.negative == (labels[1],)
    assert until_split(page, tmp_path).counts["test"]["positive"] > 0


def test_one_value_left_is_no_question(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="one value only: 'a'"):
        draft(write(tmp_path, cases().assign(y="a")), target="y")
    with pytest.raises(RecipeError, match="one value only"):
        draft(write(tmp_path, cases().assign(y=["a", "N/A"] * 100)), target="y")
    with pytest.raises(RecipeError, match="no value"):
        draft(write(tmp_path, cases().assign(y=None)), target="y")


def test_odd_column_names(tmp_path: Path) -> None:
    table = cases().rename(columns={"age": "dose [mg]: #1", "lab": "no"}).assign(**{"word, and": "a"})
    table["case_no"] = table["case_no"]
    page = loaded(draft(write(tmp_path, table), target="y"), tmp_path)
    assert tuple(page.target.classes) == ("<30", ">30", "NO") and page.target.kind == "multiclass"
    assert until_split(page, tmp_path).counts["train"]["cases"] > 0


def test_numeric_target_asks_where_yes_begins(tmp_path: Path) -> None:
    text = draft(write(tmp_path, cases().assign(y=np.arange(200) / 3)), target="y")
    assert "# ? where does yes begin?" in text
    assert loaded(text, tmp_path).target.positive_above == pytest.approx(199 / 6, abs=0.1)


def test_refusals_name_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, cases().assign(note=[f"text {i}" for i in range(200)]))
    for options, told in (
        ({"target": "yy"}, "did you mean 'y'"),
        ({"target": "y", "patient": "patient"}, "did you mean 'patient_nr'"),
        ({"target": "y", "id": "case"}, "did you mean 'case_no'"),
        ({"target": "y", "positive": "31"}, "holds no '31'"),
        ({"target": "note"}, "200 different texts"),
    ):
        with pytest.raises(RecipeError, match=told):
            draft(path, **options)  # type: ignore[arg-type]


def test_suspicions_become_comments_and_the_page_still_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = cases(400)
    yes = rng.random(400) < 0.3
    table["y"] = np.where(yes, "1", "0")
    table["knows"] = yes + rng.normal(size=400) * 0.01
    table["half"] = yes + rng.normal(size=400) * 0.45
    table["discharge_ward"] = rng.choice(["a", "b"], 400)
    table["admission_type_id"], table["admission_source_id"] = rng.integers(1, 9, 400), rng.integers(1, 9, 400)
    table["grade"] = rng.integers(1, 5, 400)
    table["seen"] = [f"{rng.integers(1, 12):02d}/{rng.integers(1, 12):02d}/2020" for _ in range(400)]
    table["born"] = [f"19{rng.integers(30, 99)}-0{rng.integers(1, 9)}-11" for _ in range(400)]
    table["note"] = ["the patient was seen on the ward and felt quite well " + str(i) for i in range(400)]
    table["film"] = [f"film{i}" for i in range(400)]
    table["sodium"] = [str(one) for one in rng.integers(130, 150, 400)]
    table.loc[::20, "sodium"] = "-"
    table["lab"] = ["?" if i % 10 == 0 else str(one) for i, one in enumerate(table["lab"])]
    text = draft(write(tmp_path, table), target="y")
    page = loaded(text, tmp_path)
    assert page.timing.after_outcome == ("knows",)
    assert '"half" 0.9' in text and '"discharge_ward"' in text and '# ? few whole numbers: "grade"' in text
    assert page.inputs["table"].category == ("*_id",) and set(page.inputs["table"].drop) == {"seen", "note", "film"}  # type: ignore[union-attr]
    assert page.source.missing == ("", "?") and page.source.missing_in == {"sodium": ("-",)} and page.source.text == ("seen",)
    split = until_split(page, tmp_path)
    assert "born" in " ".join(split.messages)  # a date is an input only where it is named
    assert "half" in [one["column"] for one in split.screened] and "knows" not in [one["column"] for one in split.screened]


def test_no_id_and_no_patient(tmp_path: Path) -> None:
    table = cases().drop(columns=["case_no", "patient_nr"])
    text = draft(write(tmp_path, table), target="y")
    page = loaded(text, tmp_path)
    assert page.case.id == "@row" and "# ? which column says who the patient is?" in text
    assert loaded(draft(write(tmp_path, table), target="y", patient="@case"), tmp_path).case.patient == "@case"


def test_reserved_names_are_taken_for_what_they_say(tmp_path: Path) -> None:
    table = cases().rename(columns={"case_no": "case_id", "patient_nr": "patient_id"})
    table = table.assign(predict_at="2020-01-05", other_id=[f"x{i}" for i in range(200)])
    page = loaded(draft(write(tmp_path, table), target="y"), tmp_path)
    assert (page.case.id, page.case.patient, page.case.predict_at, page.case.zone) == ("case_id", "patient_id", "predict_at", "UTC")
    assert until_split(page, tmp_path).counts["train"]["cases"] > 0


def test_wide_tables_use_patterns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = cases(60).assign(y=["a", "b", "b"] * 20)
    table = pd.concat([table, pd.DataFrame(rng.normal(size=(60, 80)).round(4), columns=[f"g{i:03d}" for i in range(80)])], axis=1)
    table["g000"] = (table.y == "a") * 1.0  # of a wide assay no single column is refused
    page = loaded(draft(write(tmp_path, table), target="y", positive="a"), tmp_path)
    assert page.inputs["table"].columns == ("g*", "*") and page.timing.after_outcome == ()  # type: ignore[union-attr]
    assert until_split(page, tmp_path).screened[0]["wide"]


def test_folder_of_pictures(tmp_path: Path) -> None:
    from matplotlib.image import imsave

    rng = np.random.default_rng(0)
    for number in range(40):
        sink = io.BytesIO()
        imsave(sink, rng.integers(0, 255, (30, 40)).astype(np.uint8), cmap="gray", format="png")
        place = tmp_path / "films" / ("sick" if number % 3 == 0 else "well")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(sink.getvalue())
    page = loaded(draft(str(tmp_path / "films"), target="label"), tmp_path)
    assert page.target.positive == ("sick",) and page.source.label_from_folder == "label"
    assert page.inputs["picture"].kind == "image" and page.inputs["picture"].size == 40  # type: ignore[union-attr]
    assert until_split(page, tmp_path).counts["train"]["positive"] == 8


def test_real_heart_without_header(tmp_path: Path, shared_data: Path) -> None:
    path = str(shared_data / "heart_uci/processed.cleveland.data")
    with pytest.raises(RecipeError, match="column_1 to column_14"):
        draft(path, target="num")
    text = draft(path, target="column_14", patient="@case")
    page = loaded(text, tmp_path)
    assert page.target.kind == "multiclass" and len(page.target.classes) == 5 and "positive_above: 0" in text
    assert '"column_3"' in text  # chest pain type: a code
    assert until_split(page, tmp_path).counts["train"]["cases"] > 100


def test_real_support2_names_all_ten_leaks_by_name_or_score(tmp_path: Path, shared_data: Path) -> None:
    text = draft(str(shared_data / "support2/support2.csv"), target="hospdead")
    page = loaded(text, tmp_path)
    assert page.case.id == "sno" and page.target.positive == ("1",)
    asked = "\n".join(line for line in text.splitlines() if line.startswith("# ?"))
    for name in ("death", "d.time", "slos", "charges", "totcst", "totmcst", "sfdm2", "dnr", "dnrday"):
        assert f'"{name}"' in asked
    assert '"avtisst"' not in asked  # the tenth: neither its name nor its score gives it away
    assert until_split(page, tmp_path).counts["cohort"]["read"] == 9105


def test_real_diabetes(tmp_path: Path, shared_data: Path) -> None:
    text = draft(str(shared_data / "diabetes130/diabetic_data.csv.gz"), target="readmitted", patient="patient_nbr", positive="<30")
    page = loaded(text, tmp_path)
    assert page.case.id == "encounter_id" and page.source.missing == ("", "?") and "'None' may mean missing" in text
    assert page.inputs["table"].category == ("*_id",)  # type: ignore[union-attr]
    split = until_split(page, tmp_path)
    assert sum(split.counts[part]["cases"] for part in ("train", "validate", "calibrate", "test")) == 81168


def test_real_medmnist_keeps_the_official_parts(tmp_path: Path, shared_data: Path) -> None:
    page = loaded(draft(str(shared_data / "pneumoniamnist/pneumoniamnist.npz"), target="label", positive="1"), tmp_path)
    assert page.split.by == "column" and page.split.column == "official_part" and page.inputs["picture"].size == 28  # type: ignore[union-attr]


def test_flow_and_scalar() -> None:
    assert [scalar(one) for one in ("abc", "NO", "1", "0012", "a b", "true", 1, 0.5, True, None)] == [
        "abc",
        '"NO"',
        '"1"',
        '"0012"',
        '"a b"',
        '"true"',
        "1",
        "0.5",
        "true",
        "null",
    ]
    assert flow({"a": ["x", "y z"], "b": {}}) == '{a: [x, "y z"], b: {}}'
    assert max(map(len, flow([f"name_{i}" for i in range(200)]).splitlines())) < 125

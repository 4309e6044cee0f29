"""The checks that refuse, on made-up and on real data."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from meddx.dataset import checks
from meddx.dataset.checks import patients_across_parts, resolve_columns
from meddx.dataset.open import Dataset
from meddx.dataset.options import CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.dataset.split import Split, prepare_split
from meddx.errors import LeakError, RecipeError
from meddx.ingest.options import CaseOptions
from meddx.inputs.options import ImageInput, InputOptions, TableInput

CASE = CaseOptions(id="id", patient="who")
Make = Callable[..., Dataset]
BY_PART = SplitOptions.model_validate(
    {"by": "column", "column": "part", "parts": {"train": "a", "validate": "b", "calibrate": "c", "test": "d"}}
)
TARGET = TargetOptions(kind="binary", column="y", positive=("1",), negative=("0",))


def run(
    dataset: Dataset,
    inputs: dict[str, InputOptions],
    split: SplitOptions = BY_PART,
    target: TargetOptions = TARGET,
    cohort: CohortOptions | None = None,
) -> Split:
    never = [*target.all_columns, *([split.column] if split.column else [])]
    return prepare_split(
        dataset,
        case=CASE,
        cohort=cohort or CohortOptions(),
        target=target,
        split=split,
        timing=TimingOptions(),
        inputs=inputs,
        never_inputs=never,
        fingerprint="x",
    )


def test_patients_across_parts_counts_only_the_parts() -> None:
    parts = np.array(["train", "test", "outside", "dropped", "test", "train"], dtype=object)
    patients_across_parts(parts, np.array([0, 1, 0, 1, 2, 3]))
    with pytest.raises(LeakError, match=r"1 patients .* 1 of 2 test cases \(50.0%\)"):
        patients_across_parts(parts, np.array([0, 0, 5, 5, 2, 3]))
    with pytest.raises(LeakError, match="0 of 1 test"):
        patients_across_parts(np.array(["train", "validate", "test"], dtype=object), np.array([0, 0, 1]))


def test_diabetes_row_split_is_refused_with_its_share(make_dataset: Make, shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "diabetes130/diabetic_data.csv.gz", dtype=str, keep_default_na=False, na_values=["?"])
    table = table.rename(columns={"encounter_id": "case_id", "patient_nbr": "patient_id"})
    table["part"] = np.random.default_rng(0).choice(list("abcd"), len(table), p=[0.6, 0.1, 0.1, 0.2])
    target = TargetOptions(kind="binary", column="readmitted", positive=("<30",), negative=(">30", "NO"))
    died = CohortOptions(leave_out={"died": "discharge_disposition_id in [11, 19, 20, 21]"})
    dataset = make_dataset(table)
    with pytest.raises(LeakError, match=r"6570 of 15837 test cases \(41.5%\)") as caught:
        run(dataset, {"table": TableInput()}, target=target, cohort=died)
    assert caught.value.exit_code == 3
    split = run(dataset, {"table": TableInput(drop=("part",))}, SplitOptions(), target, died)  # its twin by patient passes
    assert split.counts["outside"]["cases"] == 1334 and split.counts["dropped_copies"] == 0


def test_pneumoniamnist_drops_its_ten_copies(make_dataset: Make, shared_data: Path) -> None:
    from matplotlib.image import imsave

    def png(image: np.ndarray) -> bytes:
        sink = io.BytesIO()
        imsave(sink, image, cmap="gray", vmin=0, vmax=255, format="png")
        return sink.getvalue()

    archive = np.load(shared_data / "pneumoniamnist/pneumoniamnist.npz")
    keep = {"train": 4708, "val": 524, "test": 60}
    rows = [
        (f"{part}-{i}", png(image), str(label[0]), part)
        for part, n in keep.items()
        for i, (image, label) in enumerate(zip(archive[f"{part}_images"][:n], archive[f"{part}_labels"][:n], strict=True))
    ]
    table = pd.DataFrame(rows, columns=["case_id", "image", "y", "part"])
    table.insert(1, "patient_id", table.case_id)
    split = SplitOptions.model_validate(
        {
            "by": "column",
            "column": "part",
            "parts": {"train": "train", "validate": "val", "test": "test"},
            "carve": {"calibrate": {"from": "validate", "share": 0.5}},
        }
    )
    made = run(make_dataset(table), {"x": ImageInput(kind="image", size=28)}, split)
    assert made.counts["dropped_copies"] == made.counts["dropped"]["cases"] == 10
    assert made.counts["train"]["cases"] == 4698
    assert made.messages == ["10 train cases dropped: exact copies of cases in a later part"]


def pictures(parts: str, images: list[bytes | None], labels: str | None = None) -> pd.DataFrame:
    n = len(parts)
    return pd.DataFrame(
        {
            "case_id": [str(i) for i in range(n)],
            "patient_id": [str(i) for i in range(n)],
            "image": images,
            "y": list(labels) if labels else ["0", "1"] * (n // 2),
            "part": list(parts),
        }
    )


IMAGE: dict[str, InputOptions] = {"x": ImageInput(kind="image", size=28)}


def test_copies_of_pictures(make_dataset: Make) -> None:
    unique: list[bytes | None] = [bytes([i]) for i in range(8)]
    copy = [*unique]
    copy[7] = unique[0]
    with pytest.raises(LeakError, match=r"1 of 2 labelled test cases \(50.0%\) are exact copies of cases in train"):
        run(make_dataset(pictures("aabbccdd", copy)), IMAGE)
    inside = [*unique]
    inside[7] = unique[6]
    assert run(make_dataset(pictures("aabbccdd", inside)), IMAGE).counts["dropped_copies"] == 0  # within test
    chain = [bytes([i]) for i in range(12)]
    chain[4] = chain[0]  # train and validate
    chain[8] = chain[5]  # validate and calibrate
    made = run(make_dataset(pictures("aaaabbbbccdd", chain)), IMAGE)
    assert made.ids("dropped") == ["0", "5"]
    assert made.messages == [
        "1 train cases dropped: exact copies of cases in a later part",
        "1 validate cases dropped: exact copies of cases in a later part",
    ]


@pytest.mark.parametrize("protected", [True, False])
def test_without_the_check_a_copy_reaches_test(make_dataset: Make, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    images: list[bytes | None] = [bytes([i]) for i in range(7)] + [b"\x00"]
    dataset = make_dataset(pictures("aabbccdd", images))
    if protected:
        with pytest.raises(LeakError):
            run(dataset, IMAGE)
        return
    monkeypatch.setattr(checks, "copies_across_parts", lambda *_, **__: [])
    split = run(dataset, IMAGE)
    seen = dataset.table(["image"]).column("image")
    assert set(seen.take(split.rows("train")).to_pylist()) & set(seen.take(split.rows("test")).to_pylist())


@pytest.mark.parametrize("protected", [True, False])
def test_without_the_check_a_patient_reaches_test(make_dataset: Make, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    table = pictures("aabbccdd", [bytes([i]) for i in range(8)])
    table["patient_id"] = list("pqrstupq")
    dataset = make_dataset(table)
    if protected:
        with pytest.raises(LeakError, match="2 patients"):
            run(dataset, IMAGE)
        return
    monkeypatch.setattr(checks, "patients_across_parts", lambda *_, **__: None)
    split = run(dataset, IMAGE)
    who = dataset.table(["patient_id"]).column("patient_id")
    assert set(who.take(split.rows("train")).to_pylist()) & set(who.take(split.rows("test")).to_pylist())


def test_missing_pictures_and_unlabelled_copies_do_not_count(make_dataset: Make) -> None:
    missing: list[bytes | None] = [None, b"1", b"2", b"3", b"4", b"5", None, b"7"]
    assert run(make_dataset(pictures("aabbccdd", missing)), IMAGE).counts["dropped_copies"] == 0
    table = pictures("aaabbccddd", [bytes([i]) for i in range(9)] + [b"\x00"])
    table.loc[9, "y"] = None
    table.loc[7, "y"] = "0"
    table.loc[8, "y"] = "1"
    assert run(make_dataset(table), IMAGE).counts["dropped_copies"] == 0


def numbers(columns: int, rows: int = 400, levels: int | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(rows, columns)) if levels is None else rng.integers(0, levels, (rows, columns)).astype(float)
    table = pd.DataFrame(values, columns=[f"v{i}" for i in range(columns)])
    table.insert(0, "patient_id", [str(i) for i in range(rows)])
    table.insert(0, "case_id", table.patient_id)
    return table.assign(y=rng.choice(["0", "1"], rows), part=rng.choice(list("abcd"), rows))


@pytest.mark.parametrize(("columns", "levels", "refused"), [(8, None, True), (7, None, False), (9, 2, False), (30, 2, True)])
def test_a_row_of_a_table_is_a_copy_only_if_too_particular_for_chance(
    make_dataset: Make, columns: int, levels: int | None, refused: bool
) -> None:
    table = numbers(columns, levels=levels)
    train, test = table.index[table.part == "a"][0], table.index[table.part == "d"][0]
    table.loc[test, table.columns[2:-2]] = table.loc[train, table.columns[2:-2]]
    inputs: dict[str, InputOptions] = {"table": TableInput(columns=("v*",))}
    if refused:
        with pytest.raises(LeakError, match=r"1 of \d+ labelled test cases"):
            run(make_dataset(table), inputs)
    else:
        assert run(make_dataset(table), inputs).counts["dropped_copies"] == 0


def test_mostly_missing_rows_are_no_copies(make_dataset: Make) -> None:
    table = numbers(20)
    for part in ("a", "d"):
        rows = table.index[table.part == part][:20]
        table.loc[rows, [f"v{i}" for i in range(2, 20)]] = np.nan
        table.loc[rows, ["v0", "v1"]] = 1.0
    assert run(make_dataset(table), {"table": TableInput(columns=("v*",))}).counts["dropped_copies"] == 0


def test_text_and_minus_zero_compare_by_content(make_dataset: Make) -> None:
    table = numbers(10).assign(word=lambda t: ["w" + str(i) for i in range(len(t))])
    train, test = table.index[table.part == "a"][0], table.index[table.part == "d"][0]
    table.loc[[train, test], "v0"] = [0.0, -0.0]
    table.loc[test, [f"v{i}" for i in range(1, 10)]] = table.loc[train, [f"v{i}" for i in range(1, 10)]]
    inputs: dict[str, InputOptions] = {"table": TableInput(columns=("v*", "word"))}
    assert run(make_dataset(table), inputs).counts["dropped_copies"] == 0
    table.loc[test, "word"] = table.loc[train, "word"]
    with pytest.raises(LeakError):
        run(make_dataset(table), inputs)


SCHEMA = pa.schema([("case_id", pa.string()), ("patient_id", pa.string()), ("a", pa.float64()), ("image", pa.binary())])


def test_resolve_columns() -> None:
    inputs: dict[str, InputOptions] = {"t": TableInput(), "x": ImageInput(kind="image", size=28)}
    assert resolve_columns(inputs, SCHEMA, timing=TimingOptions()) == {"t": ["a"], "x": ["image"]}
    near, none = TimingOptions(known_at={"aa": "at entry"}), TimingOptions(after_outcome=("b*",))
    for timing, told in ((near, "did you mean 'a'"), (none, "matches no column")):
        with pytest.raises(RecipeError, match=told):
            resolve_columns(inputs, SCHEMA, timing=timing)
    with pytest.raises(LeakError):
        resolve_columns(inputs, SCHEMA, timing=TimingOptions(after_outcome=("image",)))
    with pytest.raises(RecipeError, match="does not hold pictures"):
        resolve_columns({"x": ImageInput(kind="image", size=28, column="a")}, SCHEMA, timing=TimingOptions())
    with pytest.raises(RecipeError, match="did you mean 'image'"):
        resolve_columns({"x": ImageInput(kind="image", size=28, column="imag")}, SCHEMA, timing=TimingOptions())

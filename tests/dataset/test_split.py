"""Splits on disk: who goes where, what is refused, and that the first one written stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.dataset import testlog
from meddx.dataset.assign import assign
from meddx.dataset.open import Dataset
from meddx.dataset.options import PARTS, CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.dataset.split import Split, prepare_split
from meddx.dataset.target import TargetCoder
from meddx.errors import DataError, LeakError, OutputError, RecipeError
from meddx.ingest.options import CaseOptions
from meddx.inputs.options import TableInput

CASE = CaseOptions(id="id", patient="who")
TARGET = TargetOptions(kind="binary", column="y", positive=("1",), negative=("0",))
Make = Callable[..., Dataset]


def frame(patients: int = 100, visits: int = 3, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = patients * visits
    who = np.repeat(np.arange(patients), visits)
    return pd.DataFrame(
        {
            "case_id": [f"c{i:05d}" for i in range(n)],
            "patient_id": [f"p{i}" for i in who],
            "predict_at": pd.Timestamp("2020-01-01", tz="UTC").as_unit("us") + pd.to_timedelta(rng.integers(0, 1000, n), unit="D"),
            "x": rng.normal(size=n),
            "age": rng.integers(10, 90, n).astype(float),
            "site": np.array(["north", "south", "east", "west"])[who % 4],
            "y": rng.choice(["0", "1", None], n, p=[0.6, 0.3, 0.1]),
        }
    )


def prepare(dataset: Dataset, **more: Any) -> Split:
    options: dict[str, Any] = {
        "case": CASE,
        "cohort": CohortOptions(),
        "target": TARGET,
        "split": SplitOptions(),
        "timing": TimingOptions(),
        "inputs": {"table": TableInput(columns=("x", "age"))},
        "never_inputs": ["y"],
        "fingerprint": "page-1",
        **more,
    }
    return prepare_split(dataset, **options)


def parts_by_patient(dataset: Dataset, split: Split) -> pd.Series:
    table = dataset.table(["patient_id"]).to_pandas().assign(part=split.parts)
    return table[table.part.isin(PARTS)].groupby("patient_id").part.nunique()


@given(st.integers(5, 60), st.integers(1, 4), st.integers(0, 10), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_by_patient_keeps_patients_and_shares_and_ignores_the_order_of_rows(patients: int, visits: int, seed: int, data: int) -> None:
    import pyarrow as pa

    table = frame(patients, visits, data)
    outside = table.age < 20
    coder, options = TargetCoder(TARGET), SplitOptions(seed=seed)

    def parts(rows: pd.DataFrame) -> dict[str, str]:
        arrow = pa.Table.from_pandas(rows, preserve_index=False)
        made = assign(arrow, ~(rows.age < 20).to_numpy(), coder.encode(arrow), "binary", case=CASE, split=options)
        return dict(zip(made.case_ids, made.parts, strict=True))

    found = parts(table)
    assert found == parts(table.sample(frac=1, random_state=seed))
    table["part"] = table.case_id.map(found)
    assert (table.part == "outside").equals(outside)
    inside = table[~outside]
    assert inside.groupby("patient_id").part.nunique().max() <= 1 or inside.empty
    who = inside.groupby("patient_id").part.first()
    for part, share in {"train": 0.6, "validate": 0.1, "calibrate": 0.1, "test": 0.2}.items():
        assert abs((who == part).sum() - share * len(who)) < 2


def test_by_patient_on_disk(make_dataset: Make) -> None:
    dataset = make_dataset(frame())
    split = prepare(dataset, cohort=CohortOptions(keep={"adult": "age >= 18"}))
    assert parts_by_patient(dataset, split).max() == 1
    assert split.counts["outside"]["cases"] == int((frame().age < 18).sum()) == split.counts["cohort"]["keep.adult"]
    assert sum(split.counts[part]["cases"] for part in (*PARTS, "outside", "dropped")) == 300
    rows = split.rows("test")
    assert split.ids("test") == dataset.table(["case_id"]).column("case_id").take(rows).to_pylist()
    assert len(split.rows("test", labelled=False)) == split.counts["test"]["cases"] > len(rows) == split.counts["test"]["labelled"]
    again = Split.load(dataset)
    assert (again.parts == split.parts).all() and (again.labelled == split.labelled).all() and again.counts == split.counts
    meta = json.loads((Path(dataset.path.uri) / "split/split.json").read_text())
    assert meta["fingerprint"] == "page-1" and meta["dataset"] == dataset.digest
    with pytest.raises(DataError, match="no part 'tets'"):
        split.rows("tets")


def test_stratified_by_any_positive(make_dataset: Make) -> None:
    table = frame(200, 1)
    table["y"] = ["1"] * 20 + ["0"] * 180
    split = prepare(make_dataset(table))
    assert [split.counts[part]["positive"] for part in PARTS] == [12, 2, 2, 4]
    assert [split.counts[part]["cases"] for part in PARTS] == [120, 20, 20, 40]


def test_unknown_patients_are_cases(make_dataset: Make) -> None:
    table = frame(100, 2)
    table["patient_id"] = None
    split = prepare(make_dataset(table))
    assert [split.counts[part]["patients"] for part in PARTS] == [120, 20, 20, 40]


def test_the_first_split_stays(make_dataset: Make) -> None:
    dataset = make_dataset(frame())
    first = prepare(dataset)
    bytes_before = (dataset.path / "split/split.parquet").read_bytes()
    with pytest.raises(OutputError, match=r"another page \(changed: split\)") as caught:
        prepare(dataset, split=SplitOptions(seed=1), fingerprint="page-2")
    assert "--fresh" in str(caught.value)
    with pytest.raises(OutputError, match="another block did"):
        prepare(dataset, fingerprint="page-3")
    assert (dataset.path / "split/split.parquet").read_bytes() == bytes_before
    testlog.open_test(dataset, job="compare", why="look")
    other = prepare(dataset, split=SplitOptions(seed=1), fingerprint="page-2", fresh=True)
    assert (other.parts != first.parts).any() and testlog.times_opened(dataset) == 1
    assert (prepare(dataset, split=SplitOptions(seed=1), fingerprint="page-2").parts == other.parts).all()


def test_a_dataset_made_again_is_another_one(make_dataset: Make) -> None:
    dataset = make_dataset(frame())
    prepare(dataset)
    record = json.loads((dataset.path / "record.json").read_text())
    (dataset.path / "record.json").replace(json.dumps({**record, "digest": "f" * 64}).encode())
    with pytest.raises(OutputError, match="ingested again"):
        prepare(Dataset.open(dataset.path))
    with pytest.raises(OutputError, match="ingested again"):
        Split.load(Dataset.open(dataset.path))


def test_damage_is_seen_and_healed_by_fresh(make_dataset: Make) -> None:
    dataset = make_dataset(frame())
    with pytest.raises(DataError, match="no split yet"):
        Split.load(dataset)
    first = prepare(dataset)
    other = prepare(make_dataset(frame(seed=5)))
    path = dataset.path / "split/split.parquet"
    path.replace((other_path(other, make_dataset)).read_bytes())
    with pytest.raises(DataError, match="split.parquet is not the one"):
        prepare(dataset)
    assert (prepare(dataset, fresh=True).parts == first.parts).all()


def other_path(split: Split, make: Make) -> Any:
    dataset = make(frame(seed=6))
    prepare(dataset)
    return dataset.path / "split/split.parquet"


def test_a_parquet_left_by_a_dead_job_is_replaced(make_dataset: Make) -> None:
    dataset = make_dataset(frame())
    (dataset.path / "split/split.parquet").replace(b"torn")
    assert (prepare(dataset).parts == Split.load(dataset).parts).all()


def test_by_site_and_by_column(make_dataset: Make) -> None:
    parts = {"train": ["north", "south"], "calibrate": ["east"], "test": ["west"]}
    options = SplitOptions.model_validate({"by": "site", "parts": parts, "carve": {"validate": {"from": "train", "share": 0.25}}})
    dataset = make_dataset(frame())
    split = prepare(dataset, split=options, case=CaseOptions(id="id", patient="who", site="site"))
    assert [split.counts[part]["patients"] for part in PARTS] == [38, 12, 25, 25]  # 0.25 of 50: 12 or 13
    assert parts_by_patient(dataset, split).max() == 1
    with pytest.raises(DataError, match=r"belong to no part: 'west' \(75 cases\)"):
        prepare(
            make_dataset(frame()),
            split=column_split(
                parts={"train": "north", "validate": "south", "test": "east"}, carve={"calibrate": {"from": "train", "share": 0.5}}
            ),
        )


SITES = {"train": "north", "validate": "south", "calibrate": "east", "test": "west"}


def column_split(**more: Any) -> SplitOptions:
    return SplitOptions.model_validate({"by": "column", "column": "site", "parts": SITES, **more})


def test_a_value_of_the_column_missing_or_given_twice(make_dataset: Make) -> None:
    table = frame()
    table.loc[:4, "site"] = None
    with pytest.raises(DataError, match="5 cases have no value in 'site'"):
        prepare(make_dataset(table), split=column_split())
    with pytest.raises(RecipeError, match="given to train and to test"):
        prepare(make_dataset(frame()), split=column_split(parts={**SITES, "test": ["west", "north"]}))
    with pytest.raises(RecipeError, match="did you mean 'site'"):
        prepare(make_dataset(frame()), split=column_split(column="sites"))


@pytest.mark.parametrize(
    "carve",
    [
        {"test": {"from": "train", "share": 0.1}},
        {"calibrate": {"from": "validate", "share": 0.1}, "validate": {"from": "train", "share": 0.1}},
        {"calibrate": {"from": "train", "share": 0.6}, "validate": {"from": "train", "share": 0.5}},
    ],
)
def test_carvings_that_contradict_the_page(carve: dict[str, Any]) -> None:
    parts: dict[str, Any] = {"train": "north", "test": ["west", "south", "east"]}
    if "validate" not in carve:
        parts |= {"validate": "south", "calibrate": "east", "test": "west"}
    with pytest.raises(ValueError, match="carve"):
        column_split(parts=parts, carve=carve)


def test_patients_across_parts_are_refused(make_dataset: Make) -> None:
    table = frame(40, 4)
    table["site"] = ["north", "south", "east", "west"] * 40
    with pytest.raises(LeakError, match=r"40 of 40 test cases \(100.0%\)") as caught:
        prepare(make_dataset(table), split=column_split())
    assert "by: patient" in str(caught.value) and caught.value.exit_code == 3


def test_by_time_each_patient_stays_on_one_side(make_dataset: Make) -> None:
    table = frame(200, 3)
    dataset = make_dataset(table)
    starts = {"train": "2020-02-01", "validate": "2021-06-01", "calibrate": "2021-10-01", "test": "2022-02-01T00:00:00+01:00"}
    split = prepare(dataset, split=SplitOptions.model_validate({"by": "time", "parts": starts}))
    assert parts_by_patient(dataset, split).max() == 1
    test = table.predict_at >= pd.Timestamp("2022-01-31T23:00Z")
    assert ((split.parts == "test") == test).all()  # the latest part keeps all its cases
    early = table.predict_at < pd.Timestamp("2020-02-01", tz="UTC")
    straddling = int((split.parts == "dropped").sum()) - int(early.sum())
    assert straddling > 0
    assert split.messages[0] == f"{int(early.sum())} cases lie before the first part begins: dropped"
    assert split.messages[1].startswith(f"{straddling} cases dropped: their patients come again")


def test_by_time_reads_dates_in_the_zone_of_the_cases(make_dataset: Make) -> None:
    table = frame(100, 1)
    table.loc[0, "predict_at"] = pd.Timestamp("2022-01-31T23:30Z")
    starts = {"train": "2020-01-01", "validate": "2021-06-01", "calibrate": "2021-10-01", "test": "2022-02-01"}
    options = SplitOptions.model_validate({"by": "time", "parts": starts})
    assert prepare(make_dataset(table), split=options).parts[0] == "calibrate"
    berlin = CaseOptions(id="id", patient="who", zone="Europe/Berlin")
    assert prepare(make_dataset(table), split=options, case=berlin).parts[0] == "test"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"test": "2020-01-01"}, "same instant"),
        ({"test": ["2022-01-01", "2023-01-01"]}, "one instant"),
        ({"test": "soon"}, "not a date"),
    ],
)
def test_by_time_bad_instants(make_dataset: Make, change: dict[str, Any], told: str) -> None:
    starts = {"train": "2020-01-01", "validate": "2021-06-01", "calibrate": "2021-10-01", "test": "2022-02-01", **change}
    with pytest.raises(RecipeError, match=told):
        prepare(make_dataset(frame()), split=SplitOptions.model_validate({"by": "time", "parts": starts}))


def test_by_time_without_a_time(make_dataset: Make) -> None:
    table = frame()
    table.loc[:2, "predict_at"] = pd.NaT
    starts = {"train": "2020-01-01", "validate": "2021-06-01", "calibrate": "2021-10-01", "test": "2022-02-01"}
    with pytest.raises(DataError, match="3 cases have no predict_at"):
        prepare(make_dataset(table), split=SplitOptions.model_validate({"by": "time", "parts": starts}))


def test_parts_without_labels_or_with_one_class(make_dataset: Make) -> None:
    table = frame(40, 1)
    table["y"] = "0"
    with pytest.raises(DataError, match="train has one class only: 0 of 10"):
        prepare(make_dataset(table), split=column_split())
    table = frame(40, 1)
    table.loc[table.site == "west", "y"] = None
    with pytest.raises(DataError, match="test has no labelled case"):
        prepare(make_dataset(table), split=column_split())
    table = frame(80, 1, seed=1)
    table.loc[table.site == "south", "y"] = "0"
    messages = prepare(make_dataset(table), split=column_split()).messages
    assert "the part validate has one class only: 0 of 20 labelled cases are '1'" in messages


def test_multiclass_without_a_class_in_train_says_so(make_dataset: Make) -> None:
    table = frame(80, 1)
    table["y"] = table.y.fillna("0")
    target = TargetOptions(kind="multiclass", column="y", classes=("0", "1", "2"))
    assert "train has no labelled case of '2'" in " ".join(prepare(make_dataset(table), target=target).messages)


def test_nothing_is_written_when_a_check_refuses(make_dataset: Make) -> None:
    table = frame(40, 4)
    table["site"] = ["north", "south", "east", "west"] * 40
    dataset = make_dataset(table)
    with pytest.raises(LeakError):
        prepare(dataset, split=column_split())
    assert not (dataset.path / "split/split.parquet").exists()


def test_a_split_by_time_leaves_a_gap_of_the_horizon(make_dataset: Make) -> None:
    table = frame(patients=300, visits=1)
    cuts = {"train": "2020-01-01", "validate": "2021-01-01", "calibrate": "2021-06-01", "test": "2021-12-01"}
    case = CaseOptions(id="id", patient="who", predict_at="when")
    asked = {"kind": "binary", "column": "y", "positive": ["1"], "negative": ["0"]}
    split = SplitOptions.model_validate({"by": "time", "parts": cuts})
    whole = prepare(make_dataset(table), case=case, split=split)
    gap = prepare(make_dataset(table), case=case, split=split, target=TargetOptions.model_validate({**asked, "horizon": "30d"}))
    decided = table.predict_at.to_numpy("datetime64[us]")
    near = np.zeros(len(table), bool)
    for start in list(cuts.values())[1:]:
        begin = np.datetime64(start, "us")
        near |= (decided < begin) & (decided > begin - np.timedelta64(30, "D"))
    assert near.sum() > 10 and not (whole.parts == "dropped").any()
    assert (gap.parts[near] == "dropped").all() and (gap.parts[~near] == whole.parts[~near]).all()
    assert any("horizon reaches into the next part" in message for message in gap.messages)

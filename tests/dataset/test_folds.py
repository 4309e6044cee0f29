"""Folds: whole patients, spread evenly, the same whatever the order of rows; copies and patients never face each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meddx.dataset import checks
from meddx.dataset.folds import inner_parts
from meddx.dataset.open import Dataset
from meddx.dataset.options import CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.dataset.split import Split, prepare_split
from meddx.errors import DataError, LeakError
from meddx.ingest.options import CaseOptions
from meddx.inputs.options import TableInput, TextInput

Make = Callable[..., Dataset]


def frame(patients: int = 60, visits: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(patients), visits)
    ids = [f"c{i}" for i in range(len(who))]
    return pd.DataFrame({
        "case_id": ids, "patient_id": [f"p{i}" for i in who], "x": rng.normal(size=len(who)),
        "hospital": np.array(["a", "b", "c"])[who % 3], "y": np.where(who % 4 == 0, "1", "0"),
        "note": [f"{i} was seen today and told to come again in a week, all is well" for i in ids],
    })  # fmt: skip


def prepare(dataset: Dataset, split: SplitOptions, **more: object) -> Split:
    options: dict[str, object] = {
        "case": CaseOptions(id="id", patient="who", site="hospital"),
        "cohort": CohortOptions(),
        "target": TargetOptions(kind="binary", column="y", positive=("1",), negative=("0",)),
        "split": split,
        "timing": TimingOptions(),
        "inputs": {"table": TableInput(columns=("x",))},
        "never_inputs": ["y"],
        "fingerprint": "page",
        **more,
    }
    return prepare_split(dataset, **options)  # type: ignore[arg-type]


def test_folds_hold_whole_patients_and_both_classes_in_proportion(make_dataset: Make) -> None:
    table = frame()
    split = prepare(make_dataset(table), SplitOptions(folds=5, repeats=3))
    assert split.folds is not None and split.folds.shape == (120, 3)
    for repeat in split.folds.T:
        assert np.bincount(repeat).tolist() == [24] * 5
        assert pd.Series(repeat).groupby(table.patient_id).nunique().max() == 1
        positives = [int((table.y[repeat == fold] == "1").sum()) for fold in range(5)]
        assert positives == [6] * 5
    assert len({tuple(repeat) for repeat in split.folds.T}) == 3, "each repeat is dealt anew"
    assert set(split.parts) == {"train"}


def test_the_order_of_rows_changes_nobodys_fold(make_dataset: Make) -> None:
    table = frame()
    first = prepare(make_dataset(table), SplitOptions(folds=4))
    turned = prepare(make_dataset(table[::-1].reset_index(drop=True)), SplitOptions(folds=4))
    assert first.folds is not None and turned.folds is not None
    assert dict(zip(first.case_ids, first.folds[:, 0], strict=True)) == dict(zip(turned.case_ids, turned.folds[:, 0], strict=True))


def test_written_out_folds_and_values_that_are_in_none(make_dataset: Make) -> None:
    table = frame()
    split = prepare(make_dataset(table), SplitOptions(by="site", folds={"one": ("a",), "two": ("b", "c")}))
    assert split.folds is not None
    assert split.folds[:, 0].tolist() == [0 if one == "a" else 1 for one in table.hospital]
    with pytest.raises(DataError, match="belong to no fold"):
        prepare(make_dataset(table), SplitOptions(by="site", folds={"one": ("a",), "two": ("b",)}))


def test_a_patient_in_two_written_folds_is_refused(make_dataset: Make) -> None:
    table = frame()
    table.loc[1, "hospital"] = "b"  # the second visit of the first patient
    with pytest.raises(LeakError, match="more than one fold"):
        prepare(make_dataset(table), SplitOptions(by="site", folds={"one": ("a",), "two": ("b", "c")}))


@pytest.mark.parametrize("protected", [True, False])
def test_a_copied_note_never_faces_its_copy(make_dataset: Make, monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    table = frame()
    table.loc[7, "note"] = table.loc[100, "note"]
    if not protected:
        monkeypatch.setattr(checks, "copies_across_parts", lambda *_, **__: [])
    inputs = {"note": TextInput(kind="text", column="note")}
    split = prepare(make_dataset(table), SplitOptions(folds=5), inputs=inputs)
    assert split.folds is not None
    kept = table.note[split.folds[:, 0] >= 0]
    assert kept.is_unique == protected
    assert (split.parts == "dropped").sum() == (1 if protected else 0)


def test_short_equal_texts_are_no_copies(make_dataset: Make) -> None:
    table = frame()
    table["note"] = "no complaints"
    split = prepare(make_dataset(table), SplitOptions(folds=5), inputs={"note": TextInput(kind="text", column="note")})
    assert (split.parts == "train").all()


def test_inner_parts_share_no_patient_and_depend_on_the_turn() -> None:
    patients = np.arange(40).repeat(2)
    keys = np.array([f"p{i}" for i in range(40)], dtype=object)
    strata = np.arange(40) % 2
    rows = np.arange(60)
    train, validate = inner_parts(keys, patients, strata, rows, 0.2, 0, "0 0")
    assert sorted([*train, *validate]) == rows.tolist() and len(validate) == 12
    assert not set(patients[train]) & set(patients[validate])
    assert inner_parts(keys, patients, strata, rows, 0.2, 0, "0 1")[1].tolist() != validate.tolist()


@pytest.mark.parametrize(
    "page",
    [
        {"folds": 1}, {"folds": 5, "by": "site"}, {"folds": {"one": ["a"]}, "by": "site"},
        {"folds": {"one": ["a"], "two": ["a"]}, "by": "site"},
        {"folds": 5, "parts": {"train": 1.0}}, {"folds": {"one": ["a"], "two": ["b"]}, "by": "site", "repeats": 2},
    ],
)  # fmt: skip
def test_pages_that_make_no_sense_are_refused(page: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="folds"):
        SplitOptions.model_validate(page)

"""The single-column screen: what it finds, what it lets pass, and what it must miss on real data."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from meddx.dataset.columns import table_columns
from meddx.dataset.open import Dataset
from meddx.dataset.options import CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.dataset.screen import FOLDS, SMOOTHING, oof_auroc, screen
from meddx.dataset.split import Split, prepare_split
from meddx.dataset.target import Labels
from meddx.errors import LeakError
from meddx.ingest.options import CaseOptions
from meddx.inputs.options import TableInput

LEAKS = ("death", "d.time", "slos", "charges", "totcst", "totmcst", "avtisst", "sfdm2", "dnr", "dnrday")


def labels_of(truth: np.ndarray) -> Labels:
    return Labels(truth.astype(np.float32), np.ones(len(truth), dtype=bool))


def scores(n: int = 2000, seed: int = 0, **columns: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.2
    table = pa.table({name: make(rng, truth) for name, make in columns.items()})
    folds = np.arange(n) % FOLDS
    named = [(name, table.column(name)) for name in table.schema.names]
    return {one.column: one for one in screen(named, labels_of(truth), "binary", folds)}


def test_noise_leaks_and_missingness() -> None:
    found = scores(
        noise=lambda rng, y: rng.normal(size=len(y)),
        ids=lambda rng, y: [str(i) for i in range(len(y))],
        leak=lambda rng, y: y + rng.normal(size=len(y)) * 0.1,
        hump=lambda rng, y: np.where(y, rng.normal(size=len(y)) * 0.01, rng.choice([-1, 1], len(y)) * (1 + rng.random(len(y)))),
        code=lambda rng, y: np.where(y, rng.choice(["a", "b"], len(y)), rng.choice(["c", "d"], len(y))),
        gone=lambda rng, y: [None if one else 1.0 for one in y],
        gone_text=lambda rng, y: ["x" if one else None for one in y],
        constant=lambda rng, y: [1.0] * len(y),
        day=lambda rng, y: np.datetime64("2020-01-01", "us") + np.where(y, 1000, 0) * 86_400_000_000 + rng.integers(0, 10**9, len(y)),
        nothing=lambda rng, y: pa.nulls(len(y)),
    )
    assert 0.4 < found["noise"].auroc < 0.6 and abs(found["ids"].auroc - 0.5) < 0.02
    for name in ("leak", "hump", "code", "day"):
        assert found[name].auroc > 0.99 and found[name].missing_auroc == 0.5
    assert found["gone"].missing_auroc > 0.99 and found["gone_text"].missing_auroc > 0.99
    assert 0.4 < found["constant"].auroc <= 0.5 and 0.4 < found["nothing"].auroc <= 0.5


def test_agrees_with_a_slow_plain_computation() -> None:
    rng = np.random.default_rng(3)
    truth, folds = rng.random(500) < 0.3, rng.integers(0, FOLDS, 500)
    codes = (truth * 2 + rng.integers(0, 6, 500)).astype(np.int64)
    score = np.zeros(500)
    for i in range(500):
        others = (folds != folds[i]) & (codes == codes[i])
        score[i] = (truth[others].sum() + SMOOTHING * truth.mean()) / (others.sum() + SMOOTHING)
    assert oof_auroc(codes, truth, folds) == pytest.approx(roc_auc_score(truth, np.round(score, 12)), abs=1e-12)


def test_multiclass_and_multilabel_take_the_highest() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 900)
    column = pa.chunked_array([pa.array((classes == 2) + rng.normal(size=900) * 0.05)])
    folds = np.arange(900) % FOLDS
    assert screen([("c", column)], Labels(classes, np.ones(900, dtype=bool)), "multiclass", folds)[0].auroc > 0.98
    many = np.stack([rng.random(900) < 0.5, classes == 2], axis=1).astype(np.float32)
    known = np.stack([np.ones(900, dtype=bool), rng.random(900) < 0.5], axis=1)
    assert screen([("c", column)], Labels(many, known), "multilabel", folds)[0].auroc > 0.98
    assert screen([("c", column)], Labels(many[:, 1], np.arange(900) < 9), "binary", folds) == []  # too few to say anything


def leaky(columns: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = rng.random(500) < 0.4
    table = pd.DataFrame({f"g{i}": rng.normal(size=500) for i in range(columns)})
    table["g_last"] = truth + rng.normal(size=500) * 0.1
    table["x"] = rng.normal(size=500)
    table.insert(0, "patient_id", [str(i) for i in range(500)])
    table.insert(0, "case_id", table.patient_id)
    return table.assign(y=np.where(truth, "1", "0"))


def run(dataset: Dataset, inputs: TableInput, timing: TimingOptions | None = None, column: str = "y") -> Split:
    return prepare_split(
        dataset,
        case=CaseOptions(id="id", patient="who"),
        cohort=CohortOptions(),
        split=SplitOptions(),
        target=TargetOptions(kind="binary", column=column, positive=("1",), negative=("0",)),
        timing=timing or TimingOptions(),
        inputs={"table": inputs},
        never_inputs=[column],
        fingerprint="x",
    )


def test_above_098_is_refused_unless_declared_or_wide(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(LeakError, match="g_last") as caught:
        run(make_dataset(leaky()), TableInput())
    assert "known_at" in str(caught.value) and "after_outcome: ['g_last']" in str(caught.value)
    declared = run(make_dataset(leaky()), TableInput(), TimingOptions(known_at={"g_*": "measured at entry"}))
    assert declared.screened[0]["column"] == "g_last" and declared.screened[0]["declared"]
    assert "1 column(s) alone reach an AUROC above 0.90" in declared.messages[0]
    assert run(make_dataset(leaky()), TableInput(), TimingOptions(after_outcome=("g_last",))).messages == []
    assert run(make_dataset(leaky(60)), TableInput(columns=("g*", "x"))).screened[0]["wide"]
    with pytest.raises(LeakError):
        run(make_dataset(leaky(60)), TableInput(columns=("*",)))


def test_support2_the_screen_alone_misses_all_ten_leaks(make_dataset: Callable[..., Dataset], shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "support2/support2.csv")
    table.insert(0, "patient_id", table.pop("sno").astype(str))
    table.insert(0, "case_id", table.patient_id)
    dataset = make_dataset(table)
    split = run(dataset, TableInput(), column="hospdead")  # not refused: the screen is not enough
    found = {one["column"]: max(one["auroc"], one["missing_auroc"]) for one in split.screened}
    assert set(LEAKS) <= set(found) and max(found[name] for name in LEAKS) < 0.98
    assert sum(found[name] > 0.90 for name in LEAKS) == 2 and "d.time 0.970, sfdm2 0.927" in split.messages[0]
    declared = table_columns(TableInput(), dataset.schema, after_outcome=LEAKS, never=["hospdead"])
    assert not set(LEAKS) & set(declared) and len(declared) == len(found) - 10
    with pytest.raises(LeakError, match="'d.time'"):
        table_columns(TableInput(columns=("age", "d.time")), dataset.schema, after_outcome=LEAKS, never=["hospdead"])


def test_fast_enough_for_80_000_by_45() -> None:
    rng = np.random.default_rng(0)
    truth, folds = rng.random(80_000) < 0.1, rng.integers(0, FOLDS, 80_000)
    values = [rng.normal(size=80_000) if i % 2 else rng.integers(0, 500, 80_000).astype(str) for i in range(45)]
    made = [(f"c{i}", pa.chunked_array([pa.array(one)])) for i, one in enumerate(values)]
    start = time.perf_counter()
    assert len(screen(made, labels_of(truth), "binary", folds)) == 45
    assert time.perf_counter() - start < 5

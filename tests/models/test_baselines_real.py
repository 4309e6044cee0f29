"""Baselines on real text and real measurements over time: as strong as what is published, or the network's table lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meddx.inputs.types import Prepared
from meddx.models.baselines import baseline_logits, fit_baseline
from meddx.models.options import BaselineOptions
from meddx.models.search import group_folds

pytestmark = pytest.mark.slow


class Known:
    def __init__(self, values: np.ndarray) -> None:
        self.values, self.known = values, np.ones(len(values), bool)


def test_dialogues_are_sorted_into_sections(shared_data: Any) -> None:
    """MTS-Dialog, 20 sections, a fifth held out: TF-IDF with a linear model reaches an accuracy of at least .67."""
    import pandas as pd
    import pyarrow as pa

    from meddx.inputs.options import TextInput
    from meddx.inputs.prepare import fit

    frame = pd.read_csv(shared_data / "mts_dialog/MTS-Dialog-TrainingSet.csv")
    classes, labels = np.unique(frame["section_header"], return_inverse=True)
    head = {"kind": "multiclass", "classes": classes.tolist()}
    table = pa.Table.from_pandas(frame[["dialogue"]])
    fold = group_folds(labels, None, 5, seed=0)
    train, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    made = fit({"text": TextInput(kind="text", column="dialogue")}, {}, table.take(train))
    model = fit_baseline(
        BaselineOptions(kind="logistic"), made.specs(), made.transform(table.take(train)), Known(labels[train]), head, seed=0
    )
    found = baseline_logits(model, head, made.specs(), made.transform(table.take(test)))
    assert (found.argmax(1) == labels[test]).mean() > 0.70


def test_deaths_in_intensive_care_are_ranked_from_summaries(shared_data: Any) -> None:
    """PhysioNet 2012, fitted on set a, asked on set b: the winners' logistic regressions reached an AUROC of about .85."""
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    from meddx.inputs.summary import summarise, summary_names

    def stays(part: str) -> tuple[dict[str, Prepared], np.ndarray]:
        long = pd.read_parquet(shared_data / f"physionet2012/set-{part}.parquet")
        outcomes = pd.read_csv(shared_data / f"physionet2012/Outcomes-{part}.txt")
        long = long[(long["value"] != -1) & long["parameter"].isin(names)].sort_values(["record_id", "minute"], kind="stable")
        case = pd.Index(outcomes["RecordID"]).get_indexer(long["record_id"])
        order = np.argsort(case, kind="stable")
        summary = summarise(
            case[order],
            np.searchsorted(names, long["parameter"].to_numpy(str))[order],
            (long["minute"].to_numpy(float) / 60 - 48)[order],
            long["value"].to_numpy(float)[order],
            len(outcomes),
            len(names),
        )
        made = Prepared({"values": np.zeros((len(outcomes), 1, 1), np.float32)}, np.ones(len(outcomes), bool), {}, {"summary": summary})
        return {"labs": made}, outcomes["In-hospital_death"].to_numpy(np.float32)

    names = sorted(set(pd.read_parquet(shared_data / "physionet2012/set-a.parquet")["parameter"]) - {"RecordID"})
    specs = {"labs": {"kind": "events", "steps": 1, "variables": len(names), "summary_names": summary_names(names)}}
    head = {"kind": "binary", "classes": ["no", "yes"]}
    train, labels = stays("a")
    test, truth = stays("b")
    model = fit_baseline(BaselineOptions(kind="logistic"), specs, train, Known(labels), head, seed=0)
    assert roc_auc_score(truth, baseline_logits(model, head, specs, test)[:, 0]) > 0.84

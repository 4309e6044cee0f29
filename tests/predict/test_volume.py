"""A bundle on volumes: its contract, a bad row beside good ones, and a row alone as among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pytest
from predict_helper import HEADS, network_parts

from meddx.dataset.options import CohortOptions
from meddx.inputs.options import VolumeInput
from meddx.inputs.prepare import fit
from meddx.predict.bundle import Bundle, write_bundle
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


def scan(seed: int) -> bytes:
    values = np.random.default_rng(seed).integers(-1000, 400, (9, 8, 7 + seed % 3)).astype(np.int16)
    return bytes(nibabel.Nifti1Image(values, np.diag([-1.0, 1, 2.5, 1])).to_bytes())


def bundle_of(folder: Path, table: pa.Table, kind: str, **options: Any) -> Bundle:
    volume = VolumeInput.model_validate({"kind": "volume", "size": [6, 8, 8], "window": [-1000, 400], **options})
    preparations = fit({"ct": volume}, {}, table)
    path = StoragePath.of(folder / "bundle")
    write_bundle(
        path, name="net", head=HEADS["binary"], preparations=preparations, predictor=network_parts(preparations, HEADS["binary"], kind),
        calibration={"kind": "none"}, threshold={"value": 0.5}, cohort=CohortOptions(), target={}, about={},
    )  # fmt: skip
    return Bundle.load(path)


@pytest.mark.parametrize("kind", ["cnn", "slices"])
def test_a_volume_scores_alone_as_among_others(tmp_path: Path, kind: str) -> None:
    volumes = [scan(seed) for seed in range(9)]
    volumes[4] = volumes[4][:-1]
    table = pa.table({"case_id": [str(one) for one in range(9)], "volume": pa.array(volumes, pa.binary())})
    bundle = bundle_of(tmp_path, table, kind, spacing=[2.5, 1, 1])
    everything = bundle.predict(table)
    assert everything["error"].to_pylist() == [None] * 4 + ["volume_unreadable"] + [None] * 4
    assert len(set(everything["probability"].drop_null().to_pylist())) == 8
    for rows in ([0], [8], [7, 4, 1]):
        assert bundle.predict(table.take(rows)).equals(everything.take(rows))  # to the last bit
    (column,) = bundle.contract
    assert column.model_dump(exclude_none=True) == {
        "name": "volume", "use": "volume", "required": True, "input": "ct", "shape": (6, 8, 8), "channels": 1,
        "missing": "refused",
    }  # fmt: skip


def test_the_contract_of_a_joined_source_says_which_volume_counts(tmp_path: Path) -> None:
    rows = pa.list_(pa.struct([("@time", pa.float64()), ("volume", pa.binary())]))
    cases = [[{"@time": -2.0, "volume": scan(case)}, {"@time": -1.0, "volume": scan(case + 50)}] for case in range(5)]
    table = pa.table({"case_id": list("abcde"), "scans": pa.array(cases, rows)})
    bundle = bundle_of(tmp_path, table, "cnn", **{"from": "scans", "many": "latest"})
    (column,) = bundle.contract
    assert (column.name, column.joined, column.fields, column.many) == ("scans", True, ("volume",), "latest")
    last = pa.table({"case_id": list("abcde"), "scans": pa.array([case[1:] for case in cases], rows)})
    assert bundle.predict(table).equals(bundle.predict(last))

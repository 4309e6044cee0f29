"""Volumes and films from files to a verdict; what is broken is quarantined with its reason, and the books balance."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from meddx.cli import main
from meddx.dataset.open import Dataset
from meddx.predict.bundle import Bundle
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow

ALONE = """
name: scans
data:
  path: {0}/scans
  format: nifti
  labels: {{path: {0}/cases.csv, key: scan, match: file_name}}
id: file_stem
patient: who
target: {{kind: binary, column: lesion, positive: ["1"], negative: ["0"]}}
inputs: {{scan: {{kind: volume, size: [8, 12, 12], spacing: [3, 2, 2], window: [0, 100]}}}}
model: {{encoders: {{scan: {{kind: cnn, settings: {{channels: [8, 16]}}}}}}, hidden: 16}}
training: {{epochs: 8, batch: 16, lr: 0.005}}
baselines: [logistic]
scoring: {{max_rejected: 5%}}
comparison: {{bootstrap: 200}}
out: {0}/run
"""

BESIDE = """
name: both
sources:
  cases: {{path: {0}/cases.csv}}
  scans: {{path: {0}/scans, format: nifti, join: {{file_stem: id}}}}
  films: {{path: {0}/films, format: images, join: {{file_stem: id}}}}
case: {{from: cases, id: id, patient: who}}
target: {{kind: binary, column: lesion, positive: ["1"], negative: ["0"]}}
inputs:
  scan: {{from: scans, kind: volume, size: [8, 12, 12], window: [0, 100], optional: true}}
  film: {{from: films, kind: image, size: 16, optional: true}}
model:
  fusion: {{kind: gated, drop_inputs: 0.1, width: 8}}
  hidden: 16
  encoders: {{scan: slices, film: {{kind: cnn, settings: {{channels: [8]}}}}}}
training: {{epochs: 2, batch: 16}}
scoring: {{max_rejected: 5%}}
comparison: {{bootstrap: 200}}
out: {0}/both
"""


def archive(folder: Path, cases: int = 140) -> Path:
    """Scans of 8 x 12 x 12 voxels of 3 x 2 x 2 mm, half of them with a bright block; one says that it is of 3 GB, one is cut short."""
    rng = np.random.default_rng(1)
    ill = rng.random(cases) < 0.5
    for name in ("scans", "films"):
        (folder / name).mkdir()
    for i, bad in enumerate(ill):
        voxels = rng.normal(40, 8, (12, 12, 8))
        if bad:
            x, y, z = rng.integers(2, [8, 8, 6])
            voxels[x : x + 4, y : y + 4, z : z + 2] += 45
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"scans/{i:03d}.nii.gz")
        cv2.imwrite(str(folder / f"films/{i:03d}.png"), rng.integers(0, 255, (20, 20), dtype=np.uint8))
    huge = nibabel.Nifti1Header()
    huge.set_data_dtype(np.float32)
    huge.set_data_shape((1000, 1000, 800))
    huge.set_sform(np.eye(4), 1)
    (folder / "scans/huge.nii").write_bytes(huge.binaryblock + bytes(4) + bytes(1000))
    (folder / "scans/short.nii.gz").write_bytes((folder / "scans/000.nii.gz").read_bytes()[:300])
    frame = {
        "id": [f"{i:03d}" for i in range(cases)],
        "who": np.arange(cases) // 2,
        "scan": [f"{i:03d}.nii.gz" for i in range(cases)],
        "lesion": ill.astype(int),
    }
    pd.DataFrame(frame).to_csv(folder / "cases.csv", index=False)
    (folder / "alone.yaml").write_text(ALONE.format(folder))
    (folder / "both.yaml").write_text(BESIDE.format(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("volumes"))


def test_volumes_from_files_to_a_verdict(folder: Path) -> None:
    assert main(["train", str(folder / "alone.yaml"), "--compare"]) == 0
    found = json.loads((folder / "run/comparison/comparison.json").read_text())
    assert found["primary"]["model_number"]["value"] > 0.8
    kept = pq.read_table(folder / "run/dataset/quarantine").to_pylist()
    assert sorted(one["reason"] for one in kept) == ["volume_too_large", "volume_truncated"]


def test_a_volume_beside_a_film_either_may_be_missing(folder: Path) -> None:
    assert main(["train", str(folder / "both.yaml")]) == 0
    bundle = Bundle.load(folder / "both/bundles/network")
    rows = Dataset.open(StoragePath.of(folder / "both/dataset")).table(["case_id", "scans", "films"]).slice(0, 12)
    whole = bundle.predict(rows).column("probability").to_pylist()
    for name, column in (("scan", "scans"), ("film", "films")):
        hidden = bundle.predict(rows, without=[name])
        assert hidden.column("status").to_pylist() == ["scored"] * 12
        assert hidden.column("probability").to_pylist() == bundle.predict(rows.drop_columns([column])).column("probability").to_pylist()
        assert hidden.column("probability").to_pylist() != whole

"""Folders of pictures, and a small network that looks at them, untrained: its answers are as good as any for comparing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.dataset.options import CohortOptions
from meddx.inputs.options import ImageInput, VolumeInput
from meddx.inputs.prepare import fit
from meddx.predict.bundle import write_bundle
from meddx.storage import StoragePath

sys.path.insert(0, str(Path(__file__).parents[1] / "predict"))

from predict_helper import HEADS, network_parts  # type: ignore[import-not-found]


def encoded(pixels: np.ndarray, ending: str = ".png") -> bytes:
    import cv2

    return bytes(cv2.imencode(ending, pixels)[1].tobytes())


def picture(seed: int, ending: str = ".png", shape: tuple[int, ...] = (18, 20), bits: int = 8) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(rng.uniform(60, 190), 30, shape), 0, 255)
    return encoded((pixels * (257 if bits == 16 else 1)).astype(np.uint16 if bits == 16 else np.uint8), ending)


def bundle_of(path: Path, *, bits: int = 8, kind: str = "image", cohort: Mapping[str, str] | None = None) -> StoragePath:
    if kind == "volume":
        import nibabel

        column = [bytes(nibabel.Nifti1Image(np.full((8, 8, 8), n, np.int16), np.eye(4)).to_bytes()) for n in range(4)]
        wanted: Any = VolumeInput.model_validate({"kind": "volume", "size": [6, 8, 8], "window": [-1000, 400]})
    else:
        column, wanted = [picture(seed, bits=bits) for seed in range(8)], ImageInput(kind="image", size=16)
    preparations = fit({"film": wanted}, {}, pa.table({kind: pa.array(column, pa.binary())}))
    write_bundle(
        StoragePath.of(path), name="net", head=HEADS["binary"], preparations=preparations,
        predictor=network_parts(preparations, HEADS["binary"], "cnn"), calibration={"kind": "none"}, threshold={"value": 0.5},
        cohort=CohortOptions(keep=dict(cohort or {})), target={}, about={},
    )  # fmt: skip
    return StoragePath.of(path)


def pixel_bundle(path: Path) -> StoragePath:
    """A logistic regression on pixels: quick, so that a test of many files spends its time with files."""
    from meddx.dataset.target import Labels
    from meddx.models.baselines import fit_baseline
    from meddx.models.options import BaselineOptions
    from meddx.predict.estimators import EstimatorParts

    table = pa.table({"image": pa.array([picture(seed) for seed in range(20)], pa.binary())})
    preparations = fit({"film": ImageInput(kind="image", size=8)}, {}, table)
    labels = Labels((np.arange(20) % 2).astype(np.float32), np.ones(20, bool))
    options = BaselineOptions(kind="logistic")
    estimator = fit_baseline(options, preparations.specs(), preparations.transform(table), labels, HEADS["binary"], seed=0)
    write_bundle(
        StoragePath.of(path), name="pixels", head=HEADS["binary"], preparations=preparations,
        predictor=EstimatorParts("logistic", estimator), calibration={"kind": "none"},
        threshold={"value": 0.5}, cohort=CohortOptions(), target={}, about={},
    )  # fmt: skip
    return StoragePath.of(path)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder

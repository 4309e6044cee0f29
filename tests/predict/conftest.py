"""Small trained bundles on synthetic cases: one network and one baseline for each kind of answer, one for pictures."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from predict_helper import HEADS, network_parts

from meddx.dataset.options import CohortOptions
from meddx.dataset.target import Labels
from meddx.inputs.options import ImageInput, TableInput
from meddx.inputs.prepare import Preparations, fit
from meddx.models.options import BaselineOptions, EncoderOptions, ModelOptions
from meddx.predict.bundle import write_bundle
from meddx.predict.calibrate import apply_calibration, fit_calibration
from meddx.predict.engine import estimator_logits, network_logits, plan_for
from meddx.predict.estimators import EstimatorParts
from meddx.predict.options import ThresholdOptions
from meddx.predict.threshold import choose_thresholds
from meddx.storage import StoragePath

TARGET = {"multilabel": {"negative": ["0"], "positive": ["1"]}}


def png(pixels: np.ndarray) -> bytes:
    """uint8 [h, w] as an 8-bit grey PNG, written by hand: no decoder's library in the tests of tables."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="session")
def patients() -> pa.Table:
    """300 cases: two numbers (one with gaps), a category, a picture; labels of three kinds; ids."""
    rng = np.random.default_rng(0)
    n = 300
    size, texture = rng.normal(size=n), rng.normal(size=n)
    sick = (size + 0.5 * texture + rng.normal(size=n) > 0).astype(int)
    pictures = [np.clip(rng.normal(90 + 40 * one, 30, (16, 16)), 0, 255).astype(np.uint8) for one in sick]
    return pa.table({
        "case_id": [f"c{place:04d}" for place in range(n)],
        "patient_id": [f"p{place // 2:04d}" for place in range(n)],
        "size": size,
        "texture": pa.array([None if place % 11 == 0 else float(one) for place, one in enumerate(texture)]),
        "age": np.round(rng.uniform(10, 90, n)),
        "site": rng.choice(["north", "south", "east"], n).tolist(),
        "image": [png(one) for one in pictures],
        "label": sick,
        "grade": np.digitize(size, [-0.5, 0.5]),
    })  # fmt: skip


def labels_of(kind: str, table: pa.Table) -> Labels:
    sick, grade = table["label"].to_numpy(), table["grade"].to_numpy()
    values = {
        "binary": sick.astype(np.float32),
        "multiclass": grade,
        "multilabel": np.stack([sick, grade == 2], 1).astype(np.float32),
        "ordinal": grade,
        "regression": 50 + 20 * table["size"].to_numpy(),
    }[kind]
    return Labels(values, np.ones(values.shape, bool))


def parts_and_logits(predictor: str, preparations: Preparations, head: dict[str, Any], table: pa.Table) -> tuple[Any, np.ndarray]:
    from meddx.models.build import build_model

    prepared = preparations.transform(table)
    plan = plan_for(preparations.specs(), None if predictor in ("mlp", "cnn") else predictor)
    if predictor in ("mlp", "cnn"):
        parts = network_parts(preparations, head, predictor)
        model = build_model(
            ModelOptions(hidden=16),
            {name: EncoderOptions.model_validate(one) for name, one in parts.encoders.items()},
            preparations.specs(),
            head,
        )
        model.load_state_dict(parts.weights)
        return parts, network_logits(model, prepared, plan)
    from meddx.models.baselines import fit_baseline

    labels = labels_of(head["kind"], table)
    estimator = fit_baseline(BaselineOptions(kind=predictor, trials=1), preparations.specs(), prepared, labels, head, seed=0, groups=None)
    return EstimatorParts(predictor, estimator), estimator_logits(estimator, head, preparations.specs(), prepared, plan)


Maker = Callable[..., StoragePath]


@pytest.fixture(scope="session")
def make_bundle(patients: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """make(predictor, kind, cohort, optional) -> path of a new bundle; predictor mlp, cnn, or a baseline's kind."""

    def make(
        predictor: str = "logistic", kind: str = "binary", *, cohort: CohortOptions | None = None, optional: bool = False, **more: Any
    ) -> StoragePath:
        head = HEADS[kind]
        if predictor == "cnn":
            inputs: Any = {"film": ImageInput(kind="image", size=16)}
            preparations = fit(inputs, {}, patients)
        else:
            inputs = {"table": TableInput(optional=optional)}
            preparations = fit(inputs, {"table": ["size", "texture", "site"]}, patients)
        parts, logits = parts_and_logits(predictor, preparations, head, patients)
        labels = labels_of(kind, patients)
        calibration = fit_calibration(None, head, logits, labels)
        threshold = choose_thresholds(ThresholdOptions(), head, apply_calibration(calibration, head, logits), labels)
        path = StoragePath.of(tmp_path_factory.mktemp("bundles") / f"{predictor}-{kind}")
        write_bundle(
            path, name=predictor, head=head, preparations=preparations, predictor=parts, calibration=calibration, threshold=threshold,
            cohort=cohort or CohortOptions(), target=TARGET.get(kind, {}), about={"parts": "all of them"}, **more,
        )  # fmt: skip
        return path

    return make

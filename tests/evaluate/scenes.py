"""Small comparisons that several tests look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from meddx.evaluate.options import ComparisonOptions, PrimaryOptions
from meddx.evaluate.types import ModelScores, Truth


def scene(n: int = 300, *, strong: float = 1.6, weak: float = 1.0, seed: int = 0, cases_a_patient: int = 1) -> dict[str, Any]:
    """Calibrated models: `network` sees the outcome more clearly than `logistic` when strong > weak."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.4).astype(np.float32)
    models = {
        name: seen(random, labels, clear, kind) for name, clear, kind in (("logistic", weak, "baseline"), ("network", strong, "network"))
    }
    patients = [f"p{row // cases_a_patient}" for row in range(n)]
    truth = Truth("binary", ("benign", "malignant"), labels, np.ones(n, bool), "diagnosis")
    return {"models": models, "truth": truth, "patients": patients, "options": options(), "train_rates": [0.4]}


def seen(random: np.random.Generator, labels: np.ndarray, clear: float, kind: Any = "network") -> ModelScores:
    """Two normals `clear` apart give logit = clear * x - clear^2 / 2 + prior log-odds: probabilities that are right."""
    signal = clear * labels + random.normal(size=len(labels))
    said = 1 / (1 + np.exp(-(clear * signal - clear**2 / 2 + np.log(0.4 / 0.6))))
    return ModelScores(said, (said >= 0.4).astype(int), kind, threshold={"value": 0.4, "goal": "youden", "confidence": None, "reached": {}})


def options(**primary: Any) -> ComparisonOptions:
    return ComparisonOptions(primary=PrimaryOptions(**{"against": "logistic", **primary}), bootstrap=300)

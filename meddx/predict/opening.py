"""A bundle's checked bytes in, what they hold out: the page, the preparations, the predictor and the baseline beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meddx.errors import BundleError
from meddx.inputs.prepare import Preparations
from meddx.predict.calibrate import n_logits
from meddx.predict.engine import EnginePlan, plan_of_page
from meddx.predict.estimators import MODEL, load_estimator
from meddx.predict.manifest import MANIFEST, Manifest, check_columns, parse_manifest
from meddx.predict.networks import WEIGHTS, check_offset, load_network, placed
from meddx.predict.patterns import check_patterns
from meddx.predict.spans import words_input


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of; `plan`: how its forwards run."""

    page: Manifest
    preparations: Preparations
    predictor: Any
    plan: EnginePlan
    beside: Any = None


def open_parts(
    files: Mapping[str, bytes],
    *,
    allow_code: bool,
    plan: EnginePlan | None = None,
    graph: Callable[[EnginePlan], Any] | None = None,
) -> Parts:
    """Raises BundleError for anything missing, damaged, unknown, or that would run code.

    `plan`: None for the usual one; `graph`: gives the network where the plan has another engine than torch, and the weights are not read.
    """
    if MANIFEST not in files:
        raise BundleError("the bundle has no bundle.json", MANIFEST, "make the bundle again")
    page = parse_manifest(files[MANIFEST])
    needed = [MODEL] if page.kind == "estimator" else [WEIGHTS, *([MODEL] if page.predictor.get("options", {}).get("beside") else [])]
    if missing := [name for name in needed if name not in files]:
        raise BundleError(f"the bundle has no {missing[0]}", missing[0], "make the bundle again")
    preparations = Preparations.from_state(page.inputs)
    check_columns(page, preparations)
    check_patterns(page.calibration, {one.name: one.optional for one in preparations.inputs})
    if page.head.kind == "tags":
        words_input(page.head.page, preparations.specs())
    plan = plan or plan_of_page(preparations.specs(), page.predictor)
    beside = load_estimator(files[MODEL]) if MODEL in needed else None
    if page.kind == "estimator":
        return Parts(page, preparations, beside, plan)
    check_offset(page.predictor, n_logits(page.head.page))
    if plan.engine != "torch" and graph is not None:
        return Parts(page, preparations, graph(plan), plan, beside)
    predictor = load_network(files[WEIGHTS], page.predictor, preparations.specs(), page.head.page, allow_code=allow_code)
    return Parts(page, preparations, placed(predictor, plan.device), plan, beside)

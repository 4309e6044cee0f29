"""A trained model and all that belongs to it in, a bundle's folder out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meddx.dataset.cohort import cohort_columns
from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError
from meddx.inputs.prepare import Preparations
from meddx.predict.estimators import MODEL, EstimatorParts, dump_estimator
from meddx.predict.files import publish
from meddx.predict.manifest import MANIFEST, HeadPage, Manifest, contract, dump_manifest, versions_for
from meddx.predict.networks import WEIGHTS, NetworkParts, dump_weights
from meddx.predict.opening import open_parts
from meddx.storage import StoragePath


def write_bundle(
    path: StoragePath,
    *,
    name: str,
    head: Mapping[str, Any],
    preparations: Preparations,
    predictor: NetworkParts | EstimatorParts,
    calibration: Mapping[str, Any],
    threshold: Mapping[str, Any],
    cohort: CohortOptions,
    target: Mapping[str, Any],
    about: Mapping[str, Any],
    extra: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> str:
    """Write a bundle, whole or not at all; its digest.

    `extra`: files that travel with it and are never parsed (`card.md`).  What was written is opened once before it is
    published, so a bundle that stands can be loaded.  Raises OutputError where another bundle stands, unless `replace`.
    """
    kind = "network" if isinstance(predictor, NetworkParts) else "estimator"
    beside = predictor.beside if isinstance(predictor, NetworkParts) else None
    page = Manifest(
        name=name,
        kind=kind,
        head=HeadPage.model_validate({**head, "classes": tuple(head.get("classes") or ())}),
        columns=contract(preparations, cohort_columns(cohort)),
        inputs=preparations.state(),
        predictor=predictor.page if isinstance(predictor, NetworkParts) else {"kind": predictor.kind},
        calibration=dict(calibration),
        threshold=dict(threshold),
        cohort=cohort,
        target=dict(target),
        about=dict(about),
        versions=versions_for([kind] if beside is None else [kind, "estimator"]),
    )
    files = {MANIFEST: dump_manifest(page), **_content(predictor)}
    open_parts(files, allow_code=True)  # the code of an own encoder has just been trained
    return publish(path, _joined(files, extra or {}), replace=replace)


def _joined(files: Mapping[str, bytes], extra: Mapping[str, bytes]) -> dict[str, bytes]:
    if clash := sorted({*files} & {*extra}):
        raise BundleError(f"an extra file cannot have the name {clash[0]}", MANIFEST)
    return {**files, **extra}


def _content(predictor: NetworkParts | EstimatorParts) -> dict[str, bytes]:
    if isinstance(predictor, NetworkParts):
        beside = {} if predictor.beside is None else {MODEL: dump_estimator(predictor.beside)}
        return {WEIGHTS: dump_weights(predictor.weights), **beside}
    return {MODEL: dump_estimator(predictor.estimator)}

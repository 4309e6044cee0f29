"""The parts of a bundle in, `bundle.json` out, and back: everything about a bundle but its numbers."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import ValidationError

from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError
from meddx.inputs.prepare import Preparations
from meddx.predict.calibrate import check_calibration
from meddx.record import versions
from meddx.yamlconf import Options

MANIFEST = "bundle.json"
FORMAT = 1
PACKAGES = {"network": ("meddx", "python", "torch", "monai"), "estimator": ("meddx", "python", "scikit-learn", "numpy")}


class HeadPage(Options):
    """What is asked: the two class names (negative, positive), the class names, or the label names."""

    kind: Literal["binary", "multiclass", "multilabel"]
    classes: tuple[str, ...]


class Column(Options):
    """One column that the bundle looks at: the contract with whoever brings rows."""

    name: str
    use: Literal["number", "category", "image", "cohort"]
    required: bool
    input: str | None = None
    levels: int | None = None  # category: how many train knew
    size: int | None = None  # image: height and width in pixels after preparation
    channels: int | None = None
    bits: int | None = None


class Manifest(Options):
    """`bundle.json`.  `about` is free: what the train stage wants to say (parts, recipe fingerprint, dataset digest)."""

    format: Literal[1] = 1
    name: str
    kind: Literal["network", "estimator"]
    head: HeadPage
    columns: tuple[Column, ...]
    inputs: dict[str, Any]
    predictor: dict[str, Any]
    calibration: dict[str, Any]
    threshold: dict[str, Any]
    cohort: CohortOptions
    target: dict[str, Any]
    about: dict[str, Any]
    versions: dict[str, str]


def contract(preparations: Preparations, cohort_columns: set[str]) -> tuple[Column, ...]:
    """Every column that is needed, in the order of the inputs, then those that only the cohort's filters read."""
    found: dict[str, Column] = {}
    for one in preparations.inputs:
        for column in _columns(one.name, one.columns, not one.optional, one.spec()):
            known = found.get(column.name)
            if known is None or (column.required and not known.required):
                found[column.name] = column
    for name in sorted(cohort_columns):
        known = found.get(name)
        found[name] = known.model_copy(update={"required": True}) if known else Column(name=name, use="cohort", required=True)
    return tuple(found.values())


def _columns(name: str, columns: tuple[str, ...], required: bool, spec: dict[str, Any]) -> list[Column]:
    if spec["kind"] == "image":
        bits = 16 if spec["max"] > 255 else 8
        size, channels = spec["size"], spec["channels"]
        return [Column(name=one, use="image", required=required, input=name, size=size, channels=channels, bits=bits) for one in columns]
    levels = dict(zip(spec["category_names"], spec["categories"], strict=True))
    return [
        Column(name=one, use="category", required=required, input=name, levels=levels[one] - 2)  # without missing and other
        if one in levels
        else Column(name=one, use="number", required=required, input=name)
        for one in columns
    ]


def versions_for(kind: str) -> dict[str, str]:
    """The versions that matter to a bundle of this kind."""
    from meddx import __version__

    known = {"meddx": __version__, **versions()}
    return {name: known[name] for name in PACKAGES[kind] if name in known}


def dump_manifest(manifest: Manifest) -> bytes:
    """Readable JSON.  Raises BundleError for a value that JSON has no words for (not a number, infinity, an object)."""
    try:
        page = manifest.model_dump(mode="json", exclude_none=True)
        return (json.dumps(page, indent=1, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise BundleError(f"bundle.json cannot hold this: {error}", MANIFEST) from error


def parse_manifest(data: bytes) -> Manifest:
    """Raises BundleError where the page is damaged, or of a format that this version does not know."""
    try:
        page = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError("bundle.json is not readable as JSON", MANIFEST, "make the bundle again") from error
    if isinstance(page, dict) and page.get("format") != FORMAT:
        found = str(page.get("format"))[:20]
        raise BundleError(f"the bundle has the format {found}, known is {FORMAT}", MANIFEST, "use the meddx that wrote it")
    try:
        manifest = Manifest.model_validate(page)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BundleError(f"bundle.json is not a bundle's page: {where}: {first['msg']}", MANIFEST, "make the bundle again") from error
    check_calibration(manifest.calibration, manifest.head.model_dump())
    check_threshold(manifest.head, manifest.threshold)
    return manifest


def check_threshold(head: HeadPage, threshold: dict[str, Any]) -> None:
    """Raises BundleError where the threshold does not say how this head decides."""
    if head.kind == "multiclass":
        return
    labels = threshold.get("labels")
    pages = [threshold] if head.kind == "binary" else [labels.get(name) if isinstance(labels, dict) else None for name in head.classes]
    if any(not isinstance(page, dict) or not isinstance(page.get("value"), int | float) for page in pages):
        raise BundleError(f"the threshold does not fit a {head.kind} answer", MANIFEST, "make the bundle again")

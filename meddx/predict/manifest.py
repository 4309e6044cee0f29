"""The parts of a bundle in, `bundle.json` out, and back: everything about a bundle but its numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeGuard

from pydantic import Field, ValidationError, model_validator

from meddx.dataset.cohort import cohort_columns
from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError
from meddx.inputs.prepare import Preparations
from meddx.inputs.types import Preparation
from meddx.predict.calibrate import check_calibration
from meddx.predict.facts import of_column, of_input
from meddx.record import versions
from meddx.yamlconf import Options

MANIFEST = "bundle.json"
FORMAT = 1
SIZES = {
    "signal": ("leads", "rate", "steps"),
    "events": ("steps", "variables"),
    "text": ("tokens",),
    "tokens": ("tokens", "words", "characters"),
}
PACKAGES = {"network": ("meddx", "python", "torch", "monai", "transformers"), "estimator": ("meddx", "python", "scikit-learn", "numpy")}


Ends = tuple[float | None, float | None]


class HeadPage(Options):
    """What is asked: the two class names (negative, positive), the class names (ordinal: from low to high), or the label names.

    `mean`, `std`: of a regression's target in train, in its units; logits are in deviations from that mean.
    `tokens`: of tags, as many words of a text as there are places for.
    """

    kind: Literal["binary", "multiclass", "multilabel", "ordinal", "regression", "tags"]
    classes: tuple[str, ...] = ()
    mean: float | None = Field(None, allow_inf_nan=False)
    std: float | None = Field(None, gt=0, allow_inf_nan=False)
    tokens: int | None = Field(None, ge=1, le=4096)

    @model_validator(mode="after")
    def _possible(self) -> HeadPage:
        least = {"binary": 2, "multilabel": 1, "regression": 0, "tags": 1}.get(self.kind, 2)
        if len(self.classes) < least or (self.kind in ("binary", "regression") and len(self.classes) > least):
            raise ValueError(f"a {self.kind} answer cannot have {len(self.classes)} classes")
        if (self.kind == "regression") != (self.mean is not None and self.std is not None):
            raise ValueError("a regression has a mean and a std, no other answer has")
        if (self.kind == "tags") != (self.tokens is not None):
            raise ValueError("tags have a number of tokens, no other answer has")
        return self

    @property
    def page(self) -> dict[str, Any]:
        """As `make_head` takes it: {"kind", "classes"}, for a regression with its mean and std, for tags with its tokens."""
        page: dict[str, Any] = {"kind": self.kind, "classes": list(self.classes)}
        if self.kind == "tags":
            return {**page, "tokens": self.tokens}
        return {**page, "mean": self.mean, "std": self.std} if self.kind == "regression" else page


class Column(Options):
    """One column that the bundle looks at: the contract with whoever brings rows.

    `use` is also its type.  Where it holds several things (fields of joined rows, variables, leads), facts are given for each by name;
    an open end is null.  `joined`: the column holds a list of records a case, with `fields` (and `@time`, hours up to 0 = predict_at,
    where the source has times); `rows` is the use of a joined table.
    """

    name: str
    use: Literal["number", "category", "image", "volume", "signal", "events", "text", "tokens", "rows", "cohort"]
    required: bool
    input: str | None = None
    levels: int | None = None  # category: how many train knew
    size: int | None = None  # image: height and width in pixels after preparation
    channels: int | None = None
    bits: int | None = None
    joined: Literal[True] | None = None
    fields: tuple[str, ...] | None = None  # joined: the columns of the records that are read
    many: str | None = None  # several records a case: which one, or how they are folded
    leads: int | None = None  # signal
    rate: float | None = None  # signal: samples a second after preparation
    steps: int | None = None  # signal: samples, events: bins of the grid
    variables: int | None = None  # events: how many train knew
    shape: tuple[int, int, int] | None = None  # volume: slices, rows, columns after preparation
    missing: Literal["filled", "own_category", "refused", "optional"] | None = None  # what of a case that lacks it
    complete: bool | None = None  # number, category: no row of train lacked it
    categories: tuple[str, ...] | dict[str, tuple[str, ...]] | None = None  # those that train knew, the most frequent first
    seen: Ends | dict[str, Ends] | None = None  # about where the values of train end
    range: Ends | dict[str, Ends] | None = None  # beyond it a row breaks the contract; of a lead its spread, of a picture its contrast
    units: str | dict[str, str] | None = None
    channels_seen: Ends | None = None  # image: in the files of train, before preparation
    bits_seen: Ends | None = None
    spacing: dict[str, Ends] | None = None  # volume: mm from slice to slice, row to row, column to column in the files
    rates: Ends | None = None  # signal: samples a second in the files
    tokens: int | None = None  # text: as many as are read; tokens: as many as a text may have
    words: int | None = None  # tokens: how many train knew, with padding and the unknown one
    characters: int | None = None  # tokens: as many of a word as are read


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
        for column in _columns(one):
            known = found.get(column.name)
            if known is None or (column.required and not known.required):
                found[column.name] = column
    for name in sorted(cohort_columns):
        known = found.get(name)
        found[name] = known.model_copy(update={"required": True}) if known else Column(name=name, use="cohort", required=True)
    return tuple(found.values())


def _columns(one: Preparation) -> list[Column]:
    spec, state = one.spec(), one.state()
    about: dict[str, Any] = {"required": not one.optional, "input": one.name}
    joined = state.get("source")
    if joined is not None:
        about |= {"joined": True, "fields": _fields(spec, state), "many": state.get("many")}
    if spec["kind"] == "table" and joined is None:
        levels = dict(zip(spec["category_names"], spec["categories"], strict=True))
        return [
            Column(name=name, use="category", levels=levels[name] - 2, **about, **of_column(one, name))  # without missing and other
            if name in levels
            else Column(name=name, use="number", **about, **of_column(one, name))
            for name in one.columns
        ]
    about |= of_input(one)
    if spec["kind"] == "image":
        about |= {"size": spec["size"], "channels": spec["channels"], "bits": 16 if spec["max"] > 255 else 8}
    elif spec["kind"] == "volume":
        about |= {"shape": tuple(spec["size"]), "channels": spec["channels"]}
    else:
        about |= {key: spec[key] for key in SIZES.get(spec["kind"], ())}
    return [Column(name=name, use="rows" if spec["kind"] == "table" else spec["kind"], **about) for name in one.columns]


def _fields(spec: dict[str, Any], state: dict[str, Any]) -> tuple[str, ...]:
    """The columns of a joined source that an input reads."""
    if spec["kind"] == "table":
        return (*spec["names"], *spec["category_names"])
    fields = state.get("fields") or [state.get("column")]
    return tuple(str(name) for name in fields if name is not None)


def versions_for(kinds: Sequence[str]) -> dict[str, str]:
    """The versions that matter to a bundle with predictors of these kinds."""
    from meddx import __version__

    known = {"meddx": __version__, **versions()}
    return {name: known[name] for kind in kinds for name in PACKAGES[kind] if name in known}


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
    check_calibration(manifest.calibration, manifest.head.page)
    check_threshold(manifest.head, manifest.threshold)
    return manifest


def check_columns(manifest: Manifest, preparations: Preparations) -> None:
    """Raises BundleError where the columns on the page are not those that its inputs and its cohort read."""
    read = {column.name: column.required for column in contract(preparations, cohort_columns(manifest.cohort))}
    if {column.name: column.required for column in manifest.columns} != read:
        raise BundleError("the columns are not those that the inputs read", MANIFEST, "make the bundle again")


def check_threshold(head: HeadPage, threshold: dict[str, Any]) -> None:
    """Raises BundleError where the threshold does not say how this head decides."""
    if head.kind in ("ordinal", "tags"):
        return
    labels, weights = threshold.get("labels"), threshold.get("weights")
    if head.kind == "multiclass":
        good = weights is None or _are_weights(weights, head.classes)
    elif head.kind == "multilabel":
        pages = [labels.get(name) if isinstance(labels, dict) else None for name in head.classes]
        good = all(isinstance(page, dict) and _is_number(page.get("value")) for page in pages)
    elif head.kind == "regression":
        share, width = threshold.get("coverage"), threshold.get("half_width")
        good = _is_number(share) and 0 < share < 1 and _is_number(width) and width >= 0
    else:
        good = _is_number(threshold.get("value"))
    if not good:
        raise BundleError(f"the threshold does not fit a {head.kind} answer", MANIFEST, "make the bundle again")


def _are_weights(weights: Any, classes: tuple[str, ...]) -> bool:
    return isinstance(weights, dict) and set(weights) == set(classes) and all(_is_number(one) and one > 0 for one in weights.values())


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""Who is in the cohort, what is asked, and how the cases are parted."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from meddx.duration import Duration
from meddx.yamlconf import Options, Text, Texts

Part = Literal["train", "validate", "calibrate", "test"]
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
PARTS: tuple[Part, ...] = ("train", "validate", "calibrate", "test")


class CohortOptions(Options):
    """Named filters, applied in training and in scoring.  Grammar: `age >= 18`, `sex in [F, M]`, `not`, `and`, `or`, `is missing`."""

    keep: dict[str, str] = Field({}, description="a case must meet each of these")
    leave_out: dict[str, str] = Field({}, description="a case must meet none of these")


def _own_names(value: Any) -> Any:
    """A list of classes is short for classes of one value each."""
    if isinstance(value, list | tuple) and len({str(one) for one in value}) < len(value):
        raise ValueError("a class stands twice")
    return {one: [one] for one in value} if isinstance(value, list | tuple) else value


class TargetOptions(Options):
    """What is asked.  A value that is not listed is refused; an empty one is unlabelled."""

    kind: Literal["binary", "multiclass", "multilabel", "ordinal", "regression", "tags", "several"] = Field(
        description="the kind of answer"
    )
    column: Text | None = Field(None, description="the column with the answer (all but multilabel)")
    outcome: str | None = Field(None, description="what a positive case has, in a reader's words, such as malignant (binary)")
    columns: Texts = Field((), description="the columns with the answers, one a label (multilabel)")
    positive: Texts = Field((), description="the values that mean yes (binary, multilabel): always named")
    negative: Texts = Field((), description="the values that mean no (binary, multilabel)")
    positive_above: float | None = Field(None, description="instead of values: a number above this means yes, any other number no")
    classes: Annotated[dict[Text, Texts], BeforeValidator(_own_names)] = Field(
        {}, description="the values in the order of the answer, or class: its values (multiclass, ordinal: from low to high; tags)"
    )
    unlabelled: Texts = Field((), description="values that mean not known or uncertain, beside an empty one")
    horizon: Duration | None = Field(None, description="within what time after predict_at the outcome counts, such as 30d")
    followed_until: Text | None = Field(
        None, description="the column with the instant until which a case was followed; `no` before the horizon ends is unlabelled"
    )

    of: dict[Text, TargetOptions] = Field({}, description="several: name: target; `targets: {name: ...}` on the page is short for it")

    @model_validator(mode="after")
    def _complete(self) -> TargetOptions:
        if (self.kind == "several") != bool(self.of):
            raise ValueError("several targets stand in `targets`, each with its name")
        if self.kind == "several":
            if len(self.of) < 2 or len(self.answers) != len({*self.answers}) or self.model_fields_set - {"kind", "of"}:
                raise ValueError("`targets` are two or more, each with its own column")
            if any(one.kind in ("several", "tags") for one in self.of.values()):
                raise ValueError("`targets` are binary, multiclass, multilabel, ordinal or regression")
            if any(not NAME.fullmatch(name) for name in self.of):
                raise ValueError("the name of a target is small letters, digits, - and _, for it names a folder")
            return self
        if self.kind == "multilabel":
            if not self.columns or self.column:
                raise ValueError("multilabel needs `columns`, one a label, and no `column`")
        elif not self.column or self.columns:
            raise ValueError(f"{self.kind} needs `column` and no `columns`")
        if self.kind == "regression":
            if self.classes or self.positive or self.negative or self.positive_above is not None:
                raise ValueError("regression needs a `column` of numbers and nothing of classes")
        elif self.kind == "tags":
            if not self.classes or self.positive or self.negative or self.positive_above is not None:
                raise ValueError("tags needs a `column` of spans and `classes`, the labels that count")
        elif self.kind in ("multiclass", "ordinal"):
            if len(self.classes) < 2 or self.positive or self.negative:
                raise ValueError(f"{self.kind} needs `classes` (two or more) and neither `positive` nor `negative`")
            twice = [one for values in self.classes.values() for one in values]
            if len(set(twice)) < len(twice):
                raise ValueError("a value stands in two classes")
        elif self.positive_above is None and not (self.positive and self.negative):
            raise ValueError(f"{self.kind} needs `positive` and `negative`: name the class that counts as yes")
        elif self.positive_above is not None and (self.positive or self.negative):
            raise ValueError("give either `positive_above` or `positive` and `negative`")
        if self.followed_until and (self.horizon is None or self.kind != "binary"):
            raise ValueError("`followed_until` needs a binary target with a `horizon`")
        both = set(self.positive) & set(self.negative)
        if both:
            raise ValueError(f"{sorted(both)} cannot be both positive and negative")
        return self

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Every column that is read to know the answer."""
        if self.of:
            return tuple(dict.fromkeys(name for one in self.of.values() for name in one.all_columns))
        return (*self.answers, self.followed_until, "predict_at") if self.followed_until else self.answers

    @property
    def longest_horizon(self) -> timedelta | None:
        """Of several targets the longest."""
        return max((one.horizon for one in self.of.values() if one.horizon), default=None) if self.of else self.horizon

    @property
    def answers(self) -> tuple[str, ...]:
        """The columns that hold the answer itself."""
        if self.of:
            return tuple(name for one in self.of.values() for name in one.answers)
        return (self.column,) if self.column else self.columns


class Carve(Options):
    """Take a share of one part's patients as another part."""

    source: Part = Field(alias="from", description="the part that gives")
    share: float = Field(gt=0, lt=1, description="the share of its patients")


class SplitOptions(Options):
    """Parts that share no patient.  by patient: shares; by column, site: values; by time: cut points (ISO dates)."""

    by: Literal["patient", "column", "site", "time"] = Field("patient", description="what parts the cases")
    column: Text | None = Field(None, description="the column (by: column); site and time use case.site and case.predict_at")
    parts: dict[Part, float | Texts] = Field(
        {"train": 0.6, "validate": 0.1, "calibrate": 0.1, "test": 0.2},
        description="share of patients (patient), values (column, site), or the first instant of the part (time)",
    )
    carve: dict[Part, Carve] = Field({}, description="parts cut out of another part, by patient")
    folds: int | dict[Text, Texts] | None = Field(
        None, description="cross-validation instead of parts: so many folds by patient, or fold: its values (by: column, site)"
    )
    repeats: int = Field(1, ge=1, le=100, description="folds by patient: how often, each time dealt out anew")
    validate_share: float = Field(0.2, gt=0, lt=1, description="folds: share of each fold's training patients that choose the best epoch")
    seed: int = Field(0, description="which of the equally good splits")

    @model_validator(mode="after")
    def _complete(self) -> SplitOptions:
        if self.folds is not None:
            self._check_folds()
            return self
        missing = [part for part in PARTS if part not in self.parts and part not in self.carve]
        if missing:
            raise ValueError(f"no cases are given to {', '.join(missing)}; add to `parts` or `carve`")
        if self.by == "patient":
            if not all(isinstance(share, float) for share in self.parts.values()):
                raise ValueError("by patient: each part is a share, such as 0.6")
            if abs(sum(float(share) for share in self.parts.values() if isinstance(share, float)) - 1) > 1e-6:
                raise ValueError("by patient: the shares must add up to 1")
        elif any(isinstance(share, float) for share in self.parts.values()):
            raise ValueError(f"by {self.by}: each part lists values, not a share")
        if self.by == "column" and not self.column:
            raise ValueError("by column: name the `column`")
        self._check_carve()
        return self

    def _check_folds(self) -> None:
        if isinstance(self.folds, int):
            if self.by != "patient" or self.folds < 2:
                raise ValueError("a number of folds, two or more, is dealt out by patient; else list the values of each fold")
        elif self.folds is not None:
            values = [value for members in self.folds.values() for value in members]
            if self.by not in ("column", "site") or len(self.folds) < 2 or len(set(values)) < len(values):
                raise ValueError("folds by column or site: two or more, each with its own values")
            if self.repeats > 1:
                raise ValueError("folds that are written out cannot be repeated")
        if self.carve or "parts" in self.model_fields_set:
            raise ValueError("give either `folds` or `parts` and `carve`")

    def _check_carve(self) -> None:
        for part, carve in self.carve.items():
            if part in self.parts:
                raise ValueError(f"the part {part!r} stands in `parts` and in `carve`: give it once")
            if carve.source not in self.parts:
                raise ValueError(f"{part!r} is carved from {carve.source!r}, which does not stand in `parts`")
        for source in self.parts:
            if sum(carve.share for carve in self.carve.values() if carve.source == source) >= 1:
                raise ValueError(f"the shares carved from {source!r} leave nothing of it: let them add up to less than 1")


class TimingOptions(Options):
    """What was known when.  Patterns allowed in names (`lab_*`)."""

    known_at: dict[str, str] = Field({}, description="column or pattern: when its value is known, in words; the screen then only warns")
    after_outcome: Texts = Field((), description="columns written after the outcome: refused as inputs")

    @field_validator("known_at")
    @classmethod
    def _said(cls, value: dict[str, str]) -> dict[str, str]:
        if any(not text.strip() for text in value.values()):
            raise ValueError("say in words when the value is known")
        return value

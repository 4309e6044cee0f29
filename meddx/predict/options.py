"""How a logit becomes a probability, a probability a decision, and what happens to a row that is not as those of train."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer

from meddx.yamlconf import Options, Texts, nearest

Calibration = Literal["logistic", "temperature", "slope", "linear", "none"]
GOAL = re.compile(r"^(youden|f1|balance|likeliest|macro_f1|(sensitivity|specificity|ppv)\s*>=\s*(0?\.\d+|1(?:\.0+)?))$")


class ThresholdOptions(Options):
    """Chosen on the calibrate part."""

    goal: str = Field(
        "youden",
        description="youden, f1, balance, likeliest (0.5), or sensitivity, specificity, ppv with >= and a number; multiclass: macro_f1",
    )
    classes: Texts = Field((), description="macro_f1: the classes whose mean F1 counts; default all")
    confidence: float | None = Field(None, gt=0.5, lt=1, description="the lower bound at this confidence must meet the goal")

    coverage: float = Field(0.9, gt=0, lt=1, description="regression: share of cases that the interval should hold")

    @field_validator("goal")
    @classmethod
    def _known(cls, value: str) -> str:
        if not GOAL.match(value.strip()):
            raise ValueError("a goal is youden, f1, balance, likeliest, macro_f1, or one of three with >= and a number below 1")
        return value.strip()


Action = Literal["warn", "quarantine", "ignore"]
WARNING, BETWEEN = "warning", ";"  # the column with the reason codes of a row, and what stands between them
WARN, QUARANTINE, IGNORE = "warn", "quarantine", "ignore"


class ContractOptions(Options):
    """What happens to a row outside of what the bundle states, a kind of reason; one word stands for all kinds but the last two.

    Those two are ignored unless named: the preparation has a place for what it does not know, and for what is missing.
    """

    range: Action = Field("warn", description="a number, a lead's spread, a picture's contrast or a volume's mean beyond its limits")
    channels: Action = Field("warn", description="a picture in colour where train had grey, or grey where it had colour")
    bits: Action = Field("warn", description="a picture of 8 bits where train had 16, or the reverse")
    spacing: Action = Field("warn", description="voxels more than twice, or less than half, as far apart as in train")
    rate: Action = Field("warn", description="a signal sampled more than twice, or less than half, as often as in train")
    category: Action = Field("ignore", description="a category that train did not have, or seldom")
    missing: Action = Field("ignore", description="a cell is missing in a column of which no row of train lacked one")

    def of(self, kind: str) -> str | None:
        """`warn` or `quarantine`; None where this kind is ignored."""
        wished = str(getattr(self, kind))
        return None if wished == IGNORE else wished

    @model_serializer
    def page(self) -> dict[str, str]:
        """What is not as usual, by kind: outputs and fingerprints from before there was a contract go on."""
        fields = type(self).model_fields.items()
        return {kind: wished for kind, field in fields if (wished := getattr(self, kind)) != field.default}


def _each(value: Any) -> Any:
    """One word for every kind that it stands for."""
    if not isinstance(value, str):
        return value
    words = (WARN, QUARANTINE, IGNORE)
    if value not in words:
        guess = nearest(value, words)
        raise ValueError((f"did you mean {guess!r}? " if guess else "") + f"allowed: {', '.join(words)}, or a block of kinds")
    return {kind: value for kind, field in ContractOptions.model_fields.items() if field.default != IGNORE}


Contract = Annotated[ContractOptions, BeforeValidator(_each)]


class ContractPage(Options):
    """What a caller of predict says."""

    contract: Contract = Field(ContractOptions(), description="what happens to a row that is not as those of train")

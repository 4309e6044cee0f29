"""How a logit becomes a probability, and a probability a decision."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from meddx.yamlconf import Options, Texts

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

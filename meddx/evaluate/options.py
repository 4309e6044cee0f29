"""What is compared with what, said before looking."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meddx.yamlconf import Options, Text, Texts

Metric = Literal[
    "auroc", "auprc", "accuracy", "balanced_accuracy", "brier", "log_loss", "ece", "sensitivity", "specificity", "ppv", "min_se_ppv",
    "macro_f1", "kappa", "mae", "rmse", "r2", "span_f1", "span_precision", "span_recall",
]  # fmt: skip


class PrimaryOptions(Options):
    """The one comparison that the verdict is about."""

    metric: Metric = Field("auroc", description="the number")
    model: str | None = Field(None, description="the model; default: the network")
    against: str = Field("best", description="the baseline, or `best`: the one best on validate, never on test")
    smallest_useful: float = Field(0.01, ge=0, description="the smallest difference worth having")


class PriorScore(Options):
    """A score that stands in the archive, such as a physician's estimate: compared by rank, where it is present."""

    column: Text = Field(description="the column; never an input")
    higher_means: Literal["positive", "negative"] = Field(description="what a high value speaks for")


class ComparisonOptions(Options):
    """`primary` is the verdict; all else is secondary and says so."""

    primary: PrimaryOptions = Field(PrimaryOptions(), description="the verdict")
    primaries: dict[Text, PrimaryOptions] = Field({}, description="several targets: target: its verdict, where `primary` does not fit")
    classes: Texts = Field((), description="multiclass: the classes that averages run over; default all that the cases can speak about")
    also: tuple[Metric, ...] = Field((), description="further numbers of the table; all are there if left out")
    prior_scores: dict[str, PriorScore] = Field({}, description="name: a score that stands in the archive")
    bootstrap: int = Field(1000, ge=200, le=20000, description="resamples by patient")
    seed: int = Field(0, description="of the resamples")

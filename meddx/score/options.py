"""How an archive is scored.  A change of this block makes a new output; of `zone` not, it only names folders."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from meddx.predict.options import Contract, ContractOptions
from meddx.yamlconf import Options, Texts


def _share(value: Any) -> Any:
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


class ScoringOptions(Options):
    """What of a row outside the cohort, and how many bad rows are too many."""

    max_rejected: Annotated[float, BeforeValidator(_share)] = Field(
        0.01, ge=0, le=1, description="share of quarantined rows above which the job ends with exit code 4; `1%` or 0.01"
    )
    outside_cohort: Literal["mark", "score"] = Field("mark", description="mark: a row without probabilities; score: scored and marked")
    contract: Contract = Field(
        ContractOptions(),
        description="a row not as those of train: warn (scored, its reasons in `warning`), quarantine, ignore, or a block of kinds",
    )
    unit_mb: int = Field(48, ge=1, le=512, description="size of the commit unit, about, in MB")
    outputs: tuple[Literal["embedding"], ...] = Field((), description="more columns: embedding, what the network makes of a case")
    without: Texts = Field((), description="optional inputs that are hidden from the model")
    zone: str | None = Field(None, description="whose date `{date}` in a path is, such as Asia/Shanghai; default: of the environment (TZ)")

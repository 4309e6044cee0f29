"""What a page says beside its numbers: the question, the flow of cases, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Counts:
    """The flow of cases.  read = quarantined_at_ingest + outside_cohort + dropped + unlabelled + sum of parts; a difference is shown.

    read                    rows or files read by ingest
    quarantined_at_ingest   could not be read
    outside_cohort          left out by the cohort's filters, or by the split
    dropped                 exact copies taken out of train
    unlabelled              in the cohort, without an answer (all parts)
    parts                   train, validate, calibrate, test: labelled cases in the cohort
    scored, quarantined_in_scoring, missing_predictions   the test part, labelled or not, as the primary model's predictions have it
    """

    read: int
    quarantined_at_ingest: int
    outside_cohort: int
    unlabelled: int
    parts: Mapping[str, int]
    scored: int
    quarantined_in_scoring: int = 0
    missing_predictions: int = 0
    dropped: int = 0

    @property
    def unaccounted(self) -> int:
        """What the books cannot explain; 0 when they balance."""
        known = self.quarantined_at_ingest + self.outside_cohort + self.dropped + self.unlabelled + sum(self.parts.values())
        return self.read - known


@dataclass(frozen=True)
class About:
    """Everything that `write_page` cannot read from the comparison.

    title           the recipe's name, or a better one
    question        the recipe's header comment, line by line, without `#`
    fingerprint     the recipe's
    dataset_digest  of the dataset compared on
    bundles         model to digest of its bundle
    versions        package to version (`record.versions()`, and meddx itself)
    seconds         wall time of the comparison, or of the whole run; `seconds_of` says which
    opened          how often the test part was opened, this time included
    split           how the parts were made, in words: `by patient, seed 0`
    made            ISO date and time
    notes           further sentences for `Data and parts`: what ingest and the split had to say
    command         the command that makes this page again
    """

    title: str
    question: tuple[str, ...]
    fingerprint: str
    dataset_digest: str
    bundles: Mapping[str, str]
    versions: Mapping[str, str]
    seconds: float
    opened: int
    counts: Counts
    split: str
    made: str
    seconds_of: str = "comparison"
    notes: tuple[str, ...] = field(default=())
    command: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        plain = {**asdict(self), "question": list(self.question), "notes": list(self.notes)}
        return {**plain, "bundles": dict(self.bundles), "versions": dict(self.versions)}

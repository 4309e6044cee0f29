"""A plan and its published parts in, the books out: what was read is scored, quarantined or outside the cohort.

Two counts that were taken independently are compared, unit by unit and in total: the rows that the planner found in
the sources' footers, and the rows that Parquet itself counts in the published parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from meddx.errors import BooksError, IncompleteError
from meddx.score.ledger import Counts, Part
from meddx.score.plan import Plan
from meddx.score.sources import JUNK_FILE


@dataclass(frozen=True)
class Books:
    """`read`: rows planned in the units that are done.  `undone`: unit -> why.  `unbalanced`: units whose counts disagree."""

    out: str
    files: int
    not_opened: int
    units: int
    planned: int
    read: int
    counts: Counts
    max_rejected: float
    undone: dict[str, str] = field(default_factory=dict)
    unbalanced: tuple[str, ...] = ()
    junk: int = 0  # of `not_opened`: what desktops leave behind, which nobody misses

    @property
    def done(self) -> int:
        return self.units - len(self.undone)

    @property
    def rejected(self) -> float:
        """The share of rows read that are quarantined, or of files that could not be opened, whichever is larger."""
        return max(self.counts.quarantined / max(self.read, 1), (self.not_opened - self.junk) / max(self.files - self.junk, 1))

    @property
    def exit_code(self) -> int:
        """0 ok, 4 unbalanced or too much quarantined, 5 units undone."""
        if self.undone:
            return IncompleteError.exit_code
        return BooksError.exit_code if self.unbalanced or self.rejected > self.max_rejected else 0

    @property
    def line(self) -> str:
        """The balance line."""
        counts = self.counts
        text = f"scored {counts.scored:,} = read {self.read:,} - quarantined {counts.quarantined:,} - outside cohort {counts.outside:,}"
        broken = f"; files not opened {self.not_opened:,} of {self.files:,}" if self.not_opened else ""
        warned = f"; {counts.warning_line}" if counts.warned else ""
        return f"{text}{warned}; units {self.done:,} of {self.units:,}{broken}; {self.out}"

    def raise_for_problems(self) -> None:
        """IncompleteError where units are undone; BooksError where the books do not balance or too much was rejected."""
        if self.undone:
            named = ", ".join(f"{unit} ({why})" for unit, why in sorted(self.undone.items())[:5])
            more = f" and {len(self.undone) - 5} more" if len(self.undone) > 5 else ""
            raise IncompleteError(
                f"{len(self.undone)} of {self.units} units are not done: {named}{more}",
                self.out,
                "run the same command again: only these are left",
            )
        if self.unbalanced:
            named = ", ".join(self.unbalanced[:5])
            raise BooksError(
                f"the books do not balance in {len(self.unbalanced)} units: {named}",
                self.out,
                "do not use these predictions; score into another folder",
            )
        if self.rejected > self.max_rejected:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.counts.reasons.items(), key=lambda one: -one[1])[:5])
            broken = f"; files not opened: {self.not_opened:,} of {self.files:,}" if self.not_opened else ""
            raise BooksError(
                f"{self.rejected:.2%} was rejected, more than scoring.max_rejected {self.max_rejected:.2%}: {reasons or 'no rows'}{broken}",
                self.out,
                "the predictions are complete; look at status and error, then mend the data or raise scoring.max_rejected",
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, page: Mapping[str, Any], out: str) -> Books:
        """Books as a record keeps them; the output may have been moved since."""
        return cls(**{**page, "out": out, "counts": Counts(**page["counts"]), "unbalanced": tuple(page["unbalanced"])})


def keep_books(out: object, plan: Plan, parts: Mapping[str, Part], *, max_rejected: float, failures: Mapping[str, str]) -> Books:
    """The books of an output now.  `failures`: unit -> why, as far as this job knows; a unit that another job published is done."""
    undone = {unit: failures.get(unit, "not tried") for unit in plan.units if unit not in parts}
    done = [plan.units[unit] for unit in parts]
    unbalanced = sorted(unit.id for unit in done if not _balances(unit.rows, parts[unit.id]))
    return Books(
        out=str(out),
        files=len(plan.files) + len(plan.broken),
        not_opened=len(plan.broken),
        units=len(plan.units),
        planned=plan.rows,
        read=sum(unit.rows for unit in done),
        counts=sum((part.counts for part in parts.values()), Counts()),
        max_rejected=max_rejected,
        undone=undone,
        unbalanced=tuple(unbalanced),
        junk=sum(reason == JUNK_FILE for _, reason in plan.broken.values()),
    )


def _balances(planned: int, part: Part) -> bool:
    counts = part.counts
    return planned == part.rows == counts.rows == counts.scored + counts.quarantined + counts.outside

"""A bundle and its rules in, what an output belongs to out; and by which key two owners differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meddx import yamlconf


@dataclass(frozen=True)
class Owner:
    """What an output belongs to: one bundle, one scoring and cohort block, one engine plan (None: the bundle's default)."""

    bundle: str
    scoring: dict[str, Any]
    cohort: dict[str, Any]
    engine: dict[str, Any] | None = None

    @property
    def rules(self) -> str:
        return yamlconf.fingerprint({"scoring": self.scoring, "cohort": self.cohort, "engine": self.engine})

    def as_dict(self) -> dict[str, Any]:
        return {"bundle": self.bundle, "scoring": self.scoring, "cohort": self.cohort, "engine": self.engine}

    def differences(self, other: Owner) -> list[str]:
        """What `other` says otherwise, by key."""
        found = [f"bundle {self.bundle} is not {other.bundle}"] if self.bundle != other.bundle else []
        for name in ("scoring", "cohort", "engine"):
            mine, theirs = getattr(self, name) or {}, getattr(other, name) or {}
            keys = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
            found += [f"{name}.{key} differs" for key in keys]
        return found

"""A listing in, a plan on storage out: which rows are scored, in which units, for which bundle.

A plan is written once, as `_meddx/plan-0.json`, and never changed.  New files become a further generation,
`plan-1.json`, that only adds.  Whoever loses the race to write a generation reads the winner's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from meddx import yamlconf
from meddx.errors import OutputError, StorageError
from meddx.score.sources import Broken, SourceFile
from meddx.score.units import Piece, Unit, count_buckets, make_units
from meddx.storage import FileInfo, StoragePath

FOLDER = "_meddx"  # readers of Parquet folders skip names that begin with an underscore
FORMAT = 1


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


@dataclass(frozen=True)
class Generation:
    """One plan file.  `files`: path -> (version, bytes, rows); `broken`: path -> (version, reason)."""

    number: int
    previous: str
    owner: Owner
    data: str
    buckets: int
    files: dict[str, tuple[str, int, int]]
    broken: dict[str, tuple[str, str]]
    units: tuple[Unit, ...]

    def publish(self, out: StoragePath) -> bool:
        """Write it once; False when another job wrote one of this number first: load again and look."""
        return (out / FOLDER / f"plan-{self.number}.json").create_once(self.encode())

    def encode(self) -> bytes:
        page = {
            "format": FORMAT,
            "number": self.number,
            "previous": self.previous,
            "owner": self.owner.as_dict(),
            "data": self.data,
            "buckets": self.buckets,
            "files": self.files,
            "broken": self.broken,
            "units": [_encode_unit(unit) for unit in self.units],
        }
        return yamlconf.canonical(page).encode()

    @classmethod
    def decode(cls, data: bytes) -> Generation:
        page = json.loads(data)
        if page["format"] != FORMAT:
            raise ValueError(f"plan format {page['format']}, this program knows {FORMAT}")
        files = {path: tuple(one) for path, one in page["files"].items()}
        units = tuple(_decode_unit(one, files) for one in page["units"])
        broken = {path: tuple(one) for path, one in page["broken"].items()}
        return cls(page["number"], page["previous"], Owner(**page["owner"]), page["data"], page["buckets"], files, broken, units)


@dataclass(frozen=True)
class Plan:
    """All generations of one output, as they lie on storage; `digests` names each."""

    generations: tuple[Generation, ...]
    digests: tuple[str, ...]

    @property
    def first(self) -> Generation:
        return self.generations[0]

    @property
    def owner(self) -> Owner:
        return self.first.owner

    @cached_property
    def units(self) -> dict[str, Unit]:
        return {unit.id: unit for one in self.generations for unit in one.units}

    @cached_property
    def files(self) -> dict[str, tuple[str, int, int]]:
        return {path: file for one in self.generations for path, file in one.files.items()}

    @cached_property
    def broken(self) -> dict[str, tuple[str, str]]:
        """Files that no generation could open; one that was mended and planned later is none."""
        return {path: why for one in self.generations for path, why in one.broken.items() if path not in self.files}

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.files.values())

    @classmethod
    def load(cls, out: StoragePath) -> Plan | None:
        """The plan of an output, or None where there is none yet.  StorageError for a damaged one."""
        found: list[tuple[Generation, str]] = []
        names = {info.path.name for info in (out / FOLDER).list(".json", recursive=False) if info.path.name.startswith("plan-")}
        while (name := f"plan-{len(found)}.json") in names:
            place = out / FOLDER / name
            data = place.read_bytes()
            try:
                found.append((Generation.decode(data), hashlib.sha256(data).hexdigest()[:16]))
            except (ValueError, KeyError, TypeError) as error:
                raise StorageError(f"the plan is damaged: {type(error).__name__}", str(place), "score into another folder") from error
        chain = all(one.previous == found[i - 1][1] for i, (one, _) in enumerate(found) if i)
        if len(found) != len(names) or not chain:
            what = "the plan files do not belong together: one is missing or changed"
            raise StorageError(what, str(out / FOLDER), "score into another folder")
        return cls(tuple(one for one, _ in found), tuple(digest for _, digest in found)) if found else None

    def check_owner(self, owner: Owner, out: StoragePath) -> None:
        """OutputError where the output belongs to something else."""
        if differences := self.owner.differences(owner):
            raise OutputError(
                "this output belongs to another bundle or to other scoring rules: " + "; ".join(differences),
                str(out),
                "give another folder with --out; what lies here stays as it is",
            )

    def new_files(self, listing: Mapping[str, FileInfo]) -> dict[str, FileInfo]:
        """Listed files that no generation knows.  OutputError when a planned file changed or vanished."""
        changed = [path for path, (version, _, _) in self.files.items() if path in listing and listing[path].version != version]
        vanished = [path for path in self.files if path not in listing]
        for paths, what in ((changed, "changed"), (vanished, "vanished")):
            if paths:
                more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
                raise OutputError(
                    f"{len(paths)} of {len(self.files)} files {what} since this output was planned: {', '.join(sorted(paths)[:3])}{more}",
                    self.first.data,
                    "put the files back, or score into another folder (later `--update` will take changes up); nothing was done",
                )
        return {path: info for path, info in listing.items() if path not in self.files and self.broken.get(path, ("",))[0] != info.version}


def draw_up(
    plan: Plan | None, owner: Owner, data: StoragePath, files: list[SourceFile], broken: list[Broken], unit_bytes: int
) -> Generation:
    """The next generation, for files that `plan` does not know; not yet on storage."""
    buckets = plan.first.buckets if plan else count_buckets(files, unit_bytes)
    return Generation(
        number=len(plan.generations) if plan else 0,
        previous=plan.digests[-1] if plan else "",
        owner=owner,
        data=str(data),
        buckets=buckets,
        files={one.path: (one.version, one.size, one.rows) for one in files},
        broken={one.path: (one.version, one.reason) for one in broken},
        units=tuple(make_units(files, unit_bytes=unit_bytes, buckets=buckets)),
    )


def _encode_unit(unit: Unit) -> dict[str, Any]:
    return {"id": unit.id, "weight": unit.weight, "stream": unit.stream, "pieces": [[p.path, p.start, p.rows] for p in unit.pieces]}


def _decode_unit(page: Mapping[str, Any], files: Mapping[str, tuple[str, int, int]]) -> Unit:
    pieces = tuple(Piece(path, files[path][0], start, rows) for path, start, rows in page["pieces"])
    return Unit(page["id"], pieces, page["weight"], page["stream"])

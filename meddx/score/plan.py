"""A listing in, a plan on storage out: which rows are scored, in which units, for which bundle.

A plan is written once, as `_meddx/plan-0.json`, and never changed.  New files become a further generation,
`plan-1.json`; with `--update` a generation also says which units left the plan, because a file of theirs changed or
vanished.  Whoever loses the race to write a generation reads the winner's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from meddx import yamlconf
from meddx.errors import OutputError, StorageError
from meddx.score.owner import Owner
from meddx.score.sources import PARQUET, Broken, SourceFile
from meddx.score.units import Piece, Unit, count_buckets, digest, make_units
from meddx.storage import FileInfo, StoragePath

FOLDER = "_meddx"  # readers of Parquet folders skip names that begin with an underscore
FORMAT = 1
FORMAT_RETIRING = 2  # a generation that takes units out, or has pictures: a program that would overlook that must not read it


@dataclass(frozen=True)
class Leaving:
    """What a generation takes out of the plan: `retired` unit ids, and paths of files that are `gone`."""

    retired: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.retired or self.gone)


NOTHING = Leaving()


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
    leaving: Leaving = NOTHING

    def publish(self, out: StoragePath, *, alone: bool = False) -> bool:
        """Write it once; False when another job wrote one of this number first: load again and look."""
        return place_of(out, self.number).create_once(self.encode(), alone=alone)

    def encode(self) -> bytes:
        places = {path: place for place, path in enumerate(sorted(self.files))}
        page = {
            "format": FORMAT_RETIRING if self.leaving or any(unit.family != PARQUET for unit in self.units) else FORMAT,
            "number": self.number,
            "previous": self.previous,
            "owner": self.owner.as_dict(),
            "data": self.data,
            "buckets": self.buckets,
            "files": self.files,
            "broken": self.broken,
            "units": [_encode_unit(unit, places) for unit in self.units],
        }
        if self.leaving:
            page |= {"retired": self.leaving.retired, "gone": self.leaving.gone}
        return yamlconf.canonical(page).encode()

    @classmethod
    def decode(cls, data: bytes) -> Generation:
        page = json.loads(data)
        if page["format"] not in (FORMAT, FORMAT_RETIRING):
            raise ValueError(f"plan format {page['format']}, this program knows {FORMAT} and {FORMAT_RETIRING}")
        files = {path: tuple(one) for path, one in page["files"].items()}
        paths = sorted(files)
        units = tuple(_decode_unit(one, files, paths) for one in page["units"])
        broken = {path: tuple(one) for path, one in page["broken"].items()}
        leaving = Leaving(tuple(page.get("retired", ())), tuple(page.get("gone", ())))
        owner = Owner(**page["owner"])
        return cls(page["number"], page["previous"], owner, page["data"], page["buckets"], files, broken, units, leaving)


@dataclass
class State:
    """What all generations together say.  `retired`: unit ids that left; the counts are of all updates so far."""

    files: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    broken: dict[str, tuple[str, str]] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    files_changed: int = 0
    files_vanished: int = 0
    rows_vanished: int = 0

    def apply(self, one: Generation) -> None:
        for unit_id in one.leaving.retired:
            self.units.pop(unit_id, None)
            self.retired.add(unit_id)
        for path in one.leaving.gone:
            self.broken.pop(path, None)
            self.files_vanished += 1
            self.rows_vanished += self.files.pop(path, ("", 0, 0))[2]
        for path, (version, *_) in (one.files | one.broken).items():
            before = self.files.pop(path, None)
            self.files_changed += before is not None and before[0] != version
            self.broken.pop(path, None)
        self.files |= one.files
        self.broken |= one.broken
        self.units |= {unit.id: unit for unit in one.units}


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
    def state(self) -> State:
        state = State()
        for one in self.generations:
            state.apply(one)
        return state

    @property
    def units(self) -> dict[str, Unit]:
        return self.state.units

    @property
    def files(self) -> dict[str, tuple[str, int, int]]:
        return self.state.files

    @property
    def broken(self) -> dict[str, tuple[str, str]]:
        """Files that could not be opened; one that was mended and planned later is none."""
        return self.state.broken

    @property
    def retired(self) -> set[str]:
        """Ids of units that left the plan; none of them ever comes back, so a part of that name may be deleted at any time."""
        return self.state.retired

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.files.values())

    @classmethod
    def load(cls, out: StoragePath) -> Plan | None:
        """The plan of an output, or None where there is none yet.  StorageError for a damaged one."""
        found: list[tuple[Generation, str]] = []
        names = {info.path.name for info in (out / FOLDER).list(".json", recursive=False) if info.path.name.startswith("plan-")}
        while (place := place_of(out, len(found))).name in names:
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

    def has_grown(self, out: StoragePath) -> bool:
        """Whether there is a generation that this plan does not have."""
        return place_of(out, len(self.generations)).is_file()

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
        for paths, what in ((self._changed(listing), "changed"), (self._vanished(listing), "vanished")):
            if paths:
                more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
                raise OutputError(
                    f"{len(paths)} of {len(self.files)} files {what} since this output was planned: {', '.join(sorted(paths)[:3])}{more}",
                    self.first.data,
                    "put the files back, or take the changes up with --update, or score into another folder; nothing was done",
                )
        return self._unknown(listing)

    def update(self, listing: Mapping[str, FileInfo]) -> tuple[dict[str, FileInfo], Leaving]:
        """Listed files to plan, and what leaves for them: every unit that has a row of a changed or vanished file.

        The other files of such a unit leave with it and are planned again.  OutputError where no planned file is there.
        """
        changed, vanished = self._changed(listing), self._vanished(listing)
        if self.files and len(vanished) == len(self.files):
            what = f"none of the {len(vanished):,} files of this output is there"
            raise OutputError(what, self.first.data, "check DATA: --update takes up changes, it does not turn to another archive")
        touched = {*changed, *vanished}
        leaving = [unit for unit in self.units.values() if any(piece.path in touched for piece in unit.pieces)]
        again = {piece.path for unit in leaving for piece in unit.pieces} | set(changed)
        files = self._unknown(listing) | {path: listing[path] for path in again if path in listing}
        gone = sorted({*vanished, *(path for path in self.broken if path not in listing)})
        return files, Leaving(tuple(sorted(unit.id for unit in leaving)), tuple(gone))

    def _changed(self, listing: Mapping[str, FileInfo]) -> list[str]:
        return [path for path, (version, _, _) in self.files.items() if path in listing and listing[path].version != version]

    def _vanished(self, listing: Mapping[str, FileInfo]) -> list[str]:
        return [path for path in self.files if path not in listing]

    def _unknown(self, listing: Mapping[str, FileInfo]) -> dict[str, FileInfo]:
        return {path: info for path, info in listing.items() if path not in self.files and self.broken.get(path, ("",))[0] != info.version}


def place_of(out: StoragePath, number: int) -> StoragePath:
    """Where a generation lies."""
    return out / FOLDER / f"plan-{number}.json"


def draw_up(
    plan: Plan | None,
    owner: Owner,
    data: StoragePath,
    files: list[SourceFile],
    broken: list[Broken],
    unit_bytes: int,
    leaving: Leaving = NOTHING,
) -> Generation:
    """The next generation, for files that `plan` does not know or that leave it for another version; not yet on storage."""
    buckets = plan.first.buckets if plan else count_buckets(files, unit_bytes)
    number = len(plan.generations) if plan else 0
    units = make_units(files, unit_bytes=unit_bytes, buckets=buckets)
    return Generation(
        number=number,
        previous=plan.digests[-1] if plan else "",
        owner=owner,
        data=str(data),
        buckets=buckets,
        files={one.path: (one.version, one.size, one.rows) for one in files},
        broken={one.path: (one.version, one.reason) for one in broken},
        units=tuple(_never_again(units, {*(plan.retired if plan else ()), *leaving.retired}, number)),
        leaving=leaving,
    )


def _never_again(units: Iterable[Unit], retired: Collection[str], number: int) -> list[Unit]:
    """Units under ids that no retired one had.  A file put back makes the same unit again; under its old id a slow job of the
    generation between would delete the new part."""
    return [replace(unit, id=digest(unit.id, number)) if unit.id in retired else unit for unit in units]


def _encode_unit(unit: Unit, places: Mapping[str, int]) -> dict[str, Any]:
    page = {"id": unit.id, "weight": unit.weight, "stream": unit.stream}
    if unit.family == PARQUET:
        return {**page, "pieces": [[p.path, p.start, p.rows] for p in unit.pieces]}
    return {**page, "family": unit.family, "pieces": [places[p.path] for p in unit.pieces]}  # millions of paths: each stands once


def _decode_unit(page: Mapping[str, Any], files: Mapping[str, tuple[str, int, int]], paths: Sequence[str]) -> Unit:
    whole: list[tuple[str, int, int]] = [(paths[one], 0, 1) if isinstance(one, int) else one for one in page["pieces"]]
    pieces = tuple(Piece(path, files[path][0], start, rows) for path, start, rows in whole)
    return Unit(page["id"], pieces, page["weight"], page["stream"], page.get("family", PARQUET))

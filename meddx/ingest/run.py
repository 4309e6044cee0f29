"""Sources in, one dataset directory with its record out: streams, counts everything, writes the record last."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meddx import record, yamlconf
from meddx.errors import BooksError, DataError, OutputError
from meddx.ingest.block import Block, Reader, Reject, path_digest
from meddx.ingest.cases import CaseMaker
from meddx.ingest.columns import Kind
from meddx.ingest.find import WHOLE_FOLDERS, Found, find, locate
from meddx.ingest.joins import Joins, check_joined, open_joins, show_joined
from meddx.ingest.labels import LabelJoin, label_source
from meddx.ingest.opened import open_reader
from meddx.ingest.options import CaseOptions, PatientUnknown, SourceOptions
from meddx.ingest.sniff import Sniffed, sniff
from meddx.ingest.writer import PartsWriter, QuarantineWriter, dataset_digest
from meddx.storage import StoragePath

__all__ = ["Sniffed", "describe", "ingest", "sniff"]

OURS = re.compile(r"\.tmp-[0-9a-f]{32}|(data|quarantine)/part-\d{5,}\.parquet|record\.json|split/.*")


def ingest(
    source: SourceOptions,
    case: CaseOptions,
    text: Sequence[str],
    out: StoragePath,
    *,
    fingerprint: str = "",
    force: bool = False,
    known: Mapping[str, Kind] | None = None,
    progress: Callable[[int], None] | None = None,
    joined: Mapping[str, SourceOptions] | None = None,
) -> dict[str, Any]:
    """Make the dataset `out` and return its record; `reused: True` in it when it was there already and nothing was done.

    `text`: further columns or patterns kept as text.  `known`: column types that a bundle asks for; a value that is not
    of its type is then rejected, instead of making the column text.  `progress` is told the rows read so far.
    `joined`: further sources by name; each becomes a `list<struct>` column of that name (see `ingest.joins`).
    Raises DataError for a source that cannot be read or whose keys meet no case, LeakError for a join that cannot tell what was
    known, OutputError when `out` holds anything else and `force` is not given.
    """
    sources = _Sources(source, dict(joined or {}))
    check_joined(source, sources.joined, case)
    mark = fingerprint or _own_fingerprint(sources, case, text)
    finished = record.read(out)
    if finished is not None and not force:
        return _reuse(finished, out, mark, sources.locate())
    _refuse_strangers(out)
    recorder = record.Recorder("ingest", mark)
    found = sources.find()
    kept_as_text = _kept_as_text(sources, case, text)
    reader = open_reader(found["source"], source, kept_as_text, known or {})
    join = LabelJoin.open(source, found["labels"], reader.schema, kept_as_text) if source.labels else None
    cases = CaseMaker(case, join.schema if join else reader.schema, str(found["source"].origin))
    joins = open_joins(sources.joined, found, case, cases)
    _clear(out)  # only now: what was wrong with the sources was said while the old dataset still stood
    writing = _Writing(cases, joins, PartsWriter(out / "data", joins.schema), QuarantineWriter(out / "quarantine"), progress)
    read = writing.stream(found["source"], reader, join)
    blocks = joins.finish()
    _check_unchanged(sources, found)
    recorder.counts = _balance(read, writing.data, writing.quarantine, out)
    _describe_inputs(recorder, found)
    recorder.more = _facts(reader, join, writing, blocks)
    return recorder.write(out)


@dataclass(frozen=True)
class _Sources:
    """What is read: the source of the cases, its label table, and the joined sources by name."""

    cases: SourceOptions
    joined: dict[str, SourceOptions]

    def each(self) -> dict[str, SourceOptions]:
        labels = {"labels": label_source(self.cases)} if self.cases.labels else {}
        clash = {"source", "labels"} & set(self.joined)
        if clash:
            raise DataError(f"a joined source cannot be named {clash.pop()!r}", "sources", "choose another name")
        return {"source": self.cases, **labels, **self.joined}

    def find(self) -> dict[str, Found]:
        return {role: find(one) for role, one in self.each().items()}

    def locate(self) -> dict[str, Found]:
        return {role: locate(one) for role, one in self.each().items()}


def _balance(read: int, data: PartsWriter, quarantine: QuarantineWriter, out: StoragePath) -> dict[str, int]:
    """The counts for the record.  Raises BooksError when a row was lost, DataError when no row could be used."""
    if read != data.rows + quarantine.total:
        what = f"read {read:,} is not written {data.rows:,} + quarantined {quarantine.total:,}"
        raise BooksError(what, str(out), "report this: no row may be lost")
    if not data.rows:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in quarantine.reasons.most_common(5))
        raise DataError(
            f"none of {read:,} rows can be used: {reasons}", str(out / "quarantine"), "check the keys of the source and the archive"
        )
    return {"read": read, "written": data.rows, "quarantined": quarantine.total}


@dataclass
class _Writing:
    """Where rows go: through the cases and the joins to the parts, or to the quarantine."""

    cases: CaseMaker
    joins: Joins
    data: PartsWriter
    quarantine: QuarantineWriter
    progress: Callable[[int], None] | None

    def stream(self, found: Found, reader: Reader, labels: LabelJoin | None) -> int:
        """Write every row; returns how many there should be, from counts that were taken apart from the writing."""
        lying_by = [Reject(found.root.name, "not_of_format", "", None, path_digest(found.root, one.path)) for one in found.others]
        self.quarantine.add([*reader.rejects, *lying_by])
        self.quarantine.add_beside(self.joins.rejects)
        for unit in reader.units:
            for block in reader.read_unit(unit):
                self._write(labels.join(block) if labels else block, unit.offset)
                if self.progress:
                    self.progress(self.data.taken + self.quarantine.total)
        left = labels.left_over() if labels else []
        self.quarantine.add(left)
        self.data.close()
        self.quarantine.close()
        return reader.expected + len(lying_by) + len(left)

    def _write(self, block: Block, offset: int) -> None:
        self.quarantine.add(block.rejects)
        if block.table.num_rows:
            table, rejects = self.cases.take(block, offset)
            for piece in self.joins.extend(table):
                self.data.write(piece)
            self.quarantine.add(rejects)


def _own_fingerprint(sources: _Sources, case: CaseOptions, text: Sequence[str]) -> str:
    page = {"source": sources.cases.model_dump(mode="json", exclude={"path"}), "case": case.model_dump(mode="json"), "text": sorted(text)}
    if sources.joined:
        page["joined"] = {name: one.model_dump(mode="json", exclude={"path"}) for name, one in sources.joined.items()}
    return yamlconf.fingerprint(page)


def _kept_as_text(sources: _Sources, case: CaseOptions, text: Sequence[str]) -> list[str]:
    """Ids and codes are text from the first byte; so are the columns that part sites, name images or join sources."""
    source, keys = sources.cases, {column for one in sources.joined.values() for column in one.join.values()}
    names = [case.id, None if isinstance(case.patient, PatientUnknown) else case.patient, case.site]
    return [*source.text, *text, *(name for name in names if name), *([source.labels.key] if source.labels else []), *keys]


def _reuse(finished: dict[str, Any], out: StoragePath, mark: str, located: Mapping[str, Found]) -> dict[str, Any]:
    if finished.get("job") != "ingest":
        raise OutputError(f"the folder holds the output of {finished.get('job')!r}", str(out), "choose another folder")
    if finished["fingerprint"] != mark:
        raise OutputError("the folder holds a dataset made in another way", str(out), "choose another folder, or --force to make it anew")
    for role, one in located.items():
        before = finished["inputs"].get(role, {})
        if before.get("versions") != one.versions() and before.get("digest") != one.digests()[0]:
            raise OutputError(
                f"the {role} has changed since the dataset was made", str(out), "choose another folder, or --force to make it anew"
            )
    there = {one.path.relative_to(out): one.size for one in out.list() if one.path.relative_to(out).startswith(("data/", "quarantine/"))}
    if there != {name: facts["bytes"] for name, facts in finished["files"].items()}:
        raise OutputError("files of the dataset are missing or changed", str(out), "--force to make it anew")
    return {**finished, "reused": True}


def _refuse_strangers(out: StoragePath) -> None:
    """Nothing that ingest did not make is ever deleted or mixed with."""
    strangers = [one for one in out.list() if not OURS.fullmatch(one.path.relative_to(out))]
    if strangers:
        raise OutputError(f"the folder holds {len(strangers)} other files", str(out), "choose an empty folder")


def _clear(out: StoragePath) -> None:
    """Remove an older or unfinished dataset, its record first, so that a crash never leaves a record that lies."""
    (out / record.NAME).delete()
    for one in list(out.list()):
        if not one.path.relative_to(out).startswith("split/"):  # the split checks the digest itself; the log of test openings must stay
            one.path.delete()
    out.make_dir()


def _check_unchanged(sources: _Sources, found: Mapping[str, Found]) -> None:
    for role, one in sources.locate().items():
        if one.versions() != found[role].versions():
            what = "the source" if role == "source" else f"the source {role!r}"
            raise DataError(f"{what} changed while it was read", str(one.origin), "run the same command again once it rests")


def _describe_inputs(recorder: record.Recorder, found: Mapping[str, Found]) -> None:
    for role, one in found.items():
        digest, each = one.digests()
        shown = each if one.format not in WHOLE_FOLDERS else {}  # names of image files may name patients
        recorder.add_input(role, one.origin, digest, versions=one.versions(), files=len(one.files), each=shown)


def _facts(reader: Reader, join: LabelJoin | None, writing: _Writing, joined: Mapping[str, Any]) -> dict[str, Any]:
    data, quarantine = writing.data, writing.quarantine
    files = {f"data/{name}": facts for name, facts in data.files.items()} | {
        f"quarantine/{name}": facts for name, facts in quarantine.files.items()
    }
    return {
        "digest": dataset_digest(data.files),
        "reasons": dict(quarantine.reasons.most_common()),
        "columns": {one.name: str(one.type) for one in writing.joins.schema},
        **reader.facts,
        **({"labels": join.facts} if join else {}),
        **({"joined": dict(joined)} if joined else {}),
        "notes": [*reader.notes, *(join.notes if join else []), *writing.cases.notes()],
        "files": files,
    }


def describe(done: Mapping[str, Any]) -> list[str]:
    """The plain lines a user sees: what was found in the source, what was put aside, and the balance line last."""
    counts = done["counts"]
    how = [
        f"{key} {done[key]!r}" if key == "delimiter" else f"{key} {done[key]}"
        for key in ("format", "encoding", "delimiter", "decimal")
        if done.get(key)
    ]
    lines = [", ".join(how)]
    lines += [f"dates of {name!r} read as {order}" for name, order in done.get("date_orders", {}).items()]
    if rules := done.get("pixel_rules"):
        lines.append("pictures made by " + ", ".join(f"{rule} {count:,}" for rule, count in sorted(rules.items())))
    lines += list(done.get("notes", []))
    lines += [f"quarantined as {reason}: {count:,}" for reason, count in done.get("reasons", {}).items()]
    for name, block in done.get("joined", {}).items():
        lines += show_joined(name, block)
    if done.get("reused"):
        lines.append("the dataset was there already, made from the same source in the same way: nothing was done")
    balance = f"read {counts['read']:,} = written {counts['written']:,} + quarantined {counts['quarantined']:,}"
    return [*lines, f"{balance}   ({len(done['columns'])} columns, {done['seconds']:.1f} s)"]

"""One source in, one dataset directory with its record out: streams, counts everything, writes the record last."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meddx import record, yamlconf
from meddx.errors import BooksError, DataError, OutputError
from meddx.ingest.block import Block, Reader, Reject, path_digest
from meddx.ingest.cases import CaseMaker
from meddx.ingest.columns import Kind
from meddx.ingest.find import Found, find
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
) -> dict[str, Any]:
    """Make the dataset `out` and return its record; `reused: True` in it when it was there already and nothing was done.

    `text`: further columns or patterns kept as text.  `known`: column types that a bundle asks for; a value that is not
    of its type is then rejected, instead of making the column text.  `progress` is told the rows read so far.
    Raises DataError for a source that cannot be read, OutputError when `out` holds anything else and `force` is not given.
    """
    found = find(source)
    labels = find(label_source(source)) if source.labels else None
    mark = fingerprint or _own_fingerprint(source, case, text)
    finished = record.read(out)
    if finished is not None and not force:
        return _reuse(finished, out, mark, found, labels)
    _refuse_strangers(out)
    recorder = record.Recorder("ingest", mark)
    kept_as_text = _kept_as_text(source, case, text)
    reader = open_reader(found, source, kept_as_text, known or {})
    join = LabelJoin.open(source, labels, reader.schema, kept_as_text) if labels else None
    cases = CaseMaker(case, join.schema if join else reader.schema, str(found.root))
    _clear(out)  # only now: what was wrong with the source was said while the old dataset still stood
    data, quarantine = PartsWriter(out / "data", cases.schema), QuarantineWriter(out / "quarantine")
    read = _stream(found, reader, join, cases, data, quarantine, progress)
    _check_unchanged(source, found, labels)
    recorder.counts = _balance(read, data, quarantine, out)
    _describe_inputs(recorder, found, labels)
    recorder.more = _facts(reader, join, cases, data, quarantine)
    return recorder.write(out)


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


def _stream(
    found: Found,
    reader: Reader,
    join: LabelJoin | None,
    cases: CaseMaker,
    data: PartsWriter,
    quarantine: QuarantineWriter,
    progress: Callable[[int], None] | None,
) -> int:
    """Write every row; returns how many there should be, from counts that were taken apart from the writing."""
    lying_by = [Reject(found.root.name, "not_of_format", "", None, path_digest(found.root, one.path)) for one in found.others]
    quarantine.add([*reader.rejects, *lying_by])
    for unit in reader.units:
        for block in reader.read_unit(unit):
            _write(join.join(block) if join else block, unit.offset, cases, data, quarantine)
            if progress:
                progress(data.taken + quarantine.total)
    left = join.left_over() if join else []
    quarantine.add(left)
    data.close()
    quarantine.close()
    return reader.expected + len(lying_by) + len(left)


def _write(block: Block, offset: int, cases: CaseMaker, data: PartsWriter, quarantine: QuarantineWriter) -> None:
    quarantine.add(block.rejects)
    if block.table.num_rows:
        table, rejects = cases.take(block, offset)
        data.write(table)
        quarantine.add(rejects)


def _own_fingerprint(source: SourceOptions, case: CaseOptions, text: Sequence[str]) -> str:
    page = {"source": source.model_dump(mode="json", exclude={"path"}), "case": case.model_dump(mode="json"), "text": sorted(text)}
    return yamlconf.fingerprint(page)


def _kept_as_text(source: SourceOptions, case: CaseOptions, text: Sequence[str]) -> list[str]:
    """Ids and codes are text from the first byte; so is the column that parts sites or names images."""
    names = [case.id, None if isinstance(case.patient, PatientUnknown) else case.patient, case.site]
    return [*source.text, *text, *(name for name in names if name), *([source.labels.key] if source.labels else [])]


def _reuse(finished: dict[str, Any], out: StoragePath, mark: str, found: Found, labels: Found | None) -> dict[str, Any]:
    if finished.get("job") != "ingest":
        raise OutputError(f"the folder holds the output of {finished.get('job')!r}", str(out), "choose another folder")
    if finished["fingerprint"] != mark:
        raise OutputError("the folder holds a dataset made in another way", str(out), "choose another folder, or --force to make it anew")
    for role, one in (("source", found), ("labels", labels)):
        before = finished["inputs"].get(role, {})
        if one is not None and before.get("versions") != one.versions() and before.get("digest") != one.digests()[0]:
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


def _check_unchanged(source: SourceOptions, found: Found, labels: Found | None) -> None:
    now = find(source).versions(), find(label_source(source)).versions() if labels else None
    if now != (found.versions(), labels.versions() if labels else None):
        raise DataError("the source changed while it was read", str(found.root), "run the same command again once it rests")


def _describe_inputs(recorder: record.Recorder, found: Found, labels: Found | None) -> None:
    for role, one in (("source", found), ("labels", labels)):
        if one is None:
            continue
        digest, each = one.digests()
        shown = each if one.format not in ("images", "dicom") else {}  # names of image files may name patients
        recorder.add_input(role, one.root, digest, versions=one.versions(), files=len(one.files), each=shown)


def _facts(reader: Reader, join: LabelJoin | None, cases: CaseMaker, data: PartsWriter, quarantine: QuarantineWriter) -> dict[str, Any]:
    files = {f"data/{name}": facts for name, facts in data.files.items()} | {
        f"quarantine/{name}": facts for name, facts in quarantine.files.items()
    }
    return {
        "digest": dataset_digest(data.files),
        "reasons": dict(quarantine.reasons.most_common()),
        "columns": {one.name: str(one.type) for one in cases.schema},
        **reader.facts,
        **({"labels": join.facts} if join else {}),
        "notes": [*reader.notes, *(join.notes if join else [])],
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
    if done.get("reused"):
        lines.append("the dataset was there already, made from the same source in the same way: nothing was done")
    balance = f"read {counts['read']:,} = written {counts['written']:,} + quarantined {counts['quarantined']:,}"
    return [*lines, f"{balance}   ({len(done['columns'])} columns, {done['seconds']:.1f} s)"]

"""A folder and its settings in, one finished population in it: files are written once, `record.json` last."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meddx import record
from meddx.errors import OutputError
from meddx.storage import StoragePath
from meddx.yamlconf import fingerprint

SETTINGS = "settings.json"


def claim(out: StoragePath, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Take `out` for a population made with `settings`.

    Returns the record when the same population stands there finished, None when it is to be made (again, after an
    interruption: the same settings give the same bytes).  OutputError when the folder holds anything else.
    """
    mine = json.dumps(dict(settings), indent=1) + "\n"
    note = out / SETTINGS
    if note.exists():
        if note.read_text() != mine:
            raise OutputError("the folder holds another population", str(out), "choose an empty folder, or delete this one")
        return record.read(out)
    if next(iter(out.list()), None) is not None:
        raise OutputError("the folder is not empty", str(out), "choose an empty folder")
    note.replace(mine.encode())
    return None


def put(path: StoragePath, data: bytes) -> None:
    """Write one file.  Not synced: a population that a power cut has torn has no record, and is made again."""
    path.parent.make_dir()
    with path.filesystem.open_output_stream(path.key) as stream:
        stream.write(data)


def put_table(path: StoragePath, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with `\\n` line ends, so that the bytes do not depend on the system."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    put(path, text.getvalue().encode())


def begin(settings: Mapping[str, Any]) -> record.Recorder:
    """Start the clock of a population's record."""
    recorder = record.Recorder(f"synth {settings['kind']}", fingerprint(dict(settings)))
    recorder.more = {"settings": dict(settings)}
    return recorder


def finish(out: StoragePath, recorder: record.Recorder, counts: Mapping[str, int], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write `record.json` and return it: the settings, the counts, and what is true of the population."""
    recorder.counts = dict(counts)
    recorder.more |= facts
    return recorder.write(out)

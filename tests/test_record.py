"""record.json: what it holds, and that it can be read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from meddx import __version__, record
from meddx.errors import DataError
from meddx.storage import StoragePath


def test_a_record_says_what_went_in_and_what_it_took(tmp_path: Path) -> None:
    folder = StoragePath.of(tmp_path)
    assert record.read(folder) is None
    recorder = record.Recorder("ingest", "abc")
    recorder.add_input("source", "cases.csv", "d1", bytes=3)
    recorder.counts = {"read": 3, "written": 2, "quarantined": 1}
    written = recorder.write(folder)
    found = record.read(folder)
    assert found == written
    assert found["inputs"] == {"source": {"path": "cases.csv", "digest": "d1", "bytes": 3}}
    assert found["counts"]["read"] == 3 and found["fingerprint"] == "abc" and found["meddx"] == __version__
    assert found["seconds"] >= 0 and found["peak_memory_mb"] > 10
    assert set(found["versions"]) >= {"python", "torch", "ray", "numpy"}


def test_a_damaged_record_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(DataError, match="not readable"):
        record.read(StoragePath.of(tmp_path))

"""The two pages about invented archives fit the archives that the generators make."""

from pathlib import Path

import pytest

from meddx import recipe
from meddx.ingest.run import ingest
from meddx.storage import StoragePath
from meddx.synth import table, xray

PAGES = Path(__file__).parents[2] / "jobs" / "recipes"


def test_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDDX_PHANTOM", str(tmp_path / "films"))
    made = xray.make(40, tmp_path / "films")
    page = recipe.load(PAGES / "phantom_xray.yaml")
    found = ingest(page.source, page.case, page.text_columns, StoragePath.of(tmp_path / "dataset"))
    assert found["counts"]["written"] == made["counts"]["readable"]
    lost = made["counts"]["exams"] - made["counts"]["readable"]  # exams of the list whose film is broken
    assert found["counts"]["quarantined"] == made["counts"]["broken"] + lost
    assert {"finding", "site", "image"} <= set(found["columns"])


def test_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDDX_PHANTOM_TABLE", str(tmp_path / "stays"))
    made = table.make(60, tmp_path / "stays")
    page = recipe.load(PAGES / "phantom_table.yaml")
    found = ingest(page.source, page.case, page.text_columns, StoragePath.of(tmp_path / "dataset"))
    counts = made["counts"]
    assert found["counts"] == {"read": counts["rows"], "written": counts["readable"], "quarantined": counts["broken"]}
    assert found["columns"]["ward"] == "string" and found["columns"]["lactate"] == "double"

"""One fixture for the room: ingest something into a fresh folder and look at all that came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.run import ingest
from meddx.storage import StoragePath


@dataclass(frozen=True)
class Made:
    record: dict[str, Any]
    folder: Path
    table: pa.Table
    quarantine: list[dict[str, Any]]

    @property
    def reasons(self) -> list[str]:
        return [row["reason"] for row in self.quarantine]

    def column(self, name: str) -> list[Any]:
        values: list[Any] = self.table.column(name).to_pylist()
        return values


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """make(source keys, case keys, text=..., **ingest arguments): the record, the rows and the quarantine; the balance is checked."""

    def run(source: dict[str, Any], case: dict[str, Any] | None = None, text: tuple[str, ...] = (), out: str = "out", **more: Any) -> Made:
        folder = tmp_path / out
        options = CaseOptions(**(case or {"id": "id", "patient": "@case"}))
        joined = {name: SourceOptions(**{**one, "path": str(one["path"])}) for name, one in more.pop("joined", {}).items()}
        record = ingest(
            SourceOptions(**{**source, "path": str(source["path"])}), options, text, StoragePath.of(folder), joined=joined, **more
        )
        table = pq.read_table(folder / "data")
        rows = pq.read_table(folder / "quarantine").to_pylist() if (folder / "quarantine").exists() else []
        beside = sum(row["source"].startswith(tuple(f"{name}/" for name in joined)) for row in rows) if joined else 0
        own = len(rows) - beside
        assert record["counts"] == {"read": table.num_rows + own, "written": table.num_rows, "quarantined": own}
        assert beside == sum(one["rejected"] for one in record.get("joined", {}).values())
        return Made(record, folder, table, rows)

    return run


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[..., Path]:
    """csv_file(text or bytes, encoding=..., name=...): the file's path."""

    def write(content: str | bytes, encoding: str = "utf-8", name: str = "cases.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write

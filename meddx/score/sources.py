"""A folder, a file or a dataset in; its Parquet files with versions, rows and row groups out.

Only footers are read here.  A file whose footer cannot be read is named, with a reason, and never guessed at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from meddx import record
from meddx.errors import DataError, StorageError
from meddx.storage import FileInfo, StoragePath

SUFFIXES = (".parquet", ".pq")
FOOTER_THREADS = 8  # reading footers waits for storage; more threads than cores is right


@dataclass(frozen=True)
class SourceFile:
    """One readable Parquet file.  `groups`: (rows, bytes before compression) of each row group."""

    path: str
    version: str
    size: int
    groups: tuple[tuple[int, int], ...]
    columns: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.groups)


@dataclass(frozen=True)
class Broken:
    """A file that is there, but whose number of rows cannot be known."""

    path: str
    version: str
    reason: str


def find_root(data: StoragePath) -> StoragePath:
    """Where the Parquet files lie: of a dataset its `data` folder.  DataError for a missing place or an unfinished dataset."""
    inner = data / "data"
    if (data / record.NAME).exists() and inner.is_dir():
        return inner
    if not data.exists():
        raise DataError("there is no such data", str(data), "check the path")
    if data.is_dir() and inner.is_dir() and not any(_wanted(info, data) for info in data.list(recursive=False)):
        raise DataError(
            "this looks like a dataset that was not finished: it has a `data` folder and no record.json",
            str(data),
            "run the same `meddx ingest` again; or name the `data` folder itself, to score it as any folder of Parquet",
        )
    return data


def list_files(root: StoragePath) -> dict[str, FileInfo]:
    """Relative path -> listed file, sorted.  Names that begin with `_` or `.` are skipped, as all readers of Parquet do."""
    if not root.is_dir():
        return {root.name: root.info()}
    found = {info.path.relative_to(root): info for info in root.list() if _wanted(info, root)}
    return dict(sorted(found.items()))


def locate(root: StoragePath, path: str) -> StoragePath:
    """The storage path of a file that `list_files` named; a root that is a file is its own only member."""
    return root if root.uri.endswith(SUFFIXES) and root.name == path else root / path


def read_footers(root: StoragePath, files: Mapping[str, FileInfo]) -> tuple[list[SourceFile], list[Broken]]:
    """The footers of these files, in the order of their paths."""
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        read = list(pool.map(lambda item: _read_footer(root, *item), sorted(files.items())))
    return [one for one in read if isinstance(one, SourceFile)], [one for one in read if isinstance(one, Broken)]


def data_digest(data: StoragePath, versions: Iterable[tuple[str, str]]) -> str:
    """The dataset's own digest where there is one, else a digest of the names and versions of the files."""
    if (data / record.NAME).exists() and (made := record.read(data)) and made.get("digest"):
        return str(made["digest"])
    text = "\n".join(f"{path}\t{version}" for path, version in sorted(versions))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _wanted(info: FileInfo, root: StoragePath) -> bool:
    path = info.path.relative_to(root)
    return info.path.suffix in SUFFIXES and not any(part.startswith(("_", ".")) for part in path.split("/"))


def _read_footer(root: StoragePath, path: str, info: FileInfo) -> SourceFile | Broken:
    with info.path.open() as stream:
        try:
            footer = pq.read_metadata(stream)
            groups = tuple((footer.row_group(i).num_rows, footer.row_group(i).total_byte_size) for i in range(footer.num_row_groups))
            columns = tuple(footer.schema.to_arrow_schema().names)
        except (OSError, pa.ArrowException) as error:
            return Broken(path, info.version, _why_broken(info, error))
    return SourceFile(path, info.version, info.size, groups, columns)


def _why_broken(info: FileInfo, error: Exception) -> str:
    """The file's fault, or the storage's?  Reading its ends as plain bytes tells; StorageError when that fails too."""
    try:
        with info.path.open() as stream:
            ends = stream.read(4) + stream.read_at(4, max(info.size - 4, 0))
    except OSError:
        raise StorageError("a file could not be read", str(info.path), "check the storage and run the same command again") from error
    return "footer_unreadable" if b"PAR1" in ends else "not_parquet"

"""A folder, a file, a pattern or a dataset in; its files with versions, rows and row groups out.

Of Parquet only footers are read here; of pictures nothing, for each file is one row.  A file whose number of rows cannot be known is
named, with a reason, and never guessed at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from meddx import record
from meddx.errors import DataError, OutputError, StorageError
from meddx.ingest.find import ENDINGS, FOLDER_FORMATS, ending, pattern_root, picture_format
from meddx.storage import JUNK, FileInfo, StoragePath

PARQUET = "parquet"
SUFFIXES = (".parquet", ".pq")
PICTURE_BYTES = 32 << 10  # a picture weighs at least this much: opening, decoding and answering take their time, however small it is
JUNK_FILE = "junk_file"
Tell = Callable[[str, int, int], None]  # what is done, how far, of how many (0: not known)
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
FOOTER_THREADS = 8  # reading footers waits for storage; more threads than cores is right


@dataclass(frozen=True)
class SourceFile:
    """One readable file.  `groups`: (rows, bytes before compression) of each row group; a picture is one row."""

    path: str
    version: str
    size: int
    groups: tuple[tuple[int, int], ...]
    columns: tuple[str, ...]
    family: str = PARQUET

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
    """Where the files lie: of a dataset its `data` folder, of a pattern what stands before it.

    DataError for a missing place or an unfinished dataset.
    """
    if _is_pattern(data):
        return pattern_root(data)[0]
    inner = data / "data"
    if (data / record.NAME).exists() and inner.is_dir():
        return inner
    if not data.exists():
        raise DataError("there is no such data", str(data), "check the path")
    if data.is_dir() and inner.is_dir() and not any(_is_parquet(info, data) for info in data.list(recursive=False)):
        raise DataError(
            "this looks like a dataset that was not finished: it has a `data` folder and no record.json",
            str(data),
            "run the same `meddx ingest` again; or name the `data` folder itself, to score it as any folder",
        )
    return data


@dataclass(frozen=True)
class Listing:
    """What lies below `root`, by path, sorted: files of one `family`, `parquet` or a format of folders of pictures."""

    root: StoragePath
    family: str
    files: dict[str, FileInfo]


def list_data(data: StoragePath, tell: Tell | None = None) -> Listing:
    """The files of `data` that are read.

    Parquet: names that begin with `_` or `.` are skipped, as all readers do, and other files.  Pictures: every file, as in ingest,
    for archives often have no endings.  DataError for a folder that holds both, or pictures of several formats.
    """
    root = find_root(data)
    found = [root.info()] if not _is_pattern(data) and not root.is_dir() else list(_told(root.list(), tell))
    if _is_pattern(data):
        pattern = pattern_root(data)[1]
        found = [info for info in found if pattern.fullmatch(info.path.relative_to(root))]
    tables = [info for info in found if _is_parquet(info, root)]
    if tables:
        _refuse_mixture(root, tables, found)
    family = PARQUET if tables else picture_format(root, found)
    chosen = tables if family in (PARQUET, None) else found
    return Listing(root, family or PARQUET, {info.path.relative_to(root): info for info in chosen})


def _told(found: Iterable[FileInfo], tell: Tell | None) -> Iterator[FileInfo]:
    for number, info in enumerate(found, 1):
        if tell is not None and number % 1000 == 0:
            tell("listing the data, files", number, 0)
        yield info


def check_apart(listing: Listing, out: StoragePath) -> None:
    """OutputError where predictions would lie among the files that are scored: the next night would take them for files."""
    inside = f"{out.uri}/".startswith(f"{listing.root.uri}/")
    if inside and not (listing.family == PARQUET and _is_hidden(FileInfo(out, 0, ""), listing.root)):
        raise OutputError("the output lies inside of the data", str(out), "give another folder with --out")


def list_files(root: StoragePath) -> dict[str, FileInfo]:
    """Relative path -> listed file."""
    return list_data(root).files


def _refuse_mixture(root: StoragePath, tables: Sequence[FileInfo], files: Sequence[FileInfo]) -> None:
    pictures = sum(ENDINGS.get(ending(info.path.name)) in FOLDER_FORMATS and not _is_hidden(info, root) for info in files)
    if pictures:
        what = f"the folder holds {len(tables):,} Parquet files and {pictures:,} pictures"
        raise DataError(what, str(root), "name one kind by a pattern in quotes, such as '**/*.parquet' or '**/*.dcm' below the folder")


def locate(root: StoragePath, path: str) -> StoragePath:
    """The storage path of a file that `list_files` named; a root that is a file is its own only member."""
    return root if root.name == path and not root.is_dir() else root / path


def partitions(path: str) -> dict[str, str | None]:
    """What the folders of a file say, as Hive writes them: `site=north/year=2024/f.parquet` is {site: north, year: 2024}, all text."""
    pairs = (folder.partition("=") for folder in path.split("/")[:-1])
    found = {unquote(key): unquote(value) for key, mark, value in pairs if key and mark}
    return {key: None if value == HIVE_NULL else value for key, value in found.items()}


def read_footers(
    root: StoragePath, files: Mapping[str, FileInfo], family: str = PARQUET, tell: Tell | None = None
) -> tuple[list[SourceFile], list[Broken]]:
    """The footers of these files, in the order of their paths; of pictures nothing is read."""
    if family != PARQUET:
        return _pictures(files, family)
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        read = []
        for one in pool.map(lambda item: _read_footer(root, *item), sorted(files.items())):
            read.append(one)
            if tell is not None:
                tell("reading footers, files", len(read), len(files))
    return [one for one in read if isinstance(one, SourceFile)], [one for one in read if isinstance(one, Broken)]


def data_digest(data: StoragePath, versions: Iterable[tuple[str, str]]) -> str:
    """The dataset's own digest where there is one, else a digest of the names and versions of the files."""
    if (data / record.NAME).exists() and (made := record.read(data)) and made.get("digest"):
        return str(made["digest"])
    text = "\n".join(f"{path}\t{version}" for path, version in sorted(versions))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_pattern(data: StoragePath) -> bool:
    return any(mark in data.uri for mark in "*?") and not data.exists()


def _is_parquet(info: FileInfo, root: StoragePath) -> bool:
    return info.path.suffix in SUFFIXES and not _is_hidden(info, root)


def _is_hidden(info: FileInfo, root: StoragePath) -> bool:
    return any(part.startswith(("_", ".")) for part in info.path.relative_to(root).split("/"))


def _pictures(files: Mapping[str, FileInfo], family: str) -> tuple[list[SourceFile], list[Broken]]:
    """A row each; what a desktop left behind is named, and is no row."""
    from meddx.score.pictures import columns_of

    columns = columns_of(family)
    junk = {path for path, info in files.items() if info.path.name in JUNK or info.path.name.startswith("._")}
    rows = [
        SourceFile(path, info.version, info.size, ((1, max(info.size, PICTURE_BYTES)),), columns, family)
        for path, info in sorted(files.items())
        if path not in junk
    ]
    return rows, [Broken(path, files[path].version, JUNK_FILE) for path in sorted(junk)]


def _read_footer(root: StoragePath, path: str, info: FileInfo) -> SourceFile | Broken:
    """On S3 a file is broken only when a second look says so, too: a byte may flip on the way, and the plan never changes."""
    found = _look_at_footer(path, info)
    return _look_at_footer(path, info) if isinstance(found, Broken) and info.path.on_s3 else found


def _look_at_footer(path: str, info: FileInfo) -> SourceFile | Broken:
    with info.path.open(info) as stream:
        try:
            file = pq.ParquetFile(stream)  # as the reader will open it: what cannot be opened then is known now
            about = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            groups = tuple((one.num_rows, one.total_byte_size) for one in about)
            columns = (*file.schema_arrow.names, *partitions(path))
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names that are no text
            return Broken(path, info.version, _why_broken(info, error))
    if any(rows < 0 for rows, _ in groups) or sum(rows for rows, _ in groups) != file.metadata.num_rows:  # a damaged count
        return Broken(path, info.version, "footer_unreadable")
    return SourceFile(path, info.version, info.size, groups, columns)


def _why_broken(info: FileInfo, error: Exception) -> str:
    """The file's fault, or the storage's?  Reading its ends as plain bytes tells; StorageError when that fails too."""
    try:
        with info.path.open() as stream:
            ends = stream.read(4) + stream.read_at(4, max(info.size - 4, 0))
    except OSError:
        raise StorageError("a file could not be read", str(info.path), "check the storage and run the same command again") from error
    return "footer_unreadable" if b"PAR1" in ends else "not_parquet"

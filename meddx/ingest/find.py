"""A path, pattern or folder in, the files of one format family out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from meddx.errors import DataError
from meddx.ingest.archive import Unpacked, is_archive, unpack
from meddx.ingest.options import SourceOptions
from meddx.storage import JUNK, FileInfo, StoragePath

ENDINGS = {
    ".csv": "csv", ".txt": "csv", ".data": "csv", ".tsv": "tsv", ".tab": "tsv", ".xlsx": "xlsx", ".parquet": "parquet", ".pq": "parquet",
    ".hea": "wfdb", ".dat": "wfdb", ".atr": "wfdb",
    ".iob": "iob", ".iob2": "iob", ".bio": "iob", ".conll": "iob",
    ".npz": "medmnist", ".png": "images", ".jpg": "images", ".jpeg": "images", ".dcm": "dicom", ".dicom": "dicom",
    ".nii": "nifti",
}  # fmt: skip
FOLDER_FORMATS = ("images", "dicom", "nifti")  # a file is a row (of a DICOM series: a slice of one)
WHOLE_FOLDERS = (*FOLDER_FORMATS, "wfdb")  # every file of the folder belongs to the source
ALSO = {"iob": ("csv", "tsv")}  # endings of another format under which files of this one go about, where the page names it
LISTED_ONE_BY_ONE = 1000


@dataclass(frozen=True)
class Found:
    """`files` are to be read, `others` lie beside them and are not of the format; `archive` is what they were unpacked from."""

    format: str
    root: StoragePath
    files: tuple[FileInfo, ...]
    others: tuple[FileInfo, ...] = ()
    archive: FileInfo | None = None
    holder: Unpacked | None = field(default=None, repr=False, compare=False)  # the unpacked files live as long as this object

    @property
    def origin(self) -> StoragePath:
        """What the recipe names: the archive, or the root."""
        return self.archive.path if self.archive else self.root

    @property
    def is_folder(self) -> bool:
        return len(self.files) + len(self.others) > 1 or self.root.uri != self.files[0].path.uri

    def versions(self) -> str:
        """One digest over (relative path, version) of every file: changes when a file is touched."""
        if self.archive:
            return _digest_of([(self.archive.path.name, self.archive.version)])
        return _digest_of((one.path.relative_to(self.root), one.version) for one in (*self.files, *self.others))

    def digests(self) -> tuple[str, dict[str, str]]:
        """(digest of the source, {file: SHA-256}).  Of more than 1000 files only the versions are taken, and the dict is empty."""
        if self.archive:
            return self.archive.path.digest(), {}
        if len(self.files) + len(self.others) > LISTED_ONE_BY_ONE:
            return self.versions(), {}
        each = {one.path.relative_to(self.root): one.path.digest() for one in (*self.files, *self.others)}
        return (next(iter(each.values())) if len(each) == 1 else _digest_of(each.items())), each


def _digest_of(pairs: object) -> str:
    return hashlib.sha256("\n".join("\t".join(pair) for pair in sorted(pairs)).encode()).hexdigest()  # type: ignore[call-overload]


def ending(name: str) -> str:
    """The ending that says the format: `.csv` for `a.csv.gz`."""
    found = re.search(r"(\.[a-z0-9]+)(?:\.gz)?$", name.lower())
    return found.group(1) if found else ""


def find(source: SourceOptions) -> Found:
    """The files that `source.path` names; an archive is unpacked.  Raises DataError when there are none, or the format is left open."""
    found = locate(source)
    if found.archive is None:
        return found
    holder = unpack(found.archive)
    files = list(holder.folder.list())
    inside = _sort(source, _top(holder.folder, files), files)
    return replace(inside, archive=found.archive, holder=holder)


def _top(folder: StoragePath, files: Sequence[FileInfo]) -> StoragePath:
    """Most archives hold one folder that is named as they are: it is the root, so that names do not begin with it."""
    while files:
        first = {one.path.relative_to(folder).partition("/")[0] for one in files}
        if len(first) > 1 or any("/" not in one.path.relative_to(folder) for one in files):
            break
        folder = folder / first.pop()
    return folder


def locate(source: SourceOptions) -> Found:
    """As `find`, but an archive stays packed: enough to know versions and digests."""
    path = StoragePath.of(source.path)
    if path.is_dir():
        return _sort(source, path, list(path.list()))
    if any(mark in path.uri for mark in "*?") and not path.exists():
        return _by_pattern(source, path)
    if not path.exists():
        raise DataError("the source is not there", str(path), "check the key `path`; `${MEDDX_...}` is filled in from the environment")
    if is_archive(path):
        return Found("archive", path, (path.info(),), archive=path.info())
    return Found(_format_of(source, path), path, (path.info(),))


def _by_pattern(source: SourceOptions, path: StoragePath) -> Found:
    root, pattern = pattern_root(path)
    files = [one for one in root.list() if pattern.fullmatch(one.path.relative_to(root))]
    if not files:
        raise DataError("no file matches the pattern", str(path), "check the key `path`")
    return _sort(source, root, files)


def _regex(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*|\?)", pattern)
    known = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(part, re.escape(part)) for part in parts)


def _format_of(source: SourceOptions, path: StoragePath) -> str:
    if source.format != "auto":
        return source.format
    known = ENDINGS.get(ending(path.name))
    if known is None:
        raise DataError(f"the ending {ending(path.name) or 'of the file'} says no format", str(path), "add the key `format`")
    return known


def _sort(source: SourceOptions, root: StoragePath, files: Sequence[FileInfo]) -> Found:
    if not files:
        raise DataError("the folder holds no file", str(root), "check the key `path`")
    wanted = source.format if source.format != "auto" else _format_of_many(root, files)
    if wanted in WHOLE_FOLDERS:  # archives often have no endings: every file is tried
        return Found(wanted, root, tuple(files))
    mine = tuple(one for one in files if ENDINGS.get(ending(one.path.name)) in (wanted, *ALSO.get(wanted, ())))
    if not mine:
        raise DataError(f"no file of the format {wanted} in the folder", str(root), "check the keys `path` and `format`")
    if wanted == "medmnist" and len(mine) > 1:
        raise DataError(f"{len(mine)} .npz files, and a source is one of them", str(root), "name the file in the key `path`")
    return Found(wanted, root, mine, tuple(one for one in files if one not in mine))


def _format_of_many(root: StoragePath, files: Sequence[FileInfo]) -> str:
    counts = Counter(ENDINGS[ending(one.path.name)] for one in files if ending(one.path.name) in ENDINGS)
    images = [name for name in WHOLE_FOLDERS if counts[name]]
    if images:  # a table beside images is their label table, not the source
        counts = Counter({name: counts[name] for name in images})
    if not counts:
        if any(_is_dicom(one) for one in files[:20]):
            return "dicom"
        raise DataError("no file's ending says a format", str(root), "add the key `format`")
    if len(counts) > 1:
        raise _several(counts, root, "add the key `format`, or a pattern such as *.csv")
    return next(iter(counts))


def picture_format(root: StoragePath, files: Sequence[FileInfo]) -> str | None:
    """Which of FOLDER_FORMATS the files are: by their endings; where no ending says one, DICOM by the first bytes; None for none.

    Raises DataError where there are several.
    """
    counts = Counter(known for one in files if (known := ENDINGS.get(ending(one.path.name))) in FOLDER_FORMATS)
    if len(counts) > 1:
        raise _several(counts, root, "name one of them by a pattern such as '**/*.dcm'")
    if counts:
        return next(iter(counts))
    unnamed = [one for one in files if ending(one.path.name) not in ENDINGS and one.path.name not in JUNK]
    return "dicom" if any(_is_dicom(one) for one in unnamed[:20]) else None


def _several(counts: Counter[str], root: StoragePath, advice: str) -> DataError:
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return DataError(f"the folder holds several formats: {listed}", str(root), advice)


def pattern_root(path: StoragePath) -> tuple[StoragePath, re.Pattern[str]]:
    """The folder above the first `*` or `?` of a path, and what the paths below it must match; `**/` is any number of folders."""
    parts = path.uri.split("/")
    first = next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?"))
    return StoragePath("/".join(parts[:first])), re.compile(_regex("/".join(parts[first:])))


def _is_dicom(file: FileInfo) -> bool:
    with file.path.open() as stream:
        return bool(stream.read(132)[128:] == b"DICM")

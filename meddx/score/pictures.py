"""Files of a folder of pictures in; rows out, as `meddx ingest` of the folder would make them.

One file is one row.  Its case_id is its path below the root, for that is there and unique whatever the files hold; the patient is
DICOM's PatientID.  A file that ingest would put into quarantine is a row with the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import pyarrow as pa

from meddx.ingest.block import Block
from meddx.ingest.cases import not_finite
from meddx.ingest.find import Found
from meddx.ingest.folder import FolderReader, open_folder
from meddx.ingest.options import SourceOptions
from meddx.score.ids import ID, PATIENT
from meddx.score.rows import Chunk
from meddx.score.sources import locate
from meddx.score.units import Piece, UnitFailed
from meddx.storage import FileInfo, StoragePath

PATH, PATIENT_OF = "file_path", "dicom_patient_id"
HEAD_THREADS = 16  # they wait, and do nothing else


@lru_cache
def columns_of(family: str) -> tuple[str, ...]:
    """The columns of every row of this family."""
    nothing = StoragePath("/nothing")
    return (ID, PATIENT, *_open(nothing, family, [FileInfo(nothing, 0, "")]).schema.names)


def unread(piece: Piece) -> Chunk:
    """The row with nothing but its id."""
    return Chunk(0, 1, pa.table({ID: pa.array([piece.path], pa.string())}))


@dataclass(frozen=True)
class PictureReader:
    """Reads pieces of one family below `root`; of their columns those that are `wanted`."""

    root: StoragePath
    family: str
    wanted: Sequence[str]

    def chunks(self, pieces: Sequence[Piece]) -> Iterator[Chunk]:
        """The rows of the pieces in their order, decoded by a few threads; runs of good rows, and single bad ones.

        UnitFailed where a file is not the one that was planned, StorageError where it cannot be read.
        """
        files = self._check(pieces)
        reader, done = _open(self.root, self.family, files), 0
        for unit in reader.units:
            for block in reader.read_unit(unit):
                count = block.table.num_rows + len(block.rejects)
                self._check(pieces[done : done + count])
                yield from self._runs(block, pieces[done : done + count], unit.offset - done)
                done += count

    def _check(self, pieces: Sequence[Piece]) -> list[FileInfo]:
        paths = [locate(self.root, piece.path) for piece in pieces]
        if self.root.on_s3:
            with ThreadPoolExecutor(min(HEAD_THREADS, len(paths))) as pool:
                files = list(pool.map(StoragePath.info, paths))
        else:
            files = [path.info() for path in paths]
        if any(file.version != piece.version for file, piece in zip(files, pieces, strict=True)):
            raise UnitFailed("source_changed", "a file changed since it was planned")
        return files

    def _runs(self, block: Block, pieces: Sequence[Piece], offset: int) -> Iterator[Chunk]:
        """`offset`: what takes a row number of the block (from 1, in its unit) to its place among the pieces."""
        places = [int(row) - 1 + offset for row in block.rows]
        table = self._named(block.table, [pieces[place].path for place in places])
        reasons = {(reject.row or 0) - 1 + offset: reject.reason for reject in block.rejects}
        reasons.update({places[row]: reason for row, reason in not_finite(block.table).items()})
        good = iter([row for row, place in enumerate(places) if place not in reasons])
        run: list[int] = []
        for place in range(len(pieces)):
            if place not in reasons:
                run.append(next(good))
                continue
            if run:
                yield Chunk(0, len(run), table.take(run))
                run = []
            yield replace(unread(pieces[place]), error=reasons[place])
        if run:
            yield Chunk(0, len(run), table.take(run) if len(run) < table.num_rows else table)

    def _named(self, table: pa.Table, paths: Sequence[str]) -> pa.Table:
        patients = table.column(PATIENT_OF) if PATIENT_OF in table.column_names else pa.nulls(table.num_rows, pa.string())
        columns = {name: table.column(name) for name in self.wanted if name in table.column_names}
        return pa.table({**columns, ID: pa.array(paths, pa.string()), PATIENT: patients})


def _open(root: StoragePath, family: str, files: Sequence[FileInfo]) -> FolderReader:
    return open_folder(Found(family, root, tuple(files)), SourceOptions.model_validate({"path": str(root), "format": family}))

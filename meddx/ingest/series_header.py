"""One DICOM file in; where its picture lies in space and which series it is of, or why it is no slice, out.

Only the header is read: the first 256 KB, which hold it in all but odd files, and of these no pixel.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from typing import Any

from meddx.ingest import dicom
from meddx.ingest.folder import refused
from meddx.ingest.headers import Unreadable
from meddx.storage import FileInfo

HEAD = 1 << 18
_ENDED = 16  # a parser that stops this close to the end may have run out of bytes
SCANS = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in (2, 4, 128))  # CT, MR, PET: one file, one slice
BROKEN = "?"
_NO_PICTURE = ("not_an_image", "no rows or columns: a report or a state")
_NO_CLASS = ("header_incomplete", "neither a class nor a picture: a cut file")
QUANTITIES = ("CT", "PT", "NM")  # their numbers mean the same whatever the display; of all others more shall be brighter, as in pictures
TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType", "Rows", "Columns",
    "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slice:
    """A picture of a series.  `position`, `orientation` and `spacing` (mm; between rows, between columns) are None where not given.

    `rows` is 0 where the header is cut before it; `slope` and `intercept` are NaN where they are no numbers.  `kind`: what all slices of a
    series share beside their place: patient, study, modality, sizes, photometric interpretation.
    """

    file: FileInfo
    series: str
    study: str
    uid: str
    sop_class: str
    kind: tuple[object, ...]
    rows: int
    columns: int
    dtype: str
    inverted: bool
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float
    intercept: float


def read_slice(file: FileInfo) -> Slice | Unreadable:
    """The slice that a file holds, or why it is none.  Faults of the storage are raised: they are not the file's fault.

    Reasons: those of every file, not_an_image (reports, presentation states, scouts), multi_frame, pixels_unsupported (colours),
    header_incomplete (no series, no class).  A picture that is broken and says its series is a slice: its series must not pass for whole.
    """
    if why_not := refused(file):
        return why_not
    with file.path.open() as stream:
        head = bytes(stream.read(HEAD))
    if file.size > len(head) and (dicom.DEFLATED.encode() in head[:1024] or not _fits(head)):
        head = file.path.read_bytes()
    try:
        return _slice(file, _parsed(head))
    except Unreadable as why:
        return why
    except Exception as error:  # the edge: whatever the parser raises about content is this file's, and only this file's
        return Unreadable("file_unreadable", type(error).__name__)


def _fits(head: bytes) -> bool:
    """Whether the header ends before these bytes do: parsed whole, it stops at the pixels."""
    import pydicom

    stream = io.BytesIO(head)
    try:
        pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=["Rows"], force=True)
    except Exception:  # cut in the middle, or damaged: the whole file will tell
        return False
    return stream.tell() < len(head) - _ENDED


def _parsed(data: bytes) -> Any:
    return dicom.parsed(data, stop_before_pixels=True, specific_tags=TAGS)


def _slice(file: FileInfo, header: Any) -> Slice:
    rows, columns = _count(header, "Rows"), _count(header, "Columns")
    position = _numbers(header, "ImagePositionPatient", 3)
    # The second stands at the very beginning, where a cut spares it.
    sop_class = _text(header, "SOPClassUID") or _text(header.file_meta, "MediaStorageSOPClassUID")
    if min(rows, columns) < 1 and position is None and sop_class not in SCANS:
        raise Unreadable(*_NO_PICTURE if sop_class else _NO_CLASS)
    if "LOCALIZER" in _text(header, "ImageType").upper():
        raise Unreadable("not_an_image", "a scout")
    if _count(header, "NumberOfFrames") > 1:
        raise Unreadable("multi_frame", "several frames in a file are not read yet")
    if _count(header, "SamplesPerPixel") > 1 or "ModalityLUTSequence" in header:
        raise Unreadable("pixels_unsupported", "a colour picture, or values behind a table, are no slice")
    if _text(header, "SeriesInstanceUID") in ("", BROKEN):
        raise Unreadable("header_incomplete", "a picture without a series")
    modality, photometric = _text(header, "Modality"), _text(header, "PhotometricInterpretation")
    return Slice(
        file,
        _text(header, "SeriesInstanceUID"),
        _text(header, "StudyInstanceUID"),
        _text(header, "SOPInstanceUID"),
        sop_class,
        (_text(header, "PatientID"), _text(header, "StudyInstanceUID"), modality, rows, columns, photometric),
        min(rows, columns) and rows,
        columns,
        _dtype(header),
        photometric == "MONOCHROME1" and modality not in QUANTITIES,
        position,
        _numbers(header, "ImageOrientationPatient", 6),
        _numbers(header, "PixelSpacing", 2),
        _number(header, "RescaleSlope", 1.0) or math.nan,
        _number(header, "RescaleIntercept", 0.0),
    )


def _dtype(header: Any) -> str:
    """The type of its stored values; sizes that are not read are refused with the pixels."""
    signed = "" if not _count(header, "PixelRepresentation") else "-"
    wide = (_count(header, "BitsAllocated") or 16) > 8
    return {("", False): "uint8", ("-", False): "int8", ("", True): "uint16", ("-", True): "int16"}[signed, wide]


def _get(header: Any, name: str) -> Any:
    """The value of a field; BROKEN where it cannot be understood: the slice then stays one of its series, and spoils it."""
    try:
        return header.get(name)
    except (ValueError, TypeError, OverflowError, NotImplementedError, AttributeError, KeyError, IndexError, struct.error):
        return BROKEN


def _count(header: Any, name: str) -> int:
    """0 where it is not there, or is no number."""
    try:
        return int(_get(header, name) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _text(header: Any, name: str) -> str:
    value = _get(header, name)
    return "" if value is None else str(value).strip().strip("\x00").strip()


def _number(header: Any, name: str, default: float) -> float:
    """NaN for what is no finite number."""
    found = _numbers(header, name, 1)
    return found[0] if found else default if _get(header, name) in (None, "") else math.nan


def _numbers(header: Any, name: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, else None."""
    value = _get(header, name)
    if value is None or value == "":
        return None
    try:
        found = tuple(float(one) for one in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None

"""One DICOM file in; a lossless picture and the few header fields a model may use out."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from meddx.ingest.headers import MAX_FILE_BYTES, Unreadable
from meddx.ingest.pixels import check_header, to_png

TEXTS = {
    "sop_instance_uid": "SOPInstanceUID", "accession_number": "AccessionNumber", "dicom_patient_id": "PatientID", "modality": "Modality",
    "manufacturer": "Manufacturer", "model_name": "ManufacturerModelName", "body_part": "BodyPartExamined",
    "view_position": "ViewPosition", "patient_sex": "PatientSex",
}  # fmt: skip
NUMBERS = ("patient_age_years", "pixel_rows", "pixel_columns", "spacing_row_mm", "spacing_col_mm")
FIELDS: list[tuple[str, pa.DataType]] = [
    *((name, pa.string()) for name in TEXTS), *((name, pa.float64()) for name in NUMBERS), ("acquired_at", pa.string()),
]  # fmt: skip
DEFLATED = "1.2.840.10008.1.2.1.99"
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def decode(data: bytes) -> dict[str, Any]:
    """The columns of FIELDS, `image`, and `_rule` (how the picture was made).

    Raises Unreadable with a reason, and whatever pydicom raises for content that breaks its parser.
    """
    dataset = parsed(data)
    check_header(dataset)
    try:
        image, rule = to_png(dataset)
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, IndexError) as error:
        raise Unreadable(why(error), type(error).__name__) from error
    return {**header_fields(dataset), "image": image, "_rule": rule}


def why(error: Exception) -> str:
    """The reason code of what a pixel decoder raised: pydicom has no error classes for this, only words."""
    words = str(error).lower()
    if "does not support" in words or isinstance(error, NotImplementedError):
        return "syntax_unsupported"
    return "image_truncated" if re.search("less than|smaller|not enough|expected|length", words) else "pixels_unreadable"


def parsed(data: bytes, **options: Any) -> Any:
    """The data set of a file; `options` go to `dcmread`.  Raises Unreadable: not_dicom, image_bomb (deflated), or as pydicom does."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    _refuse_inflation(data)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), **options)
    except InvalidDicomError:
        dataset = _without_preamble(data, options)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
        )
    return dataset


def _without_preamble(data: bytes, options: Mapping[str, Any]) -> Any:
    """Old archives hold files without the 128 bytes and `DICM`; one with a class, a size and pixels is believed."""
    import pydicom

    if data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        raise Unreadable("not_dicom", "it does not begin like DICOM")
    dataset = pydicom.dcmread(io.BytesIO(data), force=True, **options)
    if "SOPClassUID" not in dataset:
        raise Unreadable("not_dicom", "no SOP class in it")
    return dataset


def _refuse_inflation(data: bytes) -> None:
    """A deflated data set is unpacked while it is parsed, so its size is measured first, piece by piece."""
    if DEFLATED.encode() not in data[:1024]:
        return
    import pydicom

    stream = io.BytesIO(data)
    pydicom.filereader.read_preamble(stream, force=True)
    meta = pydicom.filereader._read_file_meta_info(stream)
    if str(meta.get("TransferSyntaxUID", "")) != DEFLATED:
        return
    unpacker, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, stream.read()
    while rest and size <= MAX_FILE_BYTES:
        size += len(unpacker.decompress(rest, 1 << 24))
        rest = unpacker.unconsumed_tail
    if size > MAX_FILE_BYTES:
        raise Unreadable("image_bomb", "its deflated content is too large")


def header_fields(dataset: Any) -> dict[str, Any]:
    """The header columns; what is not there, or not readable, is None."""
    spacing = _numbers(dataset, "PixelSpacing") or _numbers(dataset, "ImagerPixelSpacing")
    fields: dict[str, Any] = {name: _text(dataset, keyword) for name, keyword in TEXTS.items()}
    fields.update(
        patient_age_years=age_in_years(_text(dataset, "PatientAge")),
        pixel_rows=float(dataset.Rows),
        pixel_columns=float(dataset.Columns),
        spacing_row_mm=spacing[0] if len(spacing) == 2 else None,
        spacing_col_mm=spacing[1] if len(spacing) == 2 else None,
        acquired_at=_acquired_at(dataset),
    )
    return fields


def _text(dataset: Any, keyword: str) -> str | None:
    value = dataset.get(keyword)
    text = "" if value is None else str(value).strip().strip("\x00").strip()
    return text.encode("utf-8", "replace").decode() or None


def _numbers(dataset: Any, keyword: str) -> list[float]:
    value = dataset.get(keyword)
    try:
        numbers = [float(one) for one in value] if value else []
    except (TypeError, ValueError):
        return []
    return numbers if all(0 < number < 1000 for number in numbers) else []


def age_in_years(text: str | None) -> float | None:
    """045Y, 006M, 002W, 010D as years; None for anything else."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text or "")
    return round(int(match[1]) * YEARS[match[2]], 4) if match else None


def _acquired_at(dataset: Any) -> str | None:
    """YYYY-MM-DDTHH:MM:SS, from the acquisition, else the content, series or study date; a zone only where the file gives it."""
    stamp = _text(dataset, "AcquisitionDateTime") or ""
    zone = _text(dataset, "TimezoneOffsetFromUTC") or ""
    if not re.match(r"\d{8}", stamp):
        for name in ("Acquisition", "Content", "Series", "Study"):
            if day := _text(dataset, f"{name}Date"):
                stamp = day.replace(".", "") + (_text(dataset, f"{name}Time") or "").replace(":", "")
                break
    match = re.match(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})?(\d{2})?(?:\.\d+)?)?([+-]\d{4})?$", stamp)
    if match is None:
        return None
    year, month, day, hour, minute, second, own_zone = match.groups()
    found = own_zone or zone
    ending = f"{found[:3]}:{found[3:]}" if re.fullmatch(r"[+-]\d{4}", found) else ""
    return f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}{ending}"

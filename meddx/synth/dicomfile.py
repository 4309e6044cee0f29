"""One film and its exam in, the bytes of one DICOM file out: 12 bits stored in 16, as a CR or DX machine stores them."""

from __future__ import annotations

import hashlib
import io
from datetime import date, timedelta
from typing import Any

import numpy as np

from meddx.synth.phantom import Picture
from meddx.synth.population import Exam

CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
DX_IMAGE = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
WHITE = 4095  # 12 bits
SIDE_MM = 400.0  # the film's side


def uid(seed: int, *parts: object) -> str:
    """A unique identifier `2.25.<128 bits>` (DICOM PS3.5 B.2) that is the same for the same parts."""
    digest = hashlib.sha256("/".join(["meddx-synth", str(seed), *map(str, parts)]).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def dicom_bytes(film: Picture, exam: Exam, seed: int) -> bytes:
    """A whole DICOM file.  `film` is [size, size] in 0..1, brightness as displayed."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX_IMAGE if exam.scanner.modality == "DX" else CR_IMAGE
    meta.MediaStorageSOPInstanceUID = uid(seed, "instance", exam.accession)
    meta.TransferSyntaxUID = EXPLICIT_LITTLE_ENDIAN
    meta.ImplementationVersionName = "MEDDX_SYNTH"
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _who(header, exam, seed)
    _how(header, exam)
    if exam.scanner.modality == "DX":
        _digital_x_ray(header)
    _pixels(header, film, exam)
    if exam.scanner.packed:
        header.compress(RLE_LOSSLESS, encoding_plugin="gdcm", generate_instance_uid=False)
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _who(header: Any, exam: Exam, seed: int) -> None:
    day = date(2024, 1, 1) + timedelta(days=(exam.patient * 7 + exam.number * 40) % 700)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID = uid(seed, "study", exam.accession)
    header.SeriesInstanceUID = uid(seed, "series", exam.accession)
    header.StudyID, header.SeriesNumber, header.InstanceNumber = str(exam.number + 1), 1, 1
    header.AccessionNumber = exam.accession
    header.PatientID = exam.patient_no
    header.PatientName = f"Phantom^{exam.patient_no}"
    header.PatientBirthDate = ""
    header.PatientSex, header.PatientAge = exam.sex, f"{exam.age:03d}Y"
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = day.strftime("%Y%m%d")
    header.StudyTime = header.ContentTime = header.AcquisitionTime = "080000"
    header.ReferringPhysicianName = ""


def _how(header: Any, exam: Exam) -> None:
    header.Modality = exam.scanner.modality
    header.Manufacturer, header.ManufacturerModelName = exam.scanner.maker, exam.scanner.model
    header.InstitutionName = exam.site.name
    header.BodyPartExamined, header.ViewPosition, header.Laterality = "CHEST", "PA", ""
    header.KVP, header.Exposure = f"{exam.covariates[4]:.0f}", f"{round(exam.covariates[3])}"
    header.BurnedInAnnotation = "YES"  # some films have letters; the sender does not look
    header.ImageType = ["DERIVED", "PRIMARY", ""]
    header.LossyImageCompression = "00"
    header.PatientOrientation = ["L", "F"]


def _digital_x_ray(header: Any) -> None:
    """What the DX image must have beyond CR (DICOM PS3.3 A.26)."""
    from pydicom.dataset import Dataset

    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    header.AnatomicRegionSequence = [region]
    header.PresentationIntentType = "FOR PRESENTATION"
    header.ImageLaterality = "U"
    header.DetectorType = "DIRECT"
    header.PixelIntensityRelationship, header.PixelIntensityRelationshipSign = "LOG", -1
    header.AcquisitionContextSequence = []


def _pixels(header: Any, film: Picture, exam: Exam) -> None:
    scanner = exam.scanner
    stored = np.round(film * WHITE).astype("<u2")
    if scanner.inverted:
        stored = (WHITE - stored).astype("<u2")
    header.Rows, header.Columns = film.shape
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PhotometricInterpretation = "MONOCHROME1" if scanner.inverted else "MONOCHROME2"
    header.PresentationLUTShape = "INVERSE" if scanner.inverted else "IDENTITY"
    header.PixelSpacing = header.ImagerPixelSpacing = [round(SIDE_MM / film.shape[0], 4), round(SIDE_MM / film.shape[1], 4)]
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = scanner.rescale, 1, "US"
    header.WindowCenter, header.WindowWidth = (WHITE + 1) / 2 + scanner.rescale, WHITE + 1
    header.PixelData = stored.tobytes()

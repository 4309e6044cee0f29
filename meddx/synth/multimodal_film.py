"""Strengths of shadows in, DICOM chest films out: small, 12 bits stored in 16, made by filling in one pattern.

The film's score is (contrast of the shadow - 0.3) / 0.08.  The noise has nothing in the direction of the shadow, so least squares
with the shadow's place gives the contrast back exactly, up to rounding to 12 bits.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from meddx.synth.dicomfile import CR_IMAGE, EXPLICIT_LITTLE_ENDIAN, WHITE, uid

Picture = NDArray[np.float64]
SIDE = 32  # pixels
CONTRAST = (0.3, 0.08)  # at score 0, and what one deviation of the score adds
RADIUS = 4.5  # pixels
CENTRES = ((11.0, 9.5), (11.0, 22.5))  # row, column, of the upper part of each lung
SHIFT = 2.0  # pixels, either way
NOISE = 0.02
PATIENT, ACCESSION, INSTANCE, STAMP = "P" * 8, "A" * 8, "1" * 10, "20230101000000"  # what is filled in, of the same length


def shadow(row: float, column: float) -> Picture:
    """A round shadow of height 1 with a soft edge, [SIDE, SIDE]."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    far = np.sqrt((rows - row) ** 2 + (columns - column) ** 2)
    return np.asarray(np.clip(RADIUS + 0.5 - far, 0, 1), np.float64)


def film(score: float, rng: np.random.Generator) -> Picture:
    """Brightness as displayed, in 0..1."""
    row, column = CENTRES[int(rng.integers(2))] + rng.uniform(-SHIFT, SHIFT, 2)
    where = shadow(float(row), float(column))
    noise = rng.normal(0, NOISE, (SIDE, SIDE))
    noise -= where * ((noise * where).sum() / (where * where).sum())
    return np.clip(CHEST + noise + (CONTRAST[0] + CONTRAST[1] * score) * where, 0, 1)


def _chest() -> Picture:
    """Two dark lungs in a bright body."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    lungs = [((rows - 14.0) / 11.0) ** 2 + ((columns - middle) / 6.5) ** 2 < 1 for _, middle in CENTRES]
    return np.where(np.any(lungs, axis=0), 0.25, 0.4)


CHEST = _chest()


@dataclass(frozen=True)
class FilmPattern:
    """One DICOM file of which patient, accession number, instance, stamp and pixels are replaced by others of the same length."""

    data: bytes

    @classmethod
    def make(cls, seed: int) -> FilmPattern:
        """The pattern of one archive."""
        from pydicom.dataset import FileDataset, FileMetaDataset

        root = uid(seed, "multimodal")[:40] + "."
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CR_IMAGE, root + INSTANCE
        meta.TransferSyntaxUID, meta.ImplementationVersionName = EXPLICIT_LITTLE_ENDIAN, "MEDDX_SYNTH"
        header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = CR_IMAGE, root + INSTANCE
        header.StudyInstanceUID, header.SeriesInstanceUID = root + "2." + INSTANCE, root + "3." + INSTANCE
        header.AccessionNumber, header.PatientID, header.PatientName, header.PatientBirthDate = ACCESSION, PATIENT, f"Phantom^{PATIENT}", ""
        header.AcquisitionDateTime, header.Modality, header.BodyPartExamined, header.ViewPosition = STAMP, "CR", "CHEST", "AP"
        header.Manufacturer, header.ManufacturerModelName = "Meddx Phantoms", "Mobile 10"
        header.Rows, header.Columns, header.SamplesPerPixel, header.PixelRepresentation = SIDE, SIDE, 1, 0
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PhotometricInterpretation = 16, 12, 11, "MONOCHROME2"
        header.PixelData = bytes(2 * SIDE * SIDE)
        stream = io.BytesIO()
        header.save_as(stream, enforce_file_format=True)
        return cls(stream.getvalue()[: -2 * SIDE * SIDE])

    def fill(self, picture: Picture, patient: str, accession: str, taken: datetime) -> bytes:
        """A whole DICOM file; `patient` and `accession` have eight characters."""
        head = self.data
        instance = f"{int(accession) + 10**9:010d}"
        for old, new in ((PATIENT, patient), (ACCESSION, accession), (INSTANCE, instance), (STAMP, f"{taken:%Y%m%d%H%M%S}")):
            assert len(old) == len(new), "lengths stand in the file, so they must not change"
            head = head.replace(old.encode(), new.encode())
        return head + np.round(picture * WHITE).astype("<u2").tobytes()

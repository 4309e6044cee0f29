import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest

from meddx.synth.dicomfile import CR_IMAGE, DX_IMAGE, RLE_LOSSLESS, dicom_bytes, uid
from meddx.synth.phantom import picture
from meddx.synth.population import SCANNERS, exams

EXAM = exams(3, 0)[0]


def read_back(scanner: str, **changes: Any) -> tuple[Any, np.ndarray]:
    exam = replace(EXAM, scanner=SCANNERS[scanner], **changes)
    film, _ = picture(exam, 0, 64)
    return pydicom.dcmread(io.BytesIO(dicom_bytes(film, exam, 0))), film


@pytest.mark.parametrize("scanner", list(SCANNERS))
def test_pixels_come_back_as_shown(scanner: str) -> None:
    header, film = read_back(scanner)
    stored = header.pixel_array.astype(float)
    shown = 4095 - stored if header.PhotometricInterpretation == "MONOCHROME1" else stored
    assert stored.max() <= 4095
    assert np.abs(shown - film * 4095).max() <= 0.5001


@pytest.mark.parametrize("scanner", list(SCANNERS))
def test_the_header_says_who_what_and_how(scanner: str) -> None:
    header, _ = read_back(scanner)
    assert (header.AccessionNumber, header.PatientID) == (EXAM.accession, EXAM.patient_no)
    assert header.PatientAge == f"{EXAM.age:03d}Y" and header.PatientSex in ("F", "M")
    assert (header.BodyPartExamined, header.ViewPosition) == ("CHEST", "PA")
    assert (header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation) == (16, 12, 11, 0)
    assert list(header.PixelSpacing) == [6.25, 6.25]
    assert header.Manufacturer and header.ManufacturerModelName == SCANNERS[scanner].model
    assert header.SOPClassUID == header.file_meta.MediaStorageSOPClassUID == (DX_IMAGE if header.Modality == "DX" else CR_IMAGE)
    assert header.SOPInstanceUID == header.file_meta.MediaStorageSOPInstanceUID
    assert len({header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID}) == 3


def test_scanners_differ_in_what_a_reader_must_know() -> None:
    headers = {name: read_back(name)[0] for name in SCANNERS}
    assert headers["beta"].PhotometricInterpretation == "MONOCHROME1"
    assert headers["gamma"].file_meta.TransferSyntaxUID == RLE_LOSSLESS and headers["gamma"].Modality == "DX"
    assert headers["delta"].RescaleIntercept == -1000
    assert headers["delta"].WindowCenter == 1048 and headers["alpha"].WindowCenter == 2048


def test_values_fit_their_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for name in SCANNERS:
        header, _ = read_back(name)
        header.walk(lambda dataset, element: element.value)  # each value is checked when it is first used


def test_identifiers_are_valid_and_depend_on_seed_and_parts() -> None:
    one = uid(0, "study", "00000001")
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d{0,38})", one) and pydicom.uid.UID(one).is_valid
    assert one == uid(0, "study", "00000001")
    assert len({one, uid(1, "study", "00000001"), uid(0, "series", "00000001"), uid(0, "study", "00000002")}) == 4

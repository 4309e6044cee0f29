"""Real DICOM files of many syntaxes become pictures; broken ones become quarantined rows."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless, SecondaryCaptureImageStorage, generate_uid

from meddx.ingest import dicom, headers
from meddx.ingest.headers import Unreadable
from meddx.ingest.run import describe

CASE = {"id": "file_name", "patient": "dicom_patient_id"}


def shipped(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def film(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **fields: object) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    bits = pixels.dtype.itemsize * 8
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if pixels.ndim == 3 else (1, "MONOCHROME2")
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in fields.items():
        setattr(dataset, name, value)
    return dataset


def bytes_of(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def pixels_of(image: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    return decoded[..., ::-1] if decoded.ndim == 3 else decoded


def reason(data: bytes) -> str:
    with pytest.raises(Unreadable) as why:
        dicom.decode(data)
    return why.value.reason


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm"]
)
def test_every_lossless_syntax_gives_the_same_pixels(name):
    assert dicom.decode(shipped(name).read_bytes())["image"] == dicom.decode(shipped("MR_small.dcm").read_bytes())["image"]


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("JPEG2000.dcm", (1024, 256), np.uint16),
        ("JPEGLSNearLossless_08.dcm", (45, 10), np.uint8),
        ("SC_rgb_jpeg_gdcm.dcm", (100, 100, 3), np.uint8),
        ("SC_rgb_rle_16bit.dcm", (100, 100, 3), np.uint16),
        ("examples_palette.dcm", (350, 800, 3), np.uint8),
        ("SC_ybr_full_422_uncompressed.dcm", (100, 100, 3), np.uint8),
        ("image_dfl.dcm", (512, 512), np.uint8),
        ("ExplVR_BigEnd.dcm", (60, 80, 3), np.uint8),
    ],
)
def test_syntaxes_and_colours(name, shape, dtype):
    pixels = pixels_of(dicom.decode(shipped(name).read_bytes())["image"])
    assert (pixels.shape, pixels.dtype) == (shape, dtype)


def test_colours_are_in_their_order():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 200
    assert np.array_equal(pixels_of(dicom.decode(bytes_of(film(pixels)))["image"]), pixels)


def test_header_fields():
    row = dicom.decode(shipped("CT_small.dcm").read_bytes())
    assert row["modality"] == "CT"
    assert row["manufacturer"] == "GE MEDICAL SYSTEMS"
    assert (row["pixel_rows"], row["pixel_columns"]) == (128.0, 128.0)
    assert (row["spacing_row_mm"], row["spacing_col_mm"]) == (0.661468, 0.661468)
    assert row["acquired_at"] == "1997-04-30T11:29:36-05:00"
    assert row["body_part"] is None
    assert set(row) == {name for name, _ in dicom.FIELDS} | {"image", "_rule"}


@pytest.mark.parametrize(
    ("text", "years"), [("045Y", 45.0), ("006M", 0.5), ("002W", 0.0383), ("010D", 0.0274), ("45", None), ("", None), (None, None)]
)
def test_age(text, years):
    assert dicom.age_in_years(text) == years


@pytest.mark.parametrize(
    ("fields", "stamp"),
    [
        ({"AcquisitionDateTime": "20200102030405.5+0100"}, "2020-01-02T03:04:05+01:00"),
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "0304"}, "2020-01-02T03:04:00"),
        ({"StudyDate": "20200102"}, "2020-01-02T00:00:00"),
        ({"StudyDate": "2020.01.02", "StudyTime": "030405", "TimezoneOffsetFromUTC": "-0500"}, "2020-01-02T03:04:05-05:00"),
        ({}, None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_acquired_at(fields, stamp):
    assert dicom.decode(bytes_of(film(np.zeros((4, 4), np.uint8), **fields)))["acquired_at"] == stamp


def test_a_folder_of_all_that_pydicom_ships(tmp_path, make):
    for name in (
        "MR_small.dcm",
        "CT_small.dcm",
        "SC_rgb_rle.dcm",
        "MR_truncated.dcm",
        "badVR.dcm",
        "rtplan.dcm",
        "SC_rgb_rle_2frame.dcm",
        "JPGExtended.dcm",
    ):
        shutil.copy(shipped(name), tmp_path / name)
    whole = tmp_path / "files"
    whole.mkdir()
    for path in tmp_path.glob("*.dcm"):
        path.rename(whole / path.name)
    (whole / "text.dcm").write_text("this is no DICOM file")
    (whole / "half.dcm").write_bytes((whole / "CT_small.dcm").read_bytes()[:20_000])
    (whole / "head.dcm").write_bytes((whole / "CT_small.dcm").read_bytes()[:200])
    (whole / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (whole / "empty.dcm").write_bytes(b"")
    (whole / "bomb.dcm").write_bytes(bytes_of(film(np.zeros((4, 4), np.uint8), Rows=60_000, Columns=60_000)))
    made = make({"path": whole}, CASE)
    assert sorted(made.column("case_id")) == ["CT_small.dcm", "MR_small.dcm", "SC_rgb_rle.dcm"]
    digests = {hashlib.sha256(path.name.encode()).hexdigest()[:16]: path.name for path in whole.iterdir()}
    assert {digests[one["path_digest"]]: one["reason"] for one in made.quarantine} == {
        "MR_truncated.dcm": "image_truncated", "badVR.dcm": "file_unreadable", "rtplan.dcm": "no_pixels",
        "SC_rgb_rle_2frame.dcm": "multi_frame", "JPGExtended.dcm": "syntax_unsupported", "text.dcm": "not_dicom",
        "half.dcm": "image_truncated", "head.dcm": "no_pixels",
        ".DS_Store": "junk_file", "empty.dcm": "file_empty", "bomb.dcm": "image_bomb",
    }  # fmt: skip
    assert made.record["pixel_rules"] == {"window": 1, "full_range": 1, "colour": 1}
    assert "pictures made by colour 1, full_range 1, window 1" in describe(made.record)


def test_a_file_without_preamble_is_believed_when_it_has_all_it_needs():
    data = bytes_of(film(np.full((4, 4), 7, np.uint8)))
    assert pixels_of(dicom.decode(data[132:])["image"])[0, 0] == 7
    assert reason(b"\x08\x00 but then nothing") in ("not_dicom", "no_pixels")


def test_sizes_are_checked_before_any_pixel(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("pixels were touched")

    monkeypatch.setattr(dicom, "to_png", never)
    small = np.zeros((4, 4), np.uint8)
    assert reason(bytes_of(film(small, Rows=65_000, Columns=65_000))) == "image_bomb"
    assert reason(bytes_of(film(small, NumberOfFrames=2))) == "multi_frame"
    assert reason(bytes_of(film(small, BitsAllocated=32))) == "pixels_unsupported"
    assert reason(bytes_of(film(small, Rows=0))) == "header_incomplete"


def test_a_compressed_stream_larger_than_its_header_is_refused():
    if not cv2.haveImageWriter("a.jp2"):
        pytest.skip("this OpenCV writes no JPEG 2000")
    stream = cv2.imencode(".jp2", np.zeros((64, 64), np.uint8))[1].tobytes()
    honest = film(np.zeros((64, 64), np.uint8), JPEG2000Lossless, PixelData=encapsulate([stream]))
    honest["PixelData"].VR = "OB"
    assert pixels_of(dicom.decode(bytes_of(honest))["image"]).shape == (64, 64)
    honest.Rows = honest.Columns = 8
    assert reason(bytes_of(honest)) == "header_wrong"


def test_a_deflated_bomb_is_measured_before_it_is_parsed(monkeypatch):
    data = bytes_of(film(np.zeros((2000, 2000), np.uint8), DeflatedExplicitVRLittleEndian))
    assert len(data) < 40_000
    assert pixels_of(dicom.decode(data)["image"]).shape == (2000, 2000)
    monkeypatch.setattr(dicom, "MAX_FILE_BYTES", 1_000_000)
    assert reason(data) == "image_bomb"


def test_labels_by_accession_number(tmp_path, make):
    films = tmp_path / "films"
    films.mkdir()
    for i, accession in enumerate(["A1", "A1", "A2", ""]):
        dataset = film(np.full((4, 4), i, np.uint8), AccessionNumber=accession, PatientID=f"P{i}")
        (films / f"{i}.dcm").write_bytes(bytes_of(dataset))
    (tmp_path / "reports.csv").write_text("acc,finding\nA1,yes\nA2,no\nA3,no\n")
    labels = {"path": str(tmp_path / "reports.csv"), "key": "acc", "match": "accession_number"}
    made = make({"path": films, "labels": labels}, {"id": "sop_instance_uid", "patient": "dicom_patient_id"})
    assert made.column("finding") == ["yes", "yes", "no", None]
    assert made.column("patient_id") == ["P0", "P1", "P2", "P3"]
    assert made.reasons == ["no_image"]


def test_predict_at_from_the_acquisition(tmp_path, make):
    (tmp_path / "a.dcm").write_bytes(bytes_of(film(np.zeros((4, 4), np.uint8), AcquisitionDateTime="20200102030405")))
    made = make({"path": tmp_path / "a.dcm"}, {"id": "file_stem", "patient": "@case", "predict_at": "acquired_at", "zone": "UTC"})
    assert made.column("predict_at")[0].isoformat() == "2020-01-02T03:04:05+00:00"


def test_odd_values_warn_nobody(tmp_path, make):
    """pydicom warns of odd values; in this test run a warning is an error, so this fails where one gets out of the threads."""
    dataset = film(np.zeros((4, 4), np.uint8))
    data = bytes_of(dataset).replace(b"1.2.840.10008.5.1.4.1.1.7", b"1.2.840.10008.5.1.4.1.1.x")
    (tmp_path / "a.dcm").write_bytes(data)
    assert make({"path": tmp_path / "a.dcm"}, CASE).table.num_rows == 1


def test_the_real_series(shared_data, tmp_path, make):
    import tarfile

    films = tmp_path / "series"
    with tarfile.open(shared_data / "dicom_mr_series/structural.tar.xz") as archive:
        slices = [one for one in archive if one.isfile()][:60]
        archive.extractall(films, members=slices, filter="data")
    made = make({"path": films, "format": "dicom"}, {"id": "sop_instance_uid", "patient": "dicom_patient_id"})
    assert made.table.num_rows == len(slices) == 60
    assert set(made.column("modality")) == {"MR"}
    assert headers.picture_size(made.column("image")[0]).pixels == made.column("pixel_rows")[0] * made.column("pixel_columns")[0]

"""DICOM series become volumes whose voxels lie where the files say; what is no volume is put aside with the reason."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

from meddx.errors import DataError
from meddx.ingest import series, series_geometry, series_header, volume
from meddx.ingest.find import find
from meddx.ingest.options import SourceOptions
from meddx.ingest.run import describe
from meddx.storage import StoragePath

CASE = {"id": "series_instance_uid", "patient": "dicom_patient_id"}
CT, MR, SR, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{one}" for one in ("2", "4", "88.11", "7"))
AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]
VALUES = np.random.default_rng(0).integers(0, 4000, (6, 4, 5)).astype(np.uint16)  # [slices, rows, columns]


def picture(pixels: np.ndarray, place, uid: str = "1.2.3", orientation=AXIAL, **fields) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = fields.get("SOPClassUID", CT)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID, made.StudyInstanceUID, made.PatientID, made.Modality = uid, "1.2", "P1", "CT"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = bits, bits, bits - 1, int(pixels.dtype.kind == "i")
    made.ImagePositionPatient, made.ImageOrientationPatient, made.PixelSpacing = list(map(float, place)), orientation, [0.5, 0.75]
    made.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def stack(values=VALUES, gap=2.0, **fields) -> list[FileDataset]:
    """Axial slices from z = 10 up; instance numbers run the other way."""
    return [picture(one, (-3, -4, 10 + gap * i), InstanceNumber=len(values) - i, **fields) for i, one in enumerate(values)]


def save(folder: Path, files, names=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(files):
        one.save_as(folder / (names[i] if names else f"{i:03d}.dcm"), enforce_file_format=True)
    return folder


def scan(packed: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(packed))


def rows_of(folder: Path) -> tuple[list[dict], list[tuple[str, str]]]:
    """(rows, rejects as (reason, detail)) straight from the reader, its books checked."""
    source = SourceOptions(path=str(folder), format="dicom", series=True)
    reader = series.open_series(find(source), source)
    rows, rejects = [], list(reader.rejects)
    for unit in reader.units:
        for block in reader.read_unit(unit):
            rows += block.table.to_pylist()
            rejects += block.rejects
    assert reader.expected == len(rows) + len(rejects)
    return rows, [(one.reason, one.detail) for one in rejects]


def only_reason(folder: Path, files) -> str:
    rows, rejects = rows_of(save(folder, files))
    assert not rows and len(rejects) == 1
    return rejects[0][0]


def test_a_series_is_a_row(tmp_path, make):
    fields = {"AccessionNumber": "A7", "PatientSex": "F", "PatientAge": "042Y", "RescaleSlope": 1, "RescaleIntercept": -1024}
    files = stack(**fields)
    for i, one in enumerate(files):
        one.AcquisitionDateTime = f"20200102030{i}05"
    made = make({"path": save(tmp_path / "s", files), "series": True}, CASE)
    assert made.record["counts"] == {"read": 1, "written": 1, "quarantined": 0}
    row = made.table.to_pylist()[0]
    image = scan(row.pop("volume"))
    assert row == {
        "case_id": "1.2.3", "patient_id": "P1", "file_name": "s", "file_stem": "s", "file_path": ".", "study_instance_uid": "1.2",
        "accession_number": "A7", "modality": "CT", "manufacturer": None, "model_name": None, "body_part": None, "patient_sex": "F",
        "patient_age_years": 42.0, "acquired_at": "2020-01-02T03:05:05", "slices": 6.0, "pixel_rows": 4.0, "pixel_columns": 5.0,
        "spacing_row_mm": 0.5, "spacing_col_mm": 0.75, "slice_mm": 2.0,
    }  # fmt: skip
    assert np.array_equal(image.get_fdata(), VALUES.transpose(2, 1, 0) - 1024.0)
    assert image.header.get_data_dtype() == np.uint16  # as stored; the intercept stands in the header
    assert np.allclose(image.affine, [[-0.75, 0, 0, 3], [0, -0.5, 0, 4], [0, 0, 2, 10], [0, 0, 0, 1]])
    assert describe(made.record)[:2] == ["format dicom", "6 slices make 1 volumes, as far as their headers tell"]
    assert (made.record["series"], made.record["slices"]) == (1, 6)


def test_every_voxel_lies_where_its_file_says(tmp_path):
    """Against equation C.7.6.2.1-1 of DICOM PS3.3, voxel by voxel, for a plane turned in space."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    across, down = turn[:, 0], turn[:, 1]
    normal = np.cross(across, down)
    start = np.array([5.0, -7.0, 11.0])
    orientation = [float(f"{one:.12f}") for one in (*across, *down)]
    files = [picture(one, np.round(start + 1.25 * i * normal, 9), orientation=orientation) for i, one in enumerate(VALUES)]
    rows, rejects = rows_of(save(tmp_path / "s", files))
    image = scan(rows[0]["volume"])
    assert not rejects
    for i, j, k in ((0, 0, 0), (5, 3, 4), (2, 1, 3)):  # slice, row, column
        lps = start + 1.25 * i * normal + across * 0.75 * k + down * 0.5 * j
        assert np.allclose((image.affine @ [k, j, i, 1])[:3], lps * [-1, -1, 1], atol=1e-4)
        assert image.get_fdata()[k, j, i] == VALUES[i, j, k]
    assert np.linalg.det(image.affine[:3, :3]) > 0


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), numbers=st.lists(st.integers(0, 99), min_size=6, max_size=6), nested=st.booleans())
def test_names_and_order_on_disk_change_nothing(tmp_path_factory, order, numbers, nested):
    files = stack()
    for one, number in zip(files, numbers, strict=True):
        one.InstanceNumber = number
    base = tmp_path_factory.mktemp("scans")
    straight, mixed = base / "a" / "s", base / "b" / "s"
    for name in ("", "x", "y"):
        (mixed / name).mkdir(parents=True, exist_ok=True)
    save(straight, files)
    names = [f"{'xy'[i % 2] + '/' if nested else ''}IM{place:02d}" for i, place in enumerate(order)]
    save(mixed, files, names)
    first, second = rows_of(straight), rows_of(mixed)
    assert first == second and first[0][0]["slices"] == 6
    shutil.rmtree(base)


SAVED = [pydicom.filebase.DicomBytesIO() for _ in range(6)]
for _one, _stream in zip(stack(), SAVED, strict=True):
    _one.save_as(_stream, enforce_file_format=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_damage_costs_rows_and_raises_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("broken")
    which = data.draw(st.integers(0, 5))
    for i, stream in enumerate(SAVED):
        content = bytearray(stream.getvalue())
        if i == which:
            content = content[: data.draw(st.integers(0, len(content)))]
            for _ in range(data.draw(st.integers(0, 4))):
                if content:
                    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (folder / f"{i}.dcm").write_bytes(content)
    rows, rejects = rows_of(folder)
    assert len(rows) + len(rejects) >= 1
    if rows and rows[0]["slices"] == 6 and not rejects:  # the damage was in what nobody reads, or in one slice's values
        values = scan(rows[0]["volume"]).get_fdata().transpose(2, 1, 0)
        assert np.array_equal(np.delete(values, which, 0), np.delete(VALUES, which, 0))
    shutil.rmtree(folder)


def moved(i: int, place) -> list[FileDataset]:
    files = stack()
    files[i].ImagePositionPatient = list(place)
    return files


def with_field(name: str, value: object, which: int = 2) -> list[FileDataset]:
    files = stack()
    setattr(files[which], name, value)
    return files


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (lambda: stack()[:1], "one_slice"),
        (lambda: stack()[:2] + stack()[3:], "slice_missing"),
        (lambda: moved(3, (-3, -4, 15.0)), "slice_missing"),
        (lambda: stack()[:3] + stack()[2:], "slice_twice"),
        (lambda: stack() + stack(), "slice_twice"),  # two echoes, or two phases
        (lambda: [picture(one, (-3, -4 + 0.5 * i, 10 + 2 * i)) for i, one in enumerate(VALUES)], "gantry_tilt"),
        (lambda: moved(3, (-3, 2, 16.0)), "series_mixed"),
        (lambda: stack()[:3] + [picture(VALUES[0][:, :4], (-3, -4, 16))], "series_mixed"),
        (lambda: with_field("PixelSpacing", [0.5, 0.5]), "series_mixed"),
        (lambda: with_field("PatientID", "P2"), "series_mixed"),
        (lambda: with_field("ImageOrientationPatient", [0.9962, 0.0872, 0, -0.0872, 0.9962, 0]), "series_mixed"),
        (lambda: [*stack()[:3], *[picture(one, (0, 0, i), orientation=SAGITTAL) for i, one in enumerate(VALUES[:3])]], "series_mixed"),
        (lambda: stack(PixelSpacing=[0, 0.5]), "spacing_bad"),
        (lambda: stack(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "spacing_bad"),
        (lambda: with_field("ImageOrientationPatient", [0, 9, 0, 0, 0, -1]), "spacing_bad"),  # damage, and no scout
        (lambda: stack(ImagePositionPatient=None), "position_missing"),
        (lambda: with_field("ImagePositionPatient", None), "position_missing"),
        (lambda: with_field("RescaleSlope", 0), "header_wrong"),
        (lambda: stack(Rows=30_000, Columns=30_000), "volume_too_large"),
        (lambda: with_field("PixelData", VALUES[0].tobytes()[:-4]), "slice_truncated"),
        (lambda: with_field("BitsAllocated", 32), "slice_unreadable"),
    ],
)
def test_reasons(tmp_path, files, reason):
    assert only_reason(tmp_path / "s", files()) == reason


def test_a_cut_slice_names_how_many(tmp_path):
    folder = save(tmp_path / "s", stack())
    for name in ("001.dcm", "004.dcm"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-10])
    assert rows_of(folder) == ([], [("slice_truncated", "2 of 6 slices: image_truncated 2")])


def test_a_slice_cut_in_its_header_spoils_the_series_at_its_end_too(tmp_path):
    """Cut after the series and before the size: dropped, the rest would look whole."""
    folder = save(tmp_path / "s", stack())
    data = (folder / "005.dcm").read_bytes()
    (folder / "005.dcm").write_bytes(data[: data.index(b"\x28\x00\x02\x00")])
    assert rows_of(folder) == ([], [("slice_truncated", "1 of 6 slices: no size in the header")])


@pytest.mark.parametrize("name", ["RescaleSlope", "ImagePositionPatient", "PixelSpacing", "NumberOfFrames"])
@pytest.mark.filterwarnings("ignore")
def test_a_last_slice_with_a_broken_field_spoils_its_series(tmp_path, name):
    folder = save(tmp_path / "s", stack(RescaleSlope=1, NumberOfFrames=1))
    assert len(rows_of(folder)[0]) == 1
    data = bytearray((folder / "005.dcm").read_bytes())
    tag = pydicom.tag.Tag(name)
    place = data.index(struct.pack("<HH", tag.group, tag.elem)) + 8  # behind its kind and length
    data[place : place + 2] = b"x?"
    (folder / "005.dcm").write_bytes(data)
    assert rows_of(folder)[0] == []


def test_an_archive(tmp_path, make):
    save(tmp_path / "scans" / "p1" / "deep", stack())
    with tarfile.open(tmp_path / "scans.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "scans", "scans")
    made = make({"path": tmp_path / "scans.tar.gz", "series": True}, CASE)
    assert (made.column("file_name"), made.column("slices")) == (["deep"], [6.0])


def test_what_is_no_picture_is_left_out_and_counted(tmp_path, make):
    folder = save(tmp_path / "s", stack())
    report = picture(VALUES[0], (0, 0, 0), SOPClassUID=SR, Modality="SR")
    for name in ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(report, name)
    scout = picture(np.zeros((9, 9), np.uint16), (0, 0, 0), orientation=SAGITTAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    unsaid = picture(np.zeros((9, 9), np.uint16), (0, 0, 0), orientation=SAGITTAL)
    capture = picture(np.zeros((9, 9), np.uint16), (0, 0, 0), SOPClassUID=CAPTURE, Modality="OT")
    del capture.ImagePositionPatient, capture.ImageOrientationPatient
    frames = picture(np.zeros((8, 5), np.uint16), (0, 0, 0), uid="1.9", NumberOfFrames=2, Rows=4)
    colour = picture(np.zeros((4, 15), np.uint8), (0, 0, 0), SamplesPerPixel=3, Columns=5, PlanarConfiguration=0)
    save(folder / "more", [report, scout, unsaid, capture, frames, colour])
    (folder / "DICOMDIR.txt").write_text("no DICOM at all")
    (folder / ".DS_Store").write_bytes(b"1")
    made = make({"path": folder, "series": True, "format": "dicom"}, CASE)
    assert made.column("slices") == [6.0]
    assert made.record["counts"] == {"read": 9, "written": 1, "quarantined": 8}
    digests = {hashlib.sha256(str(path.relative_to(folder)).encode()).hexdigest()[:16]: path.name for path in folder.rglob("*")}
    assert {digests[one["path_digest"]]: one["reason"] for one in made.quarantine} == {
        "000.dcm": "not_an_image", "001.dcm": "not_an_image", "002.dcm": "not_an_image", "003.dcm": "not_an_image",
        "004.dcm": "multi_frame", "005.dcm": "pixels_unsupported", "DICOMDIR.txt": "not_dicom", ".DS_Store": "junk_file",
    }  # fmt: skip
    assert "1.2.3" not in str(made.quarantine)


def test_every_slice_has_its_own_scale(tmp_path):
    files = stack()
    for i, one in enumerate(files):
        one.RescaleSlope, one.RescaleIntercept, one.Modality = 0.5 + i, 2 * i, "PT"
    rows, _ = rows_of(save(tmp_path / "s", files))
    image = scan(rows[0]["volume"])
    expected = VALUES * (0.5 + np.arange(6))[:, None, None] + 2 * np.arange(6)[:, None, None]
    assert image.header.get_data_dtype() == np.float32
    assert np.allclose(image.get_fdata(), expected.transpose(2, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_more_is_brighter_but_quantities_stay(tmp_path, dtype):
    values = (VALUES % 200).astype(dtype)
    for modality, inverted in (("MR", True), ("CT", False)):
        files = stack(values, PhotometricInterpretation="MONOCHROME1", Modality=modality)
        rows, _ = rows_of(save(tmp_path / modality, files))
        info = np.iinfo(dtype)
        expected = int(info.max) + int(info.min) - values.astype(int) if inverted else values
        assert np.array_equal(scan(rows[0]["volume"]).get_fdata().transpose(2, 1, 0), expected)


def test_positions_written_with_one_decimal_are_even(tmp_path):
    files = [picture(one, (0, 0, round(0.75 * i, 1))) for i, one in enumerate(VALUES)]
    rows, rejects = rows_of(save(tmp_path / "s", files))
    assert rows[0]["slice_mm"] == pytest.approx(0.75, abs=0.02) and not rejects


def test_a_missing_slice_is_seen_between_very_thin_ones(tmp_path):
    files = [picture(one, (0, 0, 0.05 * i), PixelSpacing=[0.05, 0.05]) for i, one in enumerate(VALUES)]
    assert len(rows_of(save(tmp_path / "whole", files))[0]) == 1
    assert only_reason(tmp_path / "s", files[:2] + files[3:]) == "slice_missing"


def test_gaps_that_drift_are_not_even(tmp_path):
    values = np.zeros((60, 2, 2), np.uint16)
    places = np.cumsum([1.0] * 30 + [1.09] * 30)  # each gap near the usual one, together more than a slice
    assert only_reason(tmp_path / "s", [picture(one, (0, 0, z)) for one, z in zip(values, places, strict=True)]) == "slice_missing"


def test_two_series_two_rows_named_by_their_folders(tmp_path, make):
    root = tmp_path / "archive"
    save(root / "sick" / "one", stack(uid="1.2.9", AccessionNumber="A1"))
    save(root / "well" / "two", stack(uid="1.2.4", AccessionNumber="A2"))
    (tmp_path / "t.csv").write_text("acc,grade\nA1,high\nA2,low\nA3,low\n")
    labels = {"path": str(tmp_path / "t.csv"), "key": "acc", "match": "accession_number"}
    made = make({"path": root, "series": True, "labels": labels}, CASE)
    assert made.column("case_id") == ["1.2.4", "1.2.9"]
    assert made.column("file_path") == ["well/two", "sick/one"]
    assert made.column("grade") == ["low", "high"]
    assert made.reasons == ["no_image"]
    flat = make({"path": root / "sick", "series": True, "label_from_folder": "finding"}, CASE, out="flat")
    assert flat.column("finding") == ["one"]
    with pytest.raises(DataError, match="no sop_instance_uid of its own"):
        make({"path": root, "series": True, "labels": {**labels, "match": "sop_instance_uid"}}, CASE, out="no")
    with pytest.raises(DataError, match="'slices' is a column already"):
        make({"path": root, "series": True, "label_from_folder": "slices"}, CASE, out="no")


def test_series_is_for_dicom(csv_file, make):
    with pytest.raises(DataError, match="`series` is for DICOM"):
        make({"path": csv_file("id,a\n1,2\n"), "series": True})


def test_the_same_picture_alone_is_still_a_picture(tmp_path, make):
    made = make({"path": save(tmp_path / "s", stack())}, {"id": "sop_instance_uid", "patient": "dicom_patient_id"})
    assert made.table.num_rows == 6 and "image" in made.table.column_names


def test_sizes_are_checked_before_any_pixel(tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("pixels were touched")

    folder = save(tmp_path / "s", stack())
    whole = rows_of(folder)
    monkeypatch.setattr(volume, "MAX_VOXELS", VALUES.size - 1)
    monkeypatch.setattr(series, "stored_values", never)
    monkeypatch.setattr(series.np, "empty", never)
    assert [one[0] for one in rows_of(folder)[1]] == ["volume_too_large"]
    monkeypatch.setattr(volume, "MAX_VOXELS", VALUES.size)  # the twin: nothing else stands before the pixels
    with pytest.raises(AssertionError, match="pixels were touched"):
        rows_of(folder)
    assert len(whole[0]) == 1


def test_the_first_pass_reads_heads_only(tmp_path, monkeypatch):
    large = np.zeros((2, 600, 600), np.uint16)
    folder = save(tmp_path / "s", [picture(one, (0, 0, i)) for i, one in enumerate(large)])

    def never(*_: object) -> None:
        raise AssertionError("a whole file was read")

    with monkeypatch.context() as patch:
        patch.setattr(StoragePath, "read_bytes", never)
        files = [one.path.info() for one in StoragePath.of(folder).list()]
        assert all(isinstance(series_header.read_slice(one), series_header.Slice) for one in files)
        patch.setattr(series_header, "HEAD", 400)  # the twin: a head too small for the header
        with pytest.raises(AssertionError, match="a whole file was read"):
            series_header.read_slice(files[0])
    monkeypatch.setattr(series_header, "HEAD", 400)
    assert len(rows_of(folder)[0]) == 1


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_syntaxes(tmp_path, syntax):
    files = stack()
    for one in files:
        if syntax == RLELossless:
            one.compress(RLELossless, generate_instance_uid=False)
        else:
            one.file_meta.TransferSyntaxUID = syntax
    rows, rejects = rows_of(save(tmp_path / "s", files))
    assert not rejects and np.array_equal(scan(rows[0]["volume"]).get_fdata().transpose(2, 1, 0), VALUES)


def test_a_twisted_grid_is_seen_only_with_its_check(tmp_path, monkeypatch):
    """The twin of the tilt: without the check a leaning volume would come through."""
    files = [picture(one, (-3, -4 + 0.5 * i, 10 + 2 * i)) for i, one in enumerate(VALUES)]
    folder = save(tmp_path / "s", files)
    assert [one[0] for one in rows_of(folder)[1]] == ["gantry_tilt"]
    monkeypatch.setattr(series_geometry.volume, "MAX_SHEAR", 1.0)
    assert len(rows_of(folder)[0]) == 1


@pytest.mark.filterwarnings("ignore")
def test_what_pydicom_ships(tmp_path, make):
    root = Path(str(get_testdata_file("DICOMDIR", download=False))).parent
    made = make({"path": root, "series": True, "format": "dicom"}, CASE)
    assert made.column("file_name") == ["CT5N"] and made.column("slices") == [5.0] and made.column("slice_mm") == [2.5]
    reasons = made.record["reasons"]
    assert (reasons["slice_missing"], reasons["series_mixed"], reasons["one_slice"], reasons["slice_truncated"]) == (1, 3, 7, 1)
    place = min((root / "98892001" / "CT5N").iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    image = scan(made.column("volume")[0])
    assert np.array_equal(image.dataobj.get_unscaled()[..., 0].T, pydicom.dcmread(place).pixel_array)
    from nibabel.nicom.dicomwrappers import wrapper_from_data  # warns while it is imported

    theirs = wrapper_from_data(pydicom.dcmread(place)).affine  # another's reading of the first slice: (row, column) to LPS
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ theirs[:, [1, 0, 3]], image.affine[:, [0, 1, 3]], atol=1e-4)


def test_the_real_series(shared_data, tmp_path, make):
    """The middle of a brain, from the archive: whole, with its places; then with one slice gone."""
    films = tmp_path / "series"
    with tarfile.open(shared_data / "dicom_mr_series/structural.tar.xz") as archive:
        archive.extractall(films, members=[one for one in archive if one.isfile()], filter="data")
    sets = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in films.rglob("*.dcm")}
    assert len(sets) == 384
    low = sorted(sets, key=lambda path: int(sets[path].InstanceNumber))
    for path in [*low[:180], *low[200:]]:
        path.unlink()
    made = make({"path": films, "series": True}, CASE)
    row = made.table.to_pylist()[0]
    image = scan(row["volume"])
    assert (row["slices"], row["pixel_rows"], row["pixel_columns"], row["modality"]) == (20, 384, 274, "MR")
    assert row["slice_mm"] == pytest.approx(2 / 3, abs=1e-4)
    turned = np.array(sets[low[0]].ImageOrientationPatient, float)
    normal = np.cross(turned[:3], turned[3:])
    by_place = sorted(low[180:200], key=lambda path: normal @ np.array(sets[path].ImagePositionPatient, float))
    for k in (0, 7, 19):
        assert np.array_equal(image.dataobj.get_unscaled()[..., k].T, pydicom.dcmread(by_place[k]).pixel_array)
        assert np.allclose(
            (image.affine @ [0, 0, k, 1])[:3], np.array(sets[by_place[k]].ImagePositionPatient, float) * [-1, -1, 1], atol=1e-3
        )
    by_place[9].unlink()
    with pytest.raises(DataError, match="slice_missing 1"):
        make({"path": films, "series": True}, CASE, out="gap")

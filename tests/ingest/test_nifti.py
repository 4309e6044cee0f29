"""NIfTI files become rows with the same values at the same places; lies in a header cost their row and no memory."""

from __future__ import annotations

import gzip
import hashlib
import os
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.testing import data_path

from meddx.errors import DataError
from meddx.ingest import nifti, volume
from meddx.ingest.headers import Unreadable
from meddx.ingest.options import SourceOptions
from meddx.ingest.run import sniff

CASE = {"id": "file_stem", "patient": "@case"}
AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]])


def image(shape=(4, 5, 6), dtype=np.int16, affine=AFFINE, **fields) -> nib.Nifti1Image:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    made = nib.Nifti1Image(values, affine, dtype=dtype)
    for name, value in fields.items():
        made.header[name] = value
    return made


def header_with(data: bytes, **fields) -> bytes:
    """The file with fields of its header changed behind nibabel's back."""
    header = nib.Nifti1Header(data[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + data[348:]


def again(packed: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(packed))


def reason(data: bytes) -> str:
    with pytest.raises(Unreadable) as why:
        nifti.decode(data)
    return why.value.reason


PLAIN = image().to_bytes()
REASONS = {
    "not_nifti", "header_wrong", "not_3d", "one_slice", "pixels_unsupported", "volume_too_large", "spacing_bad", "affine_sheared",
    "volume_truncated", "volume_damaged", "volume_bomb",
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(volume.STORED),
    shape=st.tuples(*[st.integers(2, 6)] * 3),
    seed=st.integers(0, 2**32 - 1),
    big=st.booleans(),
    packed=st.booleans(),
    slope=st.sampled_from([(np.nan, np.nan), (0.5, -3.0), (1.0, -1024.0), (0.0, 7.0)]),
    second=st.booleans(),
)
def test_a_round_trip_keeps_values_and_affine(dtype, shape, seed, big, packed, slope, second):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 100, shape).astype(np.dtype(dtype).newbyteorder(">" if big else "<"))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * rng.uniform(0.1, 8, 3), rng.normal(0, 100, 3)
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    header = kind.header_class(endianness=">" if big else "<")
    header.set_data_dtype(values.dtype)
    header.set_data_shape(shape)
    header.set_sform(affine, 1)
    header["pixdim"][1:4] = volume.spacing_of(affine)
    header["scl_slope"], header["scl_inter"] = slope
    header["magic"], header["vox_offset"] = (b"n+2", 544) if second else (b"n+1", 352)
    data = header.binaryblock + b"\0\0\0\0" + values.tobytes(order="F")
    theirs = kind.from_bytes(data)
    row = nifti.decode(gzip.compress(data) if packed else data)
    ours = again(row["volume"])
    assert ours.header.get_data_dtype() == np.dtype(dtype)
    assert np.array_equal(ours.get_fdata(), theirs.get_fdata())
    assert np.allclose(ours.affine, affine, rtol=1e-5, atol=1e-4)
    assert np.allclose(ours.get_qform(), affine, atol=0.01 + 1e-4 * np.abs(affine).max())  # readers that look there see the same
    assert (row["slices"], row["pixel_rows"], row["pixel_columns"]) == shape[::-1]
    assert np.allclose((row["spacing_col_mm"], row["spacing_row_mm"], row["slice_mm"]), volume.spacing_of(affine), rtol=1e-4)
    assert nifti.decode(row["volume"]) == row  # once made it is made


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_a_reason_and_nothing_else(data):
    whole = data.draw(st.sampled_from([PLAIN, gzip.compress(PLAIN, mtime=0)]))
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            broken[data.draw(st.integers(0, min(len(broken), 400) - 1))] = data.draw(st.integers(0, 255))
    try:
        nifti.decode(bytes(broken))
    except Unreadable as why:
        assert why.reason in REASONS


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not_nifti"),
        (b"hello" * 200, "not_nifti"),
        (PLAIN[:300], "not_nifti"),
        (PLAIN[:-1], "volume_truncated"),
        (gzip.compress(PLAIN)[:-20], "volume_truncated"),
        (gzip.compress(PLAIN)[:-8] + b"\1\2\3\4" + gzip.compress(PLAIN)[-4:], "volume_damaged"),
        (header_with(PLAIN, magic=b"ni1"), "not_nifti"),  # its voxels are in another file
        (header_with(PLAIN, dim=[3, -4, 5, 6, 1, 1, 1, 1]), "header_wrong"),
        (header_with(PLAIN, dim=[9, 4, 5, 6, 1, 1, 1, 1]), "header_wrong"),
        (header_with(PLAIN, datatype=77), "header_wrong"),
        (header_with(PLAIN, vox_offset=np.nan), "header_wrong"),
        (header_with(PLAIN, vox_offset=1e30), "header_wrong"),
        (header_with(PLAIN, vox_offset=10), "header_wrong"),
        (image((4, 5, 6, 2)).to_bytes(), "not_3d"),
        (image((4, 5)).to_bytes(), "not_3d"),
        (image((4, 5, 1)).to_bytes(), "one_slice"),
        (image(dtype=np.complex64).to_bytes(), "pixels_unsupported"),
        (header_with(PLAIN, datatype=128), "pixels_unsupported"),
        (header_with(PLAIN, srow_x=[np.nan, 0, 0, 0]), "spacing_bad"),
        (header_with(PLAIN, srow_x=[np.inf, 0, 0, 0]), "spacing_bad"),
        (header_with(PLAIN, srow_x=[0, 0, 0, 0]), "spacing_bad"),
        (header_with(PLAIN, srow_z=[0, 1.5, 3, 0]), "affine_sheared"),
        (header_with(PLAIN, pixdim=[1, 1, 0, 1, 1, 1, 1, 1]), "spacing_bad"),
        (header_with(PLAIN, pixdim=[1, 1, np.nan, 1, 1, 1, 1, 1]), "spacing_bad"),
        (header_with(PLAIN, sform_code=0, qform_code=1, quatern_b=3.0), "spacing_bad"),
        (header_with(PLAIN, dim=[3, 20_000, 400, 200, 1, 1, 1, 1]), "volume_too_large"),  # 3 GB
        (header_with(PLAIN, dim=[3, 2000, 400, 200, 1, 1, 1, 1]), "volume_truncated"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_reasons(data, expected):
    assert reason(data) == expected


def test_units_are_brought_to_mm():
    made = image(affine=np.diag([0.002, 0.003, 0.004, 1]), xyzt_units=1)
    row = nifti.decode(made.to_bytes())
    assert (row["spacing_col_mm"], row["spacing_row_mm"], row["slice_mm"]) == pytest.approx((2, 3, 4))
    assert np.allclose(again(row["volume"]).affine, np.diag([2, 3, 4, 1]))


def test_an_unknown_orientation_stays_unknown():
    row = nifti.decode(header_with(PLAIN, sform_code=0, qform_code=0))
    kept = again(row["volume"]).header
    assert (row["orientation"], int(kept["sform_code"]), int(kept["qform_code"])) == ("pixdim", 0, 0)
    assert nifti.decode(PLAIN)["orientation"] == "sform"


def test_nothing_of_a_patient_is_carried_along():
    made = image(descrip=b"Doe, Jane", aux_file=b"/home/doe", db_name=b"doe", intent_name=b"doe")
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe 1966-01-01"))
    data = made.to_bytes()
    assert data.lower().count(b"doe") == 5
    assert b"doe" not in gzip.decompress(nifti.decode(data)["volume"]).lower()


def peak(work) -> int:
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_a_claim_costs_no_memory(monkeypatch):
    """900 MB are claimed and 600 bytes are there; the twin believes the header and pays."""
    data = header_with(PLAIN, dim=[3, 1000, 900, 250, 1, 1, 1, 1], datatype=4)
    assert peak(lambda: reason(data)) < 4 << 20
    assert peak(lambda: reason(gzip.compress(data))) < 4 << 20
    count = 1000 * 900 * 250 * 2
    assert peak(lambda: bytearray(count)) > 400 << 20  # what reading in one piece allocates first
    large = header_with(PLAIN, dim=[3, 20_000, 400, 200, 1, 1, 1, 1])
    assert reason(large) == "volume_too_large"
    monkeypatch.setattr(volume, "MAX_VOXELS", 1 << 40)
    monkeypatch.setattr(volume, "MAX_BYTES", 1 << 40)
    assert reason(large) == "volume_truncated"  # without the limit it is read on


def test_a_gzip_bomb_is_left_half_unpacked(monkeypatch):
    bomb = gzip.compress(PLAIN + bytes(64 << 20))
    assert len(bomb) < 100_000
    assert reason(bomb) == "volume_bomb"
    assert peak(lambda: reason(bomb)) < 12 << 20
    monkeypatch.setattr(nifti, "MOST_BEHIND", 1 << 40)
    assert nifti.decode(bomb)["slices"] == 6  # the twin goes through all of it


def test_volumes_above_the_limit_are_refused_by_size(monkeypatch):
    assert nifti.decode(PLAIN)["slices"] == 6
    monkeypatch.setattr(volume, "MAX_VOXELS", 4 * 5 * 6 - 1)
    assert reason(PLAIN) == "volume_too_large"


def test_a_folder_with_labels(tmp_path, make):
    folder = tmp_path / "scans"
    for i in range(4):
        path = folder / ("sick" if i % 2 else "well") / f"{i:02d}.nii{'.gz' if i < 2 else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image(), path)
    (folder / "sick" / "cut.nii").write_bytes(PLAIN[:500])
    (folder / "notes.txt").write_text("x")
    (tmp_path / "labels.csv").write_text("scan,grade\n00,1\n01,2\n03,3\n09,4\n")
    labels = {"path": str(tmp_path / "labels.csv"), "key": "scan", "match": "file_stem"}
    made = make({"path": folder, "label_from_folder": "finding", "labels": labels}, CASE)
    assert made.record["format"] == "nifti"
    assert made.column("case_id") == ["01", "03", "00", "02"]
    assert made.column("finding") == ["sick", "sick", "well", "well"]
    assert made.column("grade") == [2, 3, 1, None]
    assert made.column("file_name")[0] == "01.nii.gz"
    reasons = {one["path_digest"]: one["reason"] for one in made.quarantine}
    digests = {
        hashlib.sha256(name.encode()).hexdigest()[:16]: why
        for name, why in (("sick/cut.nii", "volume_truncated"), ("notes.txt", "not_nifti"))
    }
    assert reasons == {**digests, None: "no_image"}
    values = again(made.column("volume")[0])
    assert np.array_equal(values.get_fdata(), image().get_fdata()) and np.allclose(values.affine, AFFINE)


def test_one_file_and_a_pattern(tmp_path, make):
    for name in ("a.nii.gz", "b.nii.gz", "c.nii"):
        nib.save(image(), tmp_path / name)
    assert make({"path": tmp_path / "a.nii.gz"}, CASE, out="one").column("case_id") == ["a"]
    assert make({"path": tmp_path / "*.nii.gz"}, CASE, out="two").column("case_id") == ["a", "b"]
    with pytest.raises(DataError, match="`series` is for DICOM"):
        make({"path": tmp_path / "a.nii.gz", "series": True}, CASE, out="three")


def test_a_sample_of_volumes_is_small(tmp_path, monkeypatch):
    for i in range(5):
        nib.save(image(), tmp_path / f"{i}.nii")
    monkeypatch.setattr("meddx.ingest.folder.BATCH_FILES", 1)
    assert sniff(SourceOptions(path=str(tmp_path))).table.num_rows == 5
    monkeypatch.setattr("meddx.ingest.sniff.SAMPLE_BYTES", 1)
    assert sniff(SourceOptions(path=str(tmp_path))).table.num_rows == 1


def test_all_that_nibabel_ships(make):
    made = make({"path": f"{data_path}/*.nii*"}, CASE)
    assert dict(zip(made.column("case_id"), made.column("slices"), strict=True)) == {
        "anatomical": 25, "reoriented_anat_moved": 22, "resampled_anat_moved": 3, "standard": 7,
    }  # fmt: skip
    assert made.reasons == ["not_3d"] * 4  # functional, example4d, example_nifti2, a table of CIFTI
    for name, packed in zip(made.column("file_name"), made.column("volume"), strict=True):
        theirs, ours = nib.load(Path(data_path) / name), again(packed)
        assert np.array_equal(ours.get_fdata(), theirs.get_fdata(), equal_nan=True), name
        assert np.allclose(ours.affine, theirs.affine)
        assert os.path.basename(name) == name

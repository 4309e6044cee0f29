"""Every picture of a MedMNIST file comes out as it was, and nothing in the file is unpickled."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from meddx.errors import DataError
from meddx.ingest import medmnist

CASE = {"id": "case_no", "patient": {"unknown": "dropped by its makers"}}


def write_npz(path, images, labels, save=np.savez):
    save(path, **{f"{part}_{kind}": array for part in ("train", "val", "test") for kind, array in (("images", images), ("labels", labels))})
    return path


def test_pneumonia(shared_data, make):
    path = shared_data / "pneumoniamnist/pneumoniamnist.npz"
    made = make({"path": path}, CASE)
    assert made.table.column_names == ["case_id", "patient_id", "official_part", "image", "label"]
    with np.load(path, allow_pickle=False) as file:
        images = np.concatenate([file[f"{part}_images"] for part in ("train", "val", "test")])
        labels = np.concatenate([file[f"{part}_labels"] for part in ("train", "val", "test")]).ravel()
    assert made.column("label") == labels.astype(str).tolist()
    decoded = np.stack([cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_UNCHANGED) for one in made.column("image")])
    assert np.array_equal(decoded, images)
    assert (made.column("case_id")[0], made.column("case_id")[-1]) == ("train-000001", "test-000624")
    assert made.column("patient_id")[0] is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_colour_and_several_labels_in_small_pieces(tmp_path, make, monkeypatch, save):
    monkeypatch.setattr(medmnist, "BATCH_BYTES", 200)
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), np.uint8)
    made = make({"path": write_npz(tmp_path / "a.npz", images, np.eye(7, 3, dtype=np.uint8), save)}, CASE)
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(made.column("image")[3], np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)
    assert np.array_equal(decoded, images[3])
    assert made.table.column_names[-3:] == ["label_0", "label_1", "label_2"]
    assert made.column("label_1")[:3] == ["0", "1", "0"]
    assert made.table.num_rows == 21


def test_what_is_refused(tmp_path, make):
    labels = np.zeros((2, 1), np.uint8)
    cases = {
        "Python objects": (np.array([[{}]], dtype=object), labels),
        "volumes": (np.zeros((2, 4, 4, 4), np.uint8), labels),
        "2 pictures and 3 labels": (np.zeros((2, 4, 4), np.uint8), np.zeros((3, 1), np.uint8)),
    }
    for i, (message, (images, answers)) in enumerate(cases.items()):
        with pytest.raises(DataError) as error:
            make({"path": write_npz(tmp_path / f"{i}.npz", images, answers)}, CASE)
        assert message in str(error.value)
    np.savez(tmp_path / "b.npz", train_images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="no array 'train_labels'"):
        make({"path": tmp_path / "b.npz"}, CASE)


def test_a_damaged_archive_is_refused(tmp_path, make):
    path = write_npz(tmp_path / "a.npz", np.random.default_rng(0).integers(0, 256, (50, 9, 9), np.uint8), np.zeros((50, 1), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged"):
        make({"path": path}, CASE)
    path.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])  # one bit in the first array: its checksum tells
    with pytest.raises(DataError, match="damaged"):
        make({"path": path}, CASE)

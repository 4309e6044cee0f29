"""What is found in a folder, a file or a dataset, and what is said of files that will not open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scoring_helper as helper

from meddx.errors import DataError
from meddx.score.sources import data_digest, find_root, list_files, locate, read_footers
from meddx.storage import StoragePath


def test_a_dataset_is_found_by_its_record(tmp_path: Path) -> None:
    helper.archive(tmp_path / "data")
    data = StoragePath.of(tmp_path)
    with pytest.raises(DataError, match="not finished"):
        find_root(data)
    (tmp_path / "record.json").write_text('{"digest": "abc"}')
    assert find_root(data) == data / "data"
    assert data_digest(data, []) == "abc"
    assert find_root(data / "data") == data / "data"


def test_a_folder_with_files_of_its_own_is_no_dataset(tmp_path: Path) -> None:
    helper.archive(tmp_path)
    helper.archive(tmp_path / "data", seed=1)
    assert find_root(StoragePath.of(tmp_path)) == StoragePath.of(tmp_path)
    assert len(list_files(StoragePath.of(tmp_path))) == 6


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data"):
        find_root(StoragePath.of(tmp_path / "no"))


def test_rubbish_and_hidden_names_are_not_listed(tmp_path: Path) -> None:
    helper.archive(tmp_path / "2024" / "03", files=1)
    for name in (".DS_Store", "_SUCCESS", "readme.txt", "_part.parquet", ".x.parquet", "_meddx/a.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert list(list_files(StoragePath.of(tmp_path))) == ["2024/03/f0-0.parquet"]


def test_one_file_is_an_archive_too(tmp_path: Path) -> None:
    root = StoragePath.of(helper.archive(tmp_path, files=1) / "f0-0.parquet")
    assert list(list_files(root)) == ["f0-0.parquet"] and locate(root, "f0-0.parquet") == root
    files, broken = read_footers(root, list_files(root))
    assert files[0].rows == 100 and files[0].columns == ("case_id", "patient_id", "x") and not broken


def test_files_without_a_footer_are_named_and_never_guessed(tmp_path: Path) -> None:
    helper.archive(tmp_path, files=1)
    whole = (tmp_path / "f0-0.parquet").read_bytes()
    (tmp_path / "text.parquet").write_text("case_id,x\n1,2\n")
    (tmp_path / "short.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    root = StoragePath.of(tmp_path)
    files, broken = read_footers(root, list_files(root))
    assert [one.path for one in files] == ["f0-0.parquet"]
    assert {one.path: one.reason for one in broken} == {
        "empty.parquet": "not_parquet",
        "short.parquet": "footer_unreadable",
        "text.parquet": "not_parquet",
    }


def test_the_digest_of_a_folder_follows_versions_only() -> None:
    data = StoragePath("/nowhere")
    versions = [("a", "1"), ("b", "2")]
    assert data_digest(data, versions) == data_digest(data, versions[::-1]) != data_digest(data, [("a", "1"), ("b", "3")])


def test_row_groups_are_listed_with_their_weight(tmp_path: Path) -> None:
    helper.write_file(tmp_path / "a.parquet", np.random.default_rng(0), "a", 250, payload=1000, group=100)
    root = StoragePath.of(tmp_path)
    (one,), _ = read_footers(root, list_files(root))
    assert [rows for rows, _ in one.groups] == [100, 100, 50]
    assert one.groups[0][1] > 100_000

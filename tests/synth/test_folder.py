from pathlib import Path

import pytest

from meddx.errors import OutputError
from meddx.storage import StoragePath
from meddx.synth import folder

SETTINGS = {"kind": "table", "patients": 3, "seed": 0}


def test_an_unfinished_population_is_made_again(tmp_path: Path) -> None:
    out = StoragePath.of(tmp_path / "a")
    assert folder.claim(out, SETTINGS) is None
    assert folder.claim(out, SETTINGS) is None


def test_a_finished_one_is_returned(tmp_path: Path) -> None:
    out = StoragePath.of(tmp_path / "a")
    folder.claim(out, SETTINGS)
    made = folder.finish(out, folder.begin(SETTINGS), {"rows": 4}, {"bayes_auroc": 0.9})
    assert folder.claim(out, SETTINGS) == made
    assert made["counts"] == {"rows": 4} and made["bayes_auroc"] == 0.9 and made["settings"] == SETTINGS


def test_other_settings_are_refused(tmp_path: Path) -> None:
    out = StoragePath.of(tmp_path / "a")
    folder.claim(out, SETTINGS)
    with pytest.raises(OutputError, match="another population"):
        folder.claim(out, SETTINGS | {"seed": 1})


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear colleague")
    with pytest.raises(OutputError, match="not empty"):
        folder.claim(StoragePath.of(tmp_path), SETTINGS)
    assert [one.name for one in tmp_path.iterdir()] == ["letter.txt"]

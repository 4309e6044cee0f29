"""A folder of pictures scored as it lies: row by row what `meddx ingest` and then `meddx score` would have said."""

from __future__ import annotations

from pathlib import Path

import picture_helper as pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scoring_helper as helper

from meddx.errors import DataError, OutputError
from meddx.ingest.block import path_digest
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.ingest.run import ingest
from meddx.score.audit import read_predictions, status, verify
from meddx.score.books import Books
from meddx.score.plan import Plan
from meddx.score.run import check, score
from meddx.storage import StoragePath
from meddx.synth import xray

JUNK = {".DS_Store": b"\x00\x00\x00\x01Bud1", "a/Thumbs.db": b"x", "a/b/._p.png": b"x"}


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> StoragePath:
    return pictures.bundle_of(tmp_path_factory.mktemp("b") / "eight")


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> StoragePath:
    return pictures.bundle_of(tmp_path_factory.mktemp("b") / "sixteen", bits=16)


def run(bundle: StoragePath, data: Path | str, out: Path) -> Books:
    found = score(bundle, StoragePath.of(data), StoragePath.of(out), options=helper.options(max_rejected=1.0), log=lambda _: None)
    verify(StoragePath.of(out))
    return found


def both(bundle: StoragePath, folder: Path, tmp_path: Path, format: str, patient: str) -> tuple[pa.Table, dict[str, str]]:
    """Rows of the dataset of this folder, and {path digest: reason} of its quarantine."""
    source = SourceOptions.model_validate({"path": str(folder), "format": format})
    case = CaseOptions.model_validate({"id": "file_path", "patient": patient or {"unknown": "nobody asked who it is"}})
    dataset = StoragePath.of(tmp_path / "dataset")
    ingest(source, case, (), dataset)
    run(bundle, str(dataset), tmp_path / "by-dataset")
    quarantine = pq.read_table(tmp_path / "dataset" / "quarantine") if (tmp_path / "dataset" / "quarantine").exists() else None
    rejects = {} if quarantine is None else dict(zip(quarantine["path_digest"].to_pylist(), quarantine["reason"].to_pylist(), strict=True))
    return read_predictions(StoragePath.of(tmp_path / "by-dataset")), rejects


def compare(bundle: StoragePath, folder: Path, tmp_path: Path, format: str, patient: str, junk: int) -> Books:
    """Every file stands on one side of the dataset, and says the same here."""
    books = run(bundle, folder, tmp_path / "direct")
    found, root = read_predictions(StoragePath.of(tmp_path / "direct")), StoragePath.of(folder)
    expected, rejects = both(bundle, folder, tmp_path, format, patient)
    quarantined = {digest: reason for digest, reason in rejects.items() if reason != "junk_file"}
    digests = [path_digest(root, root / path) for path in found["case_id"].to_pylist()]
    here = {digest: reason for digest, reason in zip(digests, found["error"].to_pylist(), strict=True) if digest in quarantined}
    assert here == quarantined and len(rejects) - len(quarantined) == junk == books.not_opened
    read = found.filter(pa.array([digest not in quarantined for digest in digests])).sort_by("case_id").drop_columns(["unit", "row"])
    assert read.equals(expected.sort_by("case_id").drop_columns(["unit", "row"])) and read.num_rows == expected.num_rows > 0
    return books


def test_png_and_jpeg(tmp_path: Path, eight: StoragePath) -> None:
    whole = pictures.picture(3)
    folder = pictures.write(
        tmp_path / "d",
        {
            **{f"p{n:03d}.png": pictures.picture(n) for n in range(70)},
            **{f"a/b/p{n:03d}.jpg": pictures.picture(n, ".jpg", (20, 18, 3)) for n in range(40)},
            "a/half.png": whole[: len(whole) // 2], "a/spoilt.png": whole[:60] + b"\xff" + whole[61:], "a/empty.png": b"",
            "notes.txt": b"nothing", "deep.png": pictures.picture(0, bits=16), "a/noending": pictures.picture(5), **JUNK,
        },
    )  # fmt: skip
    books = compare(eight, folder, tmp_path, "images", "", junk=3)
    assert books.counts.scored == 111
    assert books.counts.reasons == {"image_truncated": 1, "image_damaged": 1, "file_empty": 1, "not_image": 1, "bit_depth": 1}
    assert "files not opened 3: junk_file 3" in status(StoragePath.of(tmp_path / "direct"))


def test_dicom(tmp_path: Path, sixteen: StoragePath) -> None:
    """A synthetic archive with one broken file of each kind; some files lose their ending, as on a PACS."""
    xray.make(12, tmp_path / "archive", size=32)
    films = sorted((tmp_path / "archive" / "images").rglob("*.dcm"))
    for film in films[::3]:
        film.rename(film.with_suffix(""))
    books = compare(sixteen, tmp_path / "archive" / "images", tmp_path, "dicom", "dicom_patient_id", junk=1)
    assert books.counts.scored == len(films) - 4 and books.counts.quarantined == 4
    patients = read_predictions(StoragePath.of(tmp_path / "direct")).filter(pa.compute.field("status") == "scored")["patient_id"]
    assert patients.null_count == 0 and len(set(patients.to_pylist())) > 5


def test_dicom_without_any_ending_and_columns_of_the_header(tmp_path: Path) -> None:
    bundle = pictures.bundle_of(tmp_path / "b", bits=16, cohort={"adult": "patient_age_years >= 40"})
    xray.make(8, tmp_path / "archive", size=32, broken=0)
    for film in sorted((tmp_path / "archive" / "images").rglob("*.dcm")):
        film.rename(film.with_suffix(""))
    books = compare(bundle, tmp_path / "archive" / "images", tmp_path, "dicom", "dicom_patient_id", junk=0)
    assert books.counts.outside and books.counts.scored and not books.counts.quarantined


def test_nifti_files_are_volumes(tmp_path: Path) -> None:
    import nibabel
    import numpy as np

    scan = bytes(nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)).to_bytes())
    bundle = pictures.bundle_of(tmp_path / "b", kind="volume")
    books = compare(
        bundle, pictures.write(tmp_path / "d", {"a.nii": scan, "b/c.nii": scan, "b/cut.nii": scan[:400]}), tmp_path, "nifti", "", 0
    )
    assert (books.counts.scored, books.counts.quarantined) == (2, 1)


def test_junk_is_named_and_rejects_nothing(tmp_path: Path, eight: StoragePath) -> None:
    folder = pictures.write(tmp_path / "d", {f"{n}/p.png": pictures.picture(n) for n in range(4)})
    pictures.write(folder, {f"{n}/.DS_Store": b"x" for n in range(4)})
    for _ in range(2):  # the second is a no-op, with the record's books
        books = score(eight, StoragePath.of(folder), StoragePath.of(tmp_path / "o"), options=helper.options(), log=lambda _: None)
        assert (books.files, books.not_opened, books.junk, books.exit_code) == (8, 4, 4, 0)


def test_careful_steps_say_the_same(tmp_path: Path, eight: StoragePath) -> None:
    """Picture by picture, as a unit is decoded of which one kills: the id is known before anything is read."""
    from meddx.predict.bundle import Bundle
    from meddx.score.worker import Place, UnitScorer, assemble

    folder = pictures.write(tmp_path / "d", {**{f"p{n}.png": pictures.picture(n) for n in range(9)}, "p5.png": b"no"})
    run(eight, folder, tmp_path / "o")
    plan = Plan.load(StoragePath.of(tmp_path / "o"))
    assert plan is not None
    (unit,) = plan.units.values()
    seen: list[Place | None] = []
    scorer = UnitScorer(Bundle.load(eight), StoragePath.of(folder), ("image",), watch=seen.append)
    chunks = [next(scorer.chunks(unit, number, 0)) for number in range(len(unit.pieces))]
    assert [chunk.table["case_id"][0].as_py() for chunk in chunks] == [piece.path for piece in unit.pieces] and not seen
    found = assemble(unit, [scorer.answer(unit, number, chunk) for number, chunk in enumerate(chunks)])
    assert seen == [Place(unit.id, number, 0, 1, read=True) for number in range(len(chunks))]
    assert found.equals(scorer.score(unit)) and found["error"].null_count == 8


@pytest.mark.slow
def test_a_prefix_on_s3(tmp_path: Path, eight: StoragePath, night_on_s3: object) -> None:
    prefix, names = StoragePath.of(f"s3://nights/{tmp_path.name}"), [f"{n % 3}/p{n}.png" for n in range(70)]
    for number, name in enumerate(names):
        (prefix / "d" / name).replace(pictures.picture(number))
    (prefix / "d" / ".DS_Store").replace(b"x")
    books = score(eight, prefix / "d", prefix / "o", options=helper.options(), log=lambda _: None)
    assert (books.counts.scored, books.not_opened) == (70, 1) and verify(prefix / "o")
    pictures.write(tmp_path / "d", {name: pictures.picture(number) for number, name in enumerate(names)})
    run(eight, tmp_path / "d", tmp_path / "o")
    here, there = (
        read_predictions(one).drop_columns(["unit"]).sort_by("case_id") for one in (StoragePath.of(tmp_path / "o"), prefix / "o")
    )
    assert here.equals(there)
    (prefix / "d" / names[0]).replace(pictures.picture(99))
    with pytest.raises(OutputError, match="1 of 70 files changed"):
        score(eight, prefix / "d", prefix / "o", options=helper.options(), log=lambda _: None)


def test_a_new_or_changed_file_touches_one_unit(tmp_path: Path, eight: StoragePath) -> None:
    folder = pictures.write(tmp_path / "d", {f"p{n:04d}.png": pictures.picture(n % 7) for n in range(600)})
    run(eight, folder, tmp_path / "o")
    before = Plan.load(StoragePath.of(tmp_path / "o"))
    pictures.write(folder, {"new.png": pictures.picture(1)})
    assert run(eight, folder, tmp_path / "o").read == 601
    after = Plan.load(StoragePath.of(tmp_path / "o"))
    assert before and after and len(before.units) == 19 and len(after.units.keys() - before.units.keys()) == 1
    pictures.write(folder, {"p0001.png": pictures.picture(8, shape=(30, 30))})
    with pytest.raises(OutputError, match="1 of 601 files changed"):
        run(eight, folder, tmp_path / "o")


def test_a_file_that_changes_while_it_is_read_leaves_its_unit_undone(tmp_path: Path, eight: StoragePath) -> None:
    from meddx.score.pictures import PictureReader
    from meddx.score.units import Piece, UnitFailed

    folder = pictures.write(tmp_path / "d", {f"p{n}.png": pictures.picture(n) for n in range(70)})
    root = StoragePath.of(folder)
    pieces = [Piece(f"p{n}.png", (root / f"p{n}.png").info().version, 0, 1) for n in range(70)]
    chunks = PictureReader(root, "images", ("image",)).chunks(pieces)
    assert next(chunks).rows == 64
    pictures.write(folder, {"p69.png": pictures.picture(70)})
    with pytest.raises(UnitFailed, match="changed"):
        list(chunks)


MIXED = {"a.png": b"x", "sub/b.parquet": b"PAR1"}
REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "tables and pictures": (MIXED, "1 Parquet files and 1 pictures"),
    "two formats": ({"a.png": b"x", "b.dcm": b"x"}, "several formats"),
    "neither": ({"a.csv": b"x"}, "no Parquet files and no pictures"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_folders_that_are_refused(tmp_path: Path, eight: StoragePath, kind: str) -> None:
    files, said = REFUSED[kind]
    with pytest.raises(DataError, match=said):
        run(eight, pictures.write(tmp_path / "d", files), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_pattern_says_which_kind_is_meant(tmp_path: Path, eight: StoragePath) -> None:
    folder = pictures.write(tmp_path / "d", {**MIXED, "a.png": pictures.picture(1), "x/y/b.png": pictures.picture(2), "c.dcm": b"x"})
    books = run(eight, f"{folder}/**/*.png", tmp_path / "o")
    assert books.counts.scored == 2
    assert read_predictions(StoragePath.of(tmp_path / "o"))["case_id"].to_pylist() in (["a.png", "x/y/b.png"], ["x/y/b.png", "a.png"])
    assert run(eight, f"{folder}/**/*.png", tmp_path / "o").read == 2


def test_one_picture_is_an_archive_too(tmp_path: Path, eight: StoragePath) -> None:
    folder = pictures.write(tmp_path / "d", {"a.png": pictures.picture(1), "b.png": pictures.picture(2)})
    assert run(eight, folder / "a.png", tmp_path / "o").read == 1
    lines = check(eight, StoragePath.of(folder), StoragePath.of(tmp_path / "new"), helper.options())
    assert lines[0] == "data: files 2, rows 2" and "sample of 2 rows: scored 2" in lines[3]


def test_slices_of_volumes_are_sent_to_ingest(tmp_path: Path) -> None:
    xray.make(2, tmp_path / "archive", size=32, broken=0)
    with pytest.raises(DataError, match="(?s)needs volumes.*series: true"):
        run(pictures.bundle_of(tmp_path / "b", kind="volume"), tmp_path / "archive" / "images", tmp_path / "o")


def test_what_the_files_do_not_say_is_named(tmp_path: Path) -> None:
    bundle = pictures.bundle_of(tmp_path / "b", cohort={"adult": "age >= 18"})
    with pytest.raises(DataError, match="the bundle needs: age"):
        run(bundle, pictures.write(tmp_path / "d", {"a.png": pictures.picture(1)}), tmp_path / "o")


def test_the_twin_takes_its_own_output_for_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, lines = helper.archive(tmp_path / "d"), list[str]()
    monkeypatch.setattr("meddx.score.planning.check_apart", lambda *_: None)
    for _ in range(2):
        score(
            helper.BUNDLE, StoragePath.of(folder), StoragePath.of(folder / "o"), options=helper.options(max_rejected=1.0),
            bundles=helper.PlainBundles(), log=lines.append,
        )  # fmt: skip
    assert "new files since the plan: 1; they are added to this run" in lines


def test_tasks_travel_with_their_family() -> None:
    from meddx.score.runner import decode_task, encode_task
    from meddx.score.units import Piece, Unit

    task = (Unit("id", (Piece("a.png", "v", 0, 1),), 5, family="images"),)
    assert decode_task(encode_task(task)) == task


@pytest.mark.parametrize("name", ["predictions", "a/_predictions"])
def test_the_output_may_not_lie_among_the_pictures(tmp_path: Path, eight: StoragePath, name: str) -> None:
    folder = pictures.write(tmp_path / "d", {"a.png": pictures.picture(1)})
    with pytest.raises(OutputError, match="inside of the data"):
        run(eight, folder, folder / name)

"""A number of patients in, an archive of DICOM chest films out, with labels, the true probability of each, and broken files.

    OUT/images/<site>/<patient_no>/<accession_no>.dcm    the films
    OUT/cases.csv      accession_no, patient_no, site, age, sex, covariates, finding (`finding` or `no finding`)
    OUT/truth.csv      accession_no, probability, strength, box and area of the lesion, file, file_state: never an input
    OUT/record.json    counts, and the best AUROC that is possible

A broken film keeps its rows in cases.csv and truth.csv, as an exam does whose file was lost on the way.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meddx.errors import RecipeError
from meddx.storage import StoragePath
from meddx.synth import folder
from meddx.synth.dicomfile import dicom_bytes
from meddx.synth.phantom import picture
from meddx.synth.population import COVARIATES, Exam, exams
from meddx.synth.truth import bayes_auroc

BREAKAGES = ("truncated", "text", "empty", "no_pixels", "ds_store")  # in turn; `ds_store` is a file too many, no exam
CASES = ("accession_no", "patient_no", "site", "age", "sex", *COVARIATES, "finding")
TRUTH = ("accession_no", "probability", "strength", "left", "top", "right", "bottom", "area", "file", "file_state")


def make(patients: int, out: StoragePath | str | Path, *, seed: int = 0, broken: int | None = None, size: int = 64) -> dict[str, Any]:
    """Write the archive and return its record.

    `broken` files (default: one of each kind; at most one a patient) cannot be read as films; `size` is a film's height and
    width in pixels.  The same arguments give the same bytes.  A folder that holds the finished archive is left as it is; one
    that holds anything else raises OutputError.
    """
    broken = min(len(BREAKAGES), patients) if broken is None else broken
    if size < 32 or not 0 <= broken <= patients or not 1 <= patients <= 999_999:
        raise RecipeError("patients: 1 to 999999, broken: 0 to patients, size: 32 pixels or more", "synth xray")
    if importlib.util.find_spec("pydicom") is None or importlib.util.find_spec("gdcm") is None:
        raise RecipeError("DICOM files need pydicom and python-gdcm", "synth xray", "pip install 'meddx[imaging]'")
    out = StoragePath.of(out)
    settings = {"kind": "xray", "patients": patients, "seed": seed, "broken": broken, "size": size}
    done = folder.claim(out, settings)
    if done is not None:
        return done
    recorder = folder.begin(settings)
    population = exams(patients, seed)
    kinds = [BREAKAGES[index % len(BREAKAGES)] for index in range(broken)]
    rubbish = kinds.count("ds_store")
    ruined = _ruined(len(population), [kind for kind in kinds if kind != "ds_store"], seed)
    truth = [_write_film(out, exam, ruined.get(index, "ok"), seed, size) for index, exam in enumerate(population)]
    for exam in [one for one in population if one.number == 0][:rubbish]:
        folder.put(out / _folder(exam) / ".DS_Store", b"\x00\x00\x00\x01Bud1" + bytes(64))
    folder.put_table(out / "truth.csv", TRUTH, truth)
    folder.put_table(out / "cases.csv", CASES, map(_case, population))
    counts = {"patients": patients, "exams": len(population), "files": len(population) + rubbish, "broken": broken}
    counts["readable"] = counts["files"] - broken
    return folder.finish(out, recorder, counts, _facts(population, truth))


def _facts(population: Sequence[Exam], truth: Sequence[tuple[object, ...]]) -> dict[str, Any]:
    return {
        "bayes_auroc": round(bayes_auroc(np.array([exam.probability for exam in population])), 6),
        "prevalence": round(float(np.mean([exam.finding for exam in population])), 6),
        "largest_lesion": max(float(str(row[TRUTH.index("area")])) for row in truth),
    }


def _ruined(n_exams: int, kinds: Sequence[str], seed: int) -> dict[int, str]:
    """Which exams (positions) have a broken file, and how."""
    chosen = np.random.default_rng([seed, 4]).choice(n_exams, size=len(kinds), replace=False)
    return dict(zip(chosen.tolist(), kinds, strict=True))


def _folder(exam: Exam) -> str:
    return f"images/{exam.site.name}/{exam.patient_no}"


def _write_film(out: StoragePath, exam: Exam, state: str, seed: int, size: int) -> tuple[object, ...]:
    """Write one file; returns its row of truth.csv.  The box is in pixels, right and bottom exclusive; area is a share of the film."""
    film, mask = picture(exam, seed, size)
    name = f"{_folder(exam)}/{exam.accession}.dcm"
    folder.put(out / name, _ruin(dicom_bytes(film, exam, seed), state))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else ("", "", "", "")
    return exam.accession, f"{exam.probability:.6f}", f"{exam.strength:.4f}", *box, f"{mask.mean():.6f}", name, state


def _case(exam: Exam) -> tuple[object, ...]:
    answer = "finding" if exam.finding else "no finding"
    return exam.accession, exam.patient_no, exam.site.name, exam.age, exam.sex, *exam.covariates, answer


def _ruin(data: bytes, state: str) -> bytes:
    if state == "truncated":
        return data[: len(data) * 3 // 5]  # in the middle of the pixels
    if state == "text":
        return b"The film was sent to the wrong address.\n"
    if state == "no_pixels":
        return _without_pixels(data)
    return b"" if state == "empty" else data


def _without_pixels(data: bytes) -> bytes:
    import pydicom

    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()

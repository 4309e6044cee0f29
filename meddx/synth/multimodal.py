"""A number of patients in, an archive of hospital stays in four sources out, with labels and the best that anyone can reach with each.

    OUT/cases.csv      stay_no, patient_no, admitted_at, decided_at (48 h later), accession_no, age, sex, severity, ..., died (yes, no)
    OUT/labs.csv       stay_no, charted_at, test, value, unit: a long table; some laboratories report creatinine in umol/L
    OUT/notes.csv      stay_no, signed_at, body
    OUT/films.zip      DICOM films, found by their accession number
    OUT/truth.csv      stay_no, probability (of who sees all that is there), those of who lacks a source, scores: never an input
    OUT/record.json    counts, and the best AUROC that is possible: with all that is there, without labs, note, film, and of the table alone

A share of the stays lacks each of labs, note and film, by chance alone.  Some labs and notes are from after the decision and know the
outcome.  See multimodal_truth for the truth, and multimodal_labs, _note and _film for how each score is written down.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from meddx.errors import RecipeError
from meddx.storage import StoragePath
from meddx.synth import folder, multimodal_labs, multimodal_note
from meddx.synth.multimodal_film import FilmPattern, film
from meddx.synth.multimodal_truth import OPTIONAL, SOURCES, chances, chances_seen
from meddx.synth.truth import Floats, bayes_auroc, spread_uniform

ABSENT = 0.15  # of the stays, for each optional source
LATE_NOTES = 0.3  # of the stays that have a note
AGAIN = 5  # each so many-th patient has a second stay
CASES = (
    "stay_no", "patient_no", "admitted_at", "decided_at", "accession_no",
    "age", "sex", "severity", "height_cm", "temperature", "ward", "died",
)  # fmt: skip
TRUTH = ("stay_no", "probability", "complete", *(f"without_{name}" for name in OPTIONAL), "table_alone", *SOURCES)
AGE, SEVERITY = (62.0, 12.0), (30.0, 10.0)  # mean and deviation of what makes the table's score
TABLE = np.array([0.6, 0.8])  # shares of age and severity in it; their squares add up to 1


@dataclass(frozen=True)
class Stays:
    """All stays: scores [n, 4] and whether each source is there (bool [n, 4]), what they are made of, labels and the clock."""

    patient: NDArray[np.int64]
    number: NDArray[np.int64]  # of the patient's stays, from 0
    scores: Floats
    there: NDArray[np.bool_]
    table: Floats  # [n, 2]: age, severity, as written
    labs: Floats  # [n, 2]
    grades: NDArray[np.int64]  # [n, 6]
    died: NDArray[np.bool_]
    admitted: list[datetime]

    @property
    def names(self) -> list[str]:
        return [f"{100 * patient + number + 1:08d}" for patient, number in zip(self.patient, self.number, strict=True)]

    @property
    def accessions(self) -> list[str]:
        """One a stay, in no order that the stays have: 7919 and 10^8 share no factor."""
        return [f"{(7919 * place + 20_000_003) % 10**8:08d}" for place in range(len(self.died))]


def make(patients: int, out: StoragePath | str | Path, *, seed: int = 0, absent: float = ABSENT) -> dict[str, Any]:
    """Write the archive and return its record; 5,000 patients have 6,000 stays.

    The same arguments give the same bytes.  A folder that holds the finished archive is left as it is; one that holds anything else
    raises OutputError.
    """
    if not 1 <= patients <= 999_999 or not 0 <= absent < 1:
        raise RecipeError("patients: 1 to 999999, absent: 0 to below 1", "synth multimodal")
    out = StoragePath.of(out)
    settings = {"kind": "multimodal", "patients": patients, "seed": seed, "absent": absent}
    done = folder.claim(out, settings)
    if done is not None:
        return done
    recorder = folder.begin(settings)
    stays = draw(patients, seed, absent)
    best = _best(stays)
    folder.put_table(out / "truth.csv", TRUTH, _truth(stays, best))
    labs, notes = list(_labs(stays, seed)), list(_notes(stays, seed))
    folder.put_table(out / "labs.csv", ("stay_no", "charted_at", "test", "value", "unit"), labs)
    folder.put_table(out / "notes.csv", ("stay_no", "signed_at", "body"), notes)
    folder.put(out / "films.zip", _films(stays, seed))
    folder.put_table(out / "cases.csv", CASES, _cases(stays, seed))
    counts = {"patients": patients, "stays": len(stays.died), "labs": len(labs), "notes": len(notes), "films": int(stays.there[:, 3].sum())}
    facts = {name: round(bayes_auroc(chance), 6) for name, chance in _named(best).items()}
    return folder.finish(out, recorder, counts, {**facts, "prevalence": round(float(stays.died.mean()), 6)})


def draw(patients: int, seed: int, absent: float) -> Stays:
    """Everything random but the wordings, the results and the pictures."""
    rng = np.random.default_rng([seed, 20])
    patient = np.repeat(np.arange(patients), 1 + (np.arange(patients) % AGAIN == AGAIN - 1))
    n = len(patient)
    normal = np.stack([ndtri(spread_uniform(rng, n)) for _ in range(5)], axis=1)
    table = np.stack([np.clip(np.round(AGE[0] + AGE[1] * normal[:, 0]), 18, 105), np.round(SEVERITY[0] + SEVERITY[1] * normal[:, 1], 1)], 1)
    grades = multimodal_note.draw_grades(rng, n)
    ours = (table - [AGE[0], SEVERITY[0]]) / [AGE[1], SEVERITY[1]] @ TABLE
    scores = np.stack([ours, multimodal_labs.score(normal[:, 2:4]), multimodal_note.score(grades), normal[:, 4]], axis=1)
    there = np.hstack([np.ones((n, 1), bool), rng.random((n, len(OPTIONAL))) >= absent])
    minutes = rng.integers(0, 700 * 24 * 60, n).tolist()
    admitted = [datetime(2023, 1, 1) + timedelta(minutes=one) for one in minutes]
    number = np.arange(n) - np.searchsorted(patient, patient)
    return Stays(patient, number, scores, there, table, normal[:, 2:4], grades, rng.random(n) < chances(scores), admitted)


def _best(stays: Stays) -> dict[str, Floats]:
    """The probabilities that the best of all models gives, by what it may look at, in the order of TRUTH."""
    seen = {"probability": stays.there, "complete": np.ones_like(stays.there)}
    for place, name in enumerate(OPTIONAL, start=1):
        seen[f"without_{name}"] = stays.there & (np.arange(len(SOURCES)) != place)
    seen["table_alone"] = np.zeros_like(stays.there) | (np.arange(len(SOURCES)) == 0)
    return {name: chances_seen(stays.scores, mask) for name, mask in seen.items()}


def _named(best: dict[str, Floats]) -> dict[str, Floats]:
    return {"bayes_auroc" if name == "probability" else f"bayes_auroc_{name}": chance for name, chance in best.items()}


def _truth(stays: Stays, best: dict[str, Floats]) -> Iterator[list[str]]:
    for place, name in enumerate(stays.names):
        yield [name, *(f"{chance[place]:.6f}" for chance in best.values()), *(f"{one:.4f}" for one in stays.scores[place])]


def _cases(stays: Stays, seed: int) -> Iterator[list[str]]:
    rng = np.random.default_rng([seed, 21])
    n = len(stays.died)
    sex = np.where(rng.random(n) < 0.5, "F", "M")
    height, temperature = rng.normal(171, 9, n), rng.normal(37.2, 0.6, n)  # these, sex and ward say nothing
    ward, accessions = rng.choice(["medical", "surgical", "cardiac"], size=n), stays.accessions
    for place, name in enumerate(stays.names):
        start, (age, severity) = stays.admitted[place], stays.table[place]
        key = accessions[place] if stays.there[place, 3] else ""
        stamps = [_stamp(start), _stamp(start + timedelta(hours=multimodal_labs.HOURS))]
        numbers = [f"{age:.0f}", sex[place], f"{severity:.1f}", f"{height[place]:.0f}", f"{temperature[place]:.1f}"]
        yield [name, f"{stays.patient[place] + 1:08d}", *stamps, key, *numbers, ward[place], "yes" if stays.died[place] else "no"]


def _labs(stays: Stays, seed: int) -> Iterator[list[str]]:
    for place, name in enumerate(stays.names):
        if not stays.there[place, 1]:
            continue
        rng = np.random.default_rng([seed, 22, place])
        known = list(multimodal_labs.results(stays.labs[place], rng))
        for hour, test, value, unit in [*known, *multimodal_labs.late_results(bool(stays.died[place]), rng)]:
            yield [name, _stamp(stays.admitted[place] + timedelta(hours=hour)), test, f"{value:g}", unit]


def _notes(stays: Stays, seed: int) -> Iterator[list[str]]:
    for place, name in enumerate(stays.names):
        if not stays.there[place, 2]:
            continue
        rng = np.random.default_rng([seed, 23, place])
        written = stays.admitted[place] + timedelta(hours=float(rng.uniform(30, 47)))
        yield [name, _stamp(written), multimodal_note.note(stays.grades[place], rng)]
        if rng.random() < LATE_NOTES:
            later = written + timedelta(hours=float(rng.uniform(24, 96)))
            yield [name, _stamp(later), multimodal_note.LATE[bool(stays.died[place])]]


def _films(stays: Stays, seed: int) -> bytes:
    """A zip whose bytes do not hang on when it was made."""
    pattern, stream = FilmPattern.make(seed), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for place, name in enumerate(stays.accessions):
            if not stays.there[place, 3]:
                continue
            rng = np.random.default_rng([seed, 24, place])
            taken = stays.admitted[place] + timedelta(hours=float(rng.uniform(1, 40)))
            data = pattern.fill(film(float(stays.scores[place, 3]), rng), f"{stays.patient[place] + 1:08d}", name, taken)
            archive.writestr(zipfile.ZipInfo(f"films/{name}.dcm", (2024, 1, 1, 0, 0, 0)), data)
    return stream.getvalue()


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")

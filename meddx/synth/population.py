"""A number of patients and a seed in, the exams of an invented chest X-ray archive out, each with its true probability.

    logit P(finding) = -2.9 + 5.8 strength + 0.02 (age - 60)

`strength` is the contrast of the lesion (0: there is none).  Site, scanner, sex, text burned into the picture and every
covariate have no term of their own: they speak for the finding only as far as a site sees more lesions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meddx.synth.truth import logistic, spread_uniform


@dataclass(frozen=True)
class Scanner:
    """How a machine shows the same chest: display = gain * (chest blurred over `blur` of the side) + offset + noise."""

    maker: str
    model: str
    modality: str
    gain: float
    offset: float
    noise: float
    blur: float
    inverted: bool = False  # stores MONOCHROME1: 0 is white
    packed: bool = False  # stores RLE Lossless
    rescale: float = 0.0  # RescaleIntercept


@dataclass(frozen=True)
class Site:
    """A hospital: share of patients, share of them with a lesion, machines, width of the black border, burned-in text."""

    name: str
    share: float
    lesions: float
    scanners: tuple[str, ...]
    border: float
    text: str
    text_share: float


SCANNERS = {
    "alpha": Scanner("Meddx Phantoms", "Alpha 100", "CR", 1.00, 0.00, 0.020, 0.006),
    "beta": Scanner("Meddx Phantoms", "Beta CR", "CR", 0.85, 0.08, 0.030, 0.012, inverted=True),
    "gamma": Scanner("Phantom Works", "Gamma DX", "DX", 0.95, 0.03, 0.025, 0.006, packed=True),
    "delta": Scanner("Phantom Works", "Delta", "CR", 0.80, 0.00, 0.035, 0.009, rescale=-1000.0),
}
SITES = (
    Site("north", 0.45, 0.48, ("alpha", "beta"), 0.00, "R", 0.8),
    Site("river", 0.35, 0.42, ("gamma",), 0.03, "AP", 0.9),
    Site("south", 0.20, 0.38, ("delta", "alpha"), 0.06, "L", 0.3),
)
EXAMS_MORE = 0.3  # exams a patient beyond the first, on average


@dataclass(frozen=True)
class Lesion:
    """A round shadow: which lung (0 left of the picture, 1 right), where in it (-1..1), radius as a share of the side."""

    lung: int
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Exam:
    """One film.  `patient` and `number` are counts from 0 that also seed the picture."""

    patient: int
    number: int
    site: Site
    scanner: Scanner
    age: int
    sex: str
    strength: float
    lesion: Lesion | None
    probability: float
    finding: bool
    covariates: tuple[float, ...]  # in the order of COVARIATES

    @property
    def accession(self) -> str:
        return f"{100 * self.patient + self.number + 1:08d}"  # with leading zeros: an id is a text

    @property
    def patient_no(self) -> str:
        return f"{self.patient + 1:06d}"


COVARIATES = ("height_cm", "weight_kg", "pack_years", "exposure_mas", "tube_kv")


def probability(strength: float, age: float) -> float:
    """The true P(finding)."""
    return float(logistic(np.array(-2.9 + 5.8 * strength + 0.02 * (age - 60))))


def exams(patients: int, seed: int) -> list[Exam]:
    """Every exam of the archive, by patient.  The lesion of a patient is the same in each film; each film is read anew."""
    rng = np.random.default_rng([seed, 0])
    sites = np.searchsorted(np.cumsum([site.share for site in SITES]), spread_uniform(rng, patients))
    sites = np.minimum(sites, len(SITES) - 1)
    ages = np.round(25 + 65 * np.sqrt(spread_uniform(rng, patients))).astype(int)
    draws = np.empty(patients)
    for index in range(len(SITES)):  # spread within a site, so that a small archive too has its share of lesions
        draws[sites == index] = spread_uniform(rng, int((sites == index).sum()))
    found: list[Exam] = []
    for patient in range(patients):
        found += _patient(seed, patient, SITES[sites[patient]], int(ages[patient]), float(draws[patient]))
    return found


def strength_of(draw: float, lesions: float) -> float:
    """A uniform number to a contrast: none, else 30 % faint (.3-.45), 30 % plain (.5-.7), 40 % strong (.75-1)."""
    if draw >= lesions:
        return 0.0
    at = draw / lesions
    return float(np.interp(at, [0, 0.3, 0.3, 0.6, 0.6, 1], [0.3, 0.45, 0.5, 0.7, 0.75, 1.0]))


def _patient(seed: int, patient: int, site: Site, age: int, draw: float) -> list[Exam]:
    rng = np.random.default_rng([seed, 1, patient])
    sex = "F" if rng.random() < 0.5 else "M"
    strength = strength_of(draw, site.lesions)
    lesion = _lesion(rng) if strength else None
    chance = probability(strength, age)
    body = _covariates(rng, age, sex)
    made = []
    for number in range(1 + int(rng.random() < EXAMS_MORE)):
        scanner = SCANNERS[site.scanners[int(rng.integers(len(site.scanners)))]]
        tube = (float(round(body[1] / 30 * np.exp(0.2 * rng.normal()), 1)), float(rng.choice([90, 110, 120])))
        made.append(Exam(patient, number, site, scanner, age, sex, strength, lesion, chance, bool(rng.random() < chance), (*body, *tube)))
    return made


def _lesion(rng: np.random.Generator) -> Lesion:
    """Uniform over the inner part of a lung's ellipse, so that the whole shadow lies in the lung."""
    angle, distance = 2 * np.pi * rng.random(), 0.72 * np.sqrt(rng.random())
    return Lesion(int(rng.integers(2)), float(distance * np.cos(angle)), float(distance * np.sin(angle)), float(rng.uniform(0.065, 0.09)))


def _covariates(rng: np.random.Generator, age: int, sex: str) -> tuple[float, float, float]:
    """Height, weight and pack years: they go with sex, age and each other, and know nothing of the lesion."""
    height = rng.normal(178 if sex == "M" else 165, 7)
    weight = rng.normal(24 + 0.05 * (age - 50), 3.5) * (height / 100) ** 2
    pack_years = max(0.0, rng.normal(0.35 * (age - 30), 9)) if rng.random() < 0.5 else 0.0
    return round(float(height), 1), round(float(np.clip(weight, 38, 180)), 1), round(float(pack_years), 1)

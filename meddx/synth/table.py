"""A number of patients in, a CSV archive of hospital stays out, with labels and the true probability of each.

    OUT/cases.csv      encounter_no, patient_no, site, ward, ..., outcome (`worse` or `stable`); `?` is a missing value
    OUT/truth.csv      encounter_no, probability, row_state: never an input
    OUT/record.json    counts, and the best AUROC that is possible

    logit P(worse) = -1.5 + 1.1 a + 2.8 b c + ward + 0.02 (age - 60)

a, b, c are standard normal and stand, in units of their own, in the columns lactate, oxygen_kpa and heart_rate.  b and c say
nothing alone, so that no sum of columns gets near the best.  Six more labs go with a, b and c and with each other, and add nothing
to them.  The probability is that of the whole truth, before values went missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from meddx.errors import RecipeError
from meddx.storage import StoragePath
from meddx.synth import folder
from meddx.synth.truth import Floats, bayes_auroc, logistic, spread_uniform

WARDS = {"007": 0.0, "012": 0.0, "031": 0.8, "104": -0.5, "110": 0.4}  # code, and what it adds to the logit
SITES = {"east": 0.03, "west": 0.10}  # name, and the share of its values that went missing
DRIVERS = {"lactate": (2.0, 0.5), "oxygen_kpa": (10.0, 1.6), "heart_rate": (88.0, 15.0)}  # mean, deviation
LABS = {
    "creatinine": (1.1, 0.2), "sodium": (139.0, 4.0), "platelets": (240.0, 55.0),
    "bilirubin": (0.9, 0.2), "albumin": (3.8, 0.5), "crp": (40.0, 9.0),
}  # fmt: skip
COLUMNS = ("encounter_no", "patient_no", "site", "ward", "age", "sex", *DRIVERS, *LABS, "outcome")
TRUTH = ("encounter_no", "probability", "row_state")
MAX_STAYS = 3


def make(patients: int, out: StoragePath | str | Path, *, seed: int = 0, broken: int | None = None) -> dict[str, Any]:
    """Write the archive and return its record.

    `broken` rows (default 3, at most one a patient) are cut off in the middle; they keep their rows in truth.csv.  The same
    arguments give the same bytes.  A folder that holds the finished archive is left as it is; one that holds anything else
    raises OutputError.
    """
    broken = min(3, patients) if broken is None else broken
    if not 1 <= patients <= 999_999 or not 0 <= broken <= patients:
        raise RecipeError("patients: 1 to 999999, broken: 0 to patients", "synth table")
    out = StoragePath.of(out)
    settings = {"kind": "table", "patients": patients, "seed": seed, "broken": broken}
    done = folder.claim(out, settings)
    if done is not None:
        return done
    recorder = folder.begin(settings)
    rows, chances = _rows(patients, seed)
    cut = set(np.random.default_rng([seed, 4]).choice(len(rows), size=broken, replace=False).tolist())
    folder.put_table(out / "truth.csv", TRUTH, _truth(rows, chances, cut))
    folder.put_table(out / "cases.csv", COLUMNS, (row[: len(row) // 2] if index in cut else row for index, row in enumerate(rows)))
    counts = {"patients": patients, "rows": len(rows), "broken": broken, "readable": len(rows) - broken}
    worse = sum(row[-1] == "worse" for row in rows)
    facts = {"bayes_auroc": round(bayes_auroc(chances), 6), "prevalence": round(worse / len(rows), 6)}
    return folder.finish(out, recorder, counts, facts)


def probability(drivers: Floats, ward: Floats, age: Floats) -> Floats:
    """The true P(worse), [n].  `drivers` is [n, 3] (a, b, c), `ward` what the ward adds, `age` in years."""
    return logistic(-1.5 + 1.1 * drivers[:, 0] + 2.8 * drivers[:, 1] * drivers[:, 2] + ward + 0.02 * (age - 60))


def _rows(patients: int, seed: int) -> tuple[list[list[str]], Floats]:
    """The rows of cases.csv, and the true probability of each."""
    rng = np.random.default_rng([seed, 10])
    patient = np.repeat(np.arange(patients), rng.choice(np.arange(1, MAX_STAYS + 1), p=(0.6, 0.3, 0.1), size=patients))
    n = len(patient)
    stay = np.arange(n) - np.searchsorted(patient, patient) + 1
    age = np.round(25 + 65 * np.sqrt(spread_uniform(rng, patients)))[patient]
    sex = np.where(rng.random(patients) < 0.5, "F", "M")[patient]
    site = rng.choice(list(SITES), p=(0.65, 0.35), size=patients)[patient]
    ward = rng.choice(list(WARDS), size=n)
    drivers = np.stack([ndtri(spread_uniform(rng, n)) for _ in DRIVERS], axis=1)
    chances = probability(drivers, np.array([WARDS[code] for code in ward]), age)
    worse = rng.random(n) < chances
    numbers = _as_text(rng, np.hstack([drivers, _labs(rng, drivers)]), np.array([SITES[name] for name in site]))
    keys = [(f"{100 * patient[i] + stay[i]:08d}", f"{patient[i] + 1:06d}") for i in range(n)]  # with leading zeros: an id is a text
    who = [[f"{years:.0f}", one] for years, one in zip(age, sex, strict=True)]
    ends = np.where(worse, "worse", "stable")
    return [[*keys[i], site[i], ward[i], *who[i], *numbers[i], ends[i]] for i in range(n)], chances


def _labs(rng: np.random.Generator, drivers: Floats) -> Floats:
    """[n, 6] standard normal: half of each lab's variance is a mixture of a, b, c, a quarter is one common factor."""
    mixture = rng.normal(size=(drivers.shape[1], len(LABS)))
    mixture /= np.linalg.norm(mixture, axis=0)
    common = rng.normal(size=(len(drivers), 1))
    return np.asarray(np.sqrt(0.5) * drivers @ mixture + 0.5 * common + 0.5 * rng.normal(size=(len(drivers), len(LABS))), dtype=np.float64)


def _as_text(rng: np.random.Generator, values: Floats, missing: Floats) -> list[list[str]]:
    """Standard normal [n, columns] as written in the units of each column; `missing` is the share of `?` for each row."""
    scale = np.array([*DRIVERS.values(), *LABS.values()])
    written = scale[:, 0] + scale[:, 1] * values
    gone = rng.random(values.shape) < missing[:, None]
    return [["?" if lost else f"{value:.2f}" for value, lost in zip(*pair, strict=True)] for pair in zip(written, gone, strict=True)]


def _truth(rows: list[list[str]], chances: Floats, cut: set[int]) -> Iterator[tuple[str, str, str]]:
    for index, row in enumerate(rows):
        yield row[0], f"{chances[index]:.6f}", "cut" if index in cut else "ok"

from collections import Counter

import numpy as np
import pytest

from meddx.synth.population import EXAMS_MORE, SITES, exams, probability, strength_of
from meddx.synth.truth import bayes_auroc


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patients", [30, 200, 2000])
def test_bayes_auroc_is_in_range_for_any_size_and_seed(patients: int, seed: int) -> None:
    assert 0.85 <= bayes_auroc(np.array([one.probability for one in exams(patients, seed)])) <= 0.93


def test_labels_come_from_the_true_probability() -> None:
    population = exams(4000, 1)
    chances, labels = np.array([one.probability for one in population]), np.array([one.finding for one in population])
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 1.0)):
        inside = (chances >= low) & (chances < high)
        spread = 4 * np.sqrt(np.sum(chances[inside] * (1 - chances[inside]))) / inside.sum()
        assert labels[inside].mean() == pytest.approx(chances[inside].mean(), abs=spread)


def test_the_probability_rises_with_contrast_and_age() -> None:
    assert probability(0.0, 60) < 0.06 < probability(0.3, 60) < probability(0.6, 60) < probability(1.0, 60) < 0.96
    assert probability(0.5, 40) < probability(0.5, 80)


def test_there_are_several_grades_of_lesion() -> None:
    strengths = np.array([strength_of(draw, 0.5) for draw in np.linspace(0, 0.999, 2001)])
    assert np.mean(strengths == 0) == pytest.approx(0.5, abs=0.01)
    assert {round(one, 1) for one in strengths if one} >= {0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0}
    assert strengths.max() <= 1


def test_patients_keep_their_lesion_site_and_age() -> None:
    population = exams(500, 2)
    assert len(population) == pytest.approx(500 * (1 + EXAMS_MORE), rel=0.08)
    seen: dict[str, tuple[object, ...]] = {}
    for one in population:
        fixed = (one.site, one.age, one.sex, one.lesion, one.strength)
        assert seen.setdefault(one.patient_no, fixed) == fixed
    assert len(seen) == 500
    assert len({one.accession for one in population}) == len(population)


def test_sites_differ_a_little_in_prevalence() -> None:
    population = exams(6000, 3)
    lesions = {site.name: np.mean([one.lesion is not None for one in population if one.site is site]) for site in SITES}
    assert 0.04 < lesions["north"] - lesions["south"] < 0.16
    assert Counter(one.scanner.inverted for one in population)[True] > 500


def test_covariates_go_together_but_not_with_the_finding() -> None:
    population = exams(3000, 4)
    values = np.array([one.covariates for one in population])
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] > 0.5  # height and weight
    assert np.corrcoef(values[:, 1], values[:, 3])[0, 1] > 0.4  # weight and exposure
    strengths = [one.strength for one in population]
    assert all(abs(np.corrcoef(values[:, column], strengths)[0, 1]) < 0.08 for column in range(values.shape[1]))

from dataclasses import replace

import numpy as np
import pytest

from meddx.synth.phantom import anatomy, picture
from meddx.synth.population import SCANNERS, SITES, Exam, exams

POPULATION = exams(120, 0)


def with_lesion(strength: float = 1.0) -> Exam:
    exam = next(one for one in POPULATION if one.lesion is not None)
    return replace(exam, strength=strength, scanner=SCANNERS["alpha"], site=SITES[0])


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_lesions_are_small_and_films_are_in_range(size: int) -> None:
    for exam in POPULATION[:60]:
        film, mask = picture(exam, 0, size)
        assert film.shape == mask.shape == (size, size) and film.dtype == np.float32
        assert film.min() >= 0 and film.max() <= 1
        assert (0 < mask.mean() <= 0.03) if exam.lesion else not mask.any()


def test_the_lesion_lies_in_a_lung() -> None:
    for exam in POPULATION:
        if exam.lesion:
            body = anatomy(0, exam.patient)
            x, y, wide, high = body.lung(exam.lesion.lung)
            mask = picture(exam, 0, 64)[1]
            rows, columns = np.nonzero(mask)
            assert np.hypot((columns.mean() / 64 - x) / (wide + 0.03), (rows.mean() / 64 - y) / (high + 0.03)) < 1


def test_places_differ() -> None:
    centres = {(round(one.lesion.x, 1), round(one.lesion.y, 1), one.lesion.lung) for one in POPULATION if one.lesion}
    assert len(centres) > 30


def test_only_contrast_tells_a_strong_lesion_from_a_faint_one() -> None:
    faint, mask = picture(with_lesion(0.3), 0, 64)
    strong, same = picture(with_lesion(1.0), 0, 64)
    assert np.array_equal(mask, same)
    change = strong - faint
    assert change[mask].mean() > 0.15
    assert np.abs(change[:10]).max() == 0  # far away nothing moves


def test_films_of_a_patient_differ_and_repeat_exactly() -> None:
    exam = with_lesion()
    again = replace(exam, number=exam.number + 1)
    assert np.array_equal(picture(exam, 0, 64)[0], picture(exam, 0, 64)[0])
    assert not np.array_equal(picture(exam, 0, 64)[0], picture(again, 0, 64)[0])
    assert not np.array_equal(picture(exam, 0, 64)[0], picture(exam, 1, 64)[0])


def test_the_border_and_the_letters_come_with_the_site() -> None:
    bordered = [one for one in POPULATION if one.site.border]
    assert all(picture(one, 0, 64)[0][0].max() == 0 for one in bordered)
    corner = {site.name: np.mean([picture(one, 0, 64)[0][4:9].max() > 0.97 for one in POPULATION if one.site is site]) for site in SITES}
    assert corner["river"] > 0.7 > 0.5 > corner["south"]

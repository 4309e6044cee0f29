"""Graded findings of a stay in, a nurse's note in English out.

Six things are graded from -2 (well) to 2 (badly).  Each grade has sentences of its own, so the words give the grades away; between them
stand sentences that say nothing.  The note's score is the sum of the grades over its deviation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GRADES = (-2, -1, 0, 1, 2)
# of each thing: the grades from well to badly, each in two wordings
FINDINGS: tuple[tuple[tuple[str, str], ...], ...] = (
    (
        ("Breathing is effortless on room air.", "Breathes quietly, lungs clear."),
        ("Slight cough, breathing unhurried.", "Breathing fine with a little oxygen overnight."),
        ("Short of breath when walking to the bathroom.", "Some wheeze this evening, eased with an inhaler."),
        ("Laboured breathing, needs the mask most of the time.", "Tachypnoeic, speaks in short sentences."),
        ("Gasping despite high flow oxygen.", "Exhausted from the work of breathing, sats keep falling."),
    ),
    (
        ("Bright and chatty, fully orientated.", "Alert, reading the newspaper."),
        ("Awake and appropriate.", "Answers promptly, a bit tired."),
        ("Drowsy after lunch but rousable.", "Quiet today, orientated to person."),
        ("Muddled about the date and restless.", "Confused at times, pulls at the lines."),
        ("Barely responds to voice.", "Stuporous, opens eyes to pain only."),
    ),
    (
        ("Ate all meals with relish.", "Excellent appetite, finished breakfast and dinner."),
        ("Eating most of what is offered.", "Good fluid intake, ate half of lunch."),
        ("Picks at the food.", "Managed soup and yoghurt."),
        ("Refused meals, sips of water.", "Nauseated, hardly any intake."),
        ("Vomiting everything, nil by mouth.", "No oral intake at all, gut silent."),
    ),
    (
        ("Walked the corridor unaided.", "Independent, climbed a flight of stairs."),
        ("Walks with a stick.", "Steady to the chair alone."),
        ("Transfers with one helper.", "Sat out for an hour with support."),
        ("Needs two to turn in bed.", "Too weak to stand."),
        ("Bedbound, limp limbs.", "Does not move without help, flaccid."),
    ),
    (
        ("Skin pink and warm.", "Well perfused, strong pulses."),
        ("Warm hands, normal colour.", "Capillary refill brisk."),
        ("A little pale.", "Cool fingers, colour fair."),
        ("Clammy and grey around the lips.", "Mottled knees noted."),
        ("Cyanosed, peripheries icy.", "Mottling spreads to the trunk."),
    ),
    (
        ("Passing plenty of clear urine.", "Excellent diuresis."),
        ("Urine output adequate.", "Voids freely."),
        ("Urine concentrated.", "Output borderline this shift."),
        ("Oliguric since noon.", "Catheter drains little dark urine."),
        ("Anuric.", "No urine since yesterday."),
    ),
)
FILLERS = (
    "Daughter visited and was updated.", "Physiotherapy to review tomorrow.", "Line site clean and dry.", "Slept in spells.",
    "Blood taken as ordered.", "Dressing changed.", "Family brought a radio.", "Bed near the window as requested.",
    "Pharmacist checked the chart.", "Chaplain came by.", "Consultant round at nine.", "Allergy band in place.",
)  # fmt: skip
LATE = {True: "Deteriorated and died despite full treatment, family informed.", False: "Discharged home in good spirits."}


def _scores() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values that a note's score can have, and their probabilities: all grades are equally likely."""
    shares = np.ones(1)
    for _ in FINDINGS:
        shares = np.convolve(shares, np.full(len(GRADES), 1 / len(GRADES)))
    most = max(GRADES) * len(FINDINGS)
    return np.arange(-most, most + 1) / _deviation(), shares


def _deviation() -> float:
    return float(np.sqrt(len(FINDINGS) * np.mean(np.square(GRADES))))


SCORES = _scores()


def score(grades: Ints) -> NDArray[np.float64]:
    """The notes' scores [n] of grades [n, 6] in -2..2."""
    return np.asarray(grades.sum(axis=1) / _deviation(), np.float64)


def draw_grades(rng: np.random.Generator, n: int) -> Ints:
    """[n, 6], each grade equally likely."""
    return rng.choice(GRADES, size=(n, len(FINDINGS)))


def note(grades: Ints, rng: np.random.Generator) -> str:
    """One note: a sentence for each of the six grades and two to four that say nothing, in random order."""
    wordings = rng.integers(2, size=len(FINDINGS))
    said = [finding[grade - GRADES[0]][wording] for finding, grade, wording in zip(FINDINGS, grades.tolist(), wordings, strict=True)]
    said += [FILLERS[place] for place in rng.choice(len(FILLERS), size=int(rng.integers(2, 5)), replace=False)]
    return " ".join(said[place] for place in rng.permutation(len(said)))

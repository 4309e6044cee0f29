"""A comparison in, the sentences about what it is not out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meddx.evaluate.words import count, opened_sentence
from meddx.report.about import About


def limits(comparison: Mapping[str, Any], about: About) -> list[str]:
    """What a reader must not conclude from the page; the fixed ones first, then those of this comparison."""
    cases = comparison["cases"]
    whose = "of the folds" if comparison.get("folds") else "of the test part"
    found = [
        "Not a device, and not a reason to treat: this is a measurement on past cases; whether its use would help was not looked at.",
        f"Not another hospital: the numbers hold for patients like those {whose}, recorded in the same way.",
        _of_training(comparison),
        "Not subgroups: whether the model works as well for women and men, young and old, or each site was not looked at here.",
        "Not many verdicts: only the primary comparison has one. The others were not adjusted for their number; expect one in twenty to "
        "stand out by chance.",
    ]
    if about.opened > 1:
        found.append(f"{opened_sentence(about.opened)} What was changed after a look was fitted to this test part.")
    if cases["left_out"]:
        found.append(
            f"{count(cases['left_out'], 'labelled ' + cases.get('noun', 'test case'))} without a prediction: in no number; "
            f"how a model does on them is unknown."
        )
    if cases["without_patient"]:
        found.append("Where patients are not known, several cases of one patient count as several, and intervals may be too narrow.")
    if comparison["target"]["kind"] == "binary":
        found.append("PPV depends on how frequent the outcome is; elsewhere it is another number.")
    if comparison["target"]["kind"] == "tags":
        found.append(
            "Not reading: a span counts only if both ends and the label agree, so one that is off by a letter counts as missed and as "
            "wrong; what a span means (negated, suspected, somebody else's) was not asked."
        )
    return found


def _of_training(comparison: Mapping[str, Any]) -> str:
    if not comparison.get("folds"):
        return (
            "Not the doubt of training: intervals say how the numbers vary with the patients drawn, not with another run of the training."
        )
    return (
        "Not one model: the numbers are of the way in which models are made, each from fewer cases than the bundle, which is fitted on all "
        "rows and was itself measured nowhere. The intervals of folds are an approximation, for their training cases overlap."
    )

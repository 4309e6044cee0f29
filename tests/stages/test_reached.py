"""The header's line is made of the comparison's numbers, and counts every look at the test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meddx.recipe import Recipe
from meddx.stages.compare import Verdict, question
from meddx.stages.docs import recipes_table
from meddx.stages.reached import line, opened_before, write
from meddx.storage import StoragePath

PAGE = {
    "name": "page",
    "data": "x.csv",
    "id": "id",
    "patient": "who",
    "target": {"kind": "binary", "column": "y", "positive": ["1"], "negative": ["0"]},
    "inputs": {"table": {}},
    "comparison": {"primary": {"metric": "auroc", "against": "logistic"}, "also": ["brier"]},
}


def verdict(auroc: float, word: str, folds: dict[str, Any] | None = None) -> Verdict:
    numbers = {"network": (auroc, 0.1), "prevalence": (0.5, 0.2), "logistic": (0.7, 0.15)}
    models = [
        {"name": name, "kind": "network", "numbers": {"auroc": {"value": a}, "brier": {"value": b}}} for name, (a, b) in numbers.items()
    ]
    primary = {"metric": "auroc", "metric_name": "AUROC", "model": "network", "against": "logistic", "verdict": word}
    comparison = {"primary": primary, "models": models, "folds": folds, "metrics": {"auroc": "AUROC", "brier": "Brier score"}}
    return Verdict("", StoragePath.of("x"), comparison, 1)


def test_the_line_holds_the_mean_and_each_seed() -> None:
    recipe = Recipe.model_validate(PAGE)
    found = line(recipe, [[verdict(0.80, "useful")], [verdict(0.82, "not_shown")], [verdict(0.84, "better")]], 12.3, before=4)
    assert "test AUROC 0.820 (0.800, 0.820, 0.840), logistic 0.700; shown to be better than logistic in 2 of 3" in found
    assert "Brier score 0.100, logistic 0.150" in found and "prevalence" not in found
    assert "12 s a run" in found and found.endswith("test part opened 7 times.")


def test_classes_that_count_are_told_one_by_one() -> None:
    target = {"kind": "multiclass", "column": "y", "classes": ["a", "b", "c"]}
    comparison = {**PAGE["comparison"], "classes": ["b"]}  # type: ignore[dict-item]
    recipe = Recipe.model_validate({**PAGE, "target": target, "comparison": comparison})
    models = {name: {"sensitivity": {"value": one}, "ppv": {"value": one / 2}} for name, one in (("network", 0.8), ("logistic", 0.6))}
    found = verdict(0.8, "useful")
    found.comparison["per_class"] = [{"class": "a", "models": {}}, {"class": "b", "models": models}]
    assert "; b sensitivity / PPV 0.800 / 0.400, logistic 0.600 / 0.300;" in line(recipe, [[found]], 1.0, before=0)


def test_folds_are_held_out_answers() -> None:
    recipe = Recipe.model_validate(PAGE)
    found = line(recipe, [[verdict(0.8, "useful", {"count": 25})]], 1.0, before=0)
    assert found.startswith("held-out AUROC") and found.endswith("held-out answers of 25 folds opened 1 times.")


@pytest.mark.parametrize("old", ["?", "test AUROC 0.1, and more;\n#   and more on a second line; test part opened 3 times."])
def test_the_line_takes_the_old_ones_place(tmp_path: Path, old: str) -> None:
    page = tmp_path / "page.yaml"
    page.write_text(f"# Is it so?\n# Not: otherwise.\n# Reaches: {old}\n#   meddx train page.yaml --compare\nname: page\n")
    write(page, "word " * 60 + "end.")
    text = page.read_text()
    assert "AUROC" not in text and text.count("Reaches:") == 1 and "#   meddx train page.yaml --compare\nname: page\n" in text
    assert all(len(one) <= 140 for one in text.splitlines())


@pytest.mark.parametrize("words", range(20))
def test_what_was_opened_before_is_read_wherever_the_line_breaks(tmp_path: Path, words: int) -> None:
    page = tmp_path / "page.yaml"
    page.write_text("# Reaches: ?\n#   meddx train page.yaml\nname: page\n")
    assert opened_before(page) == 0
    write(page, f"{'four ' * (20 + words)}test part opened 12 times.")
    assert opened_before(page) == 12


def test_the_readme_shows_a_line_that_is_wrapped(tmp_path: Path) -> None:
    for path in Path("jobs/recipes").glob("wdbc.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
        write(tmp_path / path.name, "test AUROC 0.5, " * 20 + "end.")
    assert "end. |" in recipes_table(tmp_path)


def test_the_question_is_two_lines_and_nothing_that_was_reached(tmp_path: Path) -> None:
    page = tmp_path / "page.yaml"
    page.write_text(
        "# Is it so?\n#   Said at length.\n# Not: otherwise,\n# nor elsewhere.\n# Reaches: .9\n#   meddx train page.yaml\nname: page\n"
    )
    assert question(page) == "Is it so? Said at length.\nNot: otherwise, nor elsewhere."

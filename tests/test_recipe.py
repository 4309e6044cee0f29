"""The grammar of a page: what loads, what is refused, and how the message helps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from meddx import recipe, yamlconf
from meddx.errors import RecipeError

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "jobs/recipes").glob("*.yaml"))

SMALL: dict[str, Any] = {
    "name": "small",
    "data": "cases.csv",
    "id": "case_no",
    "patient": "patient_no",
    "target": {"kind": "binary", "column": "ill", "positive": ["yes"], "negative": ["no"]},
    "inputs": {"table": {"category": ["diag_*"]}},
}


def load(tmp_path: Path, *overrides: str, page: dict[str, Any] | None = None) -> recipe.Recipe:
    import yaml

    path = tmp_path / "page.yaml"
    path.write_text(yaml.safe_dump(page or SMALL))
    return recipe.load(path, overrides)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_shipped_page_loads_and_says_how_to_run_it(path: Path) -> None:
    page = recipe.load(path)
    assert page.name.replace("-", "_") == path.stem
    head = path.read_text().split("\nname:")[0]
    assert "?" in head and "Not" in head and "Reaches" in head and f"meddx train jobs/recipes/{path.name}" in head
    assert "to be measured" not in head


def test_short_form_is_the_long_form(tmp_path: Path) -> None:
    long = {key: value for key, value in SMALL.items() if key not in ("data", "id", "patient")}
    long |= {"sources": {"data": {"path": "elsewhere.csv"}}, "case": {"id": "case_no", "patient": "patient_no"}}
    assert load(tmp_path).fingerprint() == load(tmp_path, page=long).fingerprint()


def test_fingerprint_sees_what_decides_the_numbers_only(tmp_path: Path) -> None:
    base = load(tmp_path)
    same = load(tmp_path, "out=/somewhere", "data=/other/cases.csv")
    assert base.fingerprint() == same.fingerprint() == load(tmp_path, page=dict(reversed(SMALL.items()))).fingerprint()
    assert base.fingerprint() == load(tmp_path, "training.workers=1").fingerprint(), "one shard either way"
    assert base.fingerprint() != load(tmp_path, "training.workers=2").fingerprint()
    assert load(tmp_path, "training.shards=2").fingerprint() == load(tmp_path, "training.workers=2", "training.shards=2").fingerprint()
    assert base.fingerprint() != load(tmp_path, "training.lr=0.01").fingerprint()
    assert base.fingerprint("sources", "case") == load(tmp_path, "training.lr=0.01").fingerprint("sources", "case")


def test_text_columns_are_ids_labels_and_codes(tmp_path: Path) -> None:
    assert load(tmp_path).text_columns == ("case_no", "patient_no", "ill", "diag_*")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", ["unknown key training.epoch", "'epochs'", "page.yaml"]),
        ("inputs.table.colums=x", ["unknown key inputs.table.colums", "'columns'", "from"]),
        ("training.epochs=many", ["training.epochs", "'many'"]),
        ("training.epochs=0", ["training.epochs", "0"]),
        ("training.stop_on=logloss", ["'log_loss'", "allowed"]),
        ("baselines=[logistik]", ["baselines.0.kind", "did you mean 'logistic'"]),
        ("inputs.film={kind: imge, size: 3}", ["inputs.film", "did you mean 'image'"]),
        ("inputs.film.kind=image", ["inputs.film.size is missing"]),
        ("model.encoders.table=resnet18", ["not a network for a table"]),
        ("model.encoders.table=resnet81", ["did you mean 'resnet"]),
        ("model.encoders.films=cnn", ["no such input", "table"]),
        ("threshold.goal=sensitivity > 0.8", ["threshold.goal"]),
        ("threshold.goal=macro_f1", ["multiclass target"]),
        ("threshold.classes=[nobody]", ["threshold.classes", "nobody"]),
        ("target.positive=[no]", ["both positive and negative"]),
        ("target.positive=[]", ["name the class that counts as yes"]),
        ("target.kind=multiclass", ["classes"]),
        ("split.parts={train: 0.9, test: 0.2}", ["no cases are given to validate, calibrate"]),
        ("split.parts={train: 0.9, validate: 0.1, calibrate: 0.1, test: 0.2}", ["add up to 1"]),
        ("split={by: site, parts: {train: [a], validate: [b], calibrate: [c], test: [d]}}", ["case.site"]),
        ("split={by: time, parts: {train: 2019-01-01, validate: 2020-01-01, calibrate: 2021-01-01, test: 2022-01-01}}", ["predict_at"]),
        ("comparison.primary.against=forest", ["not a baseline of this page"]),
        ("comparison.primary.model=nothing", ["not a model of this page"]),
        ("model.name=logistic", ["name of a baseline"]),
        ("training={workers: 3, shards: 2}", ["at least 3 shards"]),
        ("patient={unknown: no}", ["case.patient"]),
        ("sources={a: {path: x}}", ["either `data` or `sources`"]),
        ("name=Über", ["name"]),
        ("scoring.max_rejected=2", ["max_rejected"]),
        ("timing.known_at={a: ''}", ["in words"]),
    ],
)
def test_messages_name_key_value_and_what_to_write(tmp_path: Path, override: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, override)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert caught.value.exit_code == 2


def joined_page(**labs: Any) -> dict[str, Any]:
    page = {key: value for key, value in SMALL.items() if key not in ("data", "id", "patient")}
    sources = {"stays": {"path": "a"}, "labs": {"path": "b", "join": "i", **labs}}
    return page | {"sources": sources, "case": {"from": "stays", "id": "i", "patient": "p", "predict_at": "48h"}}


def test_a_second_source_is_joined(tmp_path: Path) -> None:
    page = joined_page(time="minute", time_unit="min")
    page["inputs"] = {"course": {"kind": "events", "from": "labs", "variable": "what", "value": "v", "window": ["-48h", "0h"]}}
    made = load(tmp_path, page=page)
    assert made.case_source == "stays" and list(made.joined) == ["labs"]
    assert made.joined["labs"].join == {"i": "i"} and made.joined["labs"].text == ("what",)
    assert made.case.predict_after is not None and made.case.predict_column is None
    assert made.encoders["course"].kind == "gru"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda page: page["sources"]["labs"].pop("join"), "labs: say how it is joined"),
        (lambda page: page["sources"]["stays"].update(join="i"), "stays: the cases are not joined"),
        (lambda page: page["case"].pop("from") and page["sources"]["labs"].pop("join"), "one of them holds the cases"),
        (lambda page: page["case"].pop("predict_at") and page["sources"]["labs"].update(time="t"), "needs case.predict_at"),
        (lambda page: page["sources"]["labs"].update(window=["0h", "-1h"], time="t"), "from the earlier to the later"),
        (lambda page: page["sources"]["labs"].update(window=["-1h", "0h"]), "need `time`"),
        (lambda page: page["inputs"]["table"].update({"from": "lab"}), "there is no source"),
        (lambda page: page.update(model={"encoders": {"table": "gru"}}), "gru is not a network for a table"),
        (lambda page: page.update(baselines=["logistic", "logistic"]), "stands twice"),
    ],
)
def test_sources_that_do_not_fit_together_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    page = copy.deepcopy(joined_page())
    change(page)
    with pytest.raises(RecipeError, match=said):
        load(tmp_path, page=page)


def test_percent_is_a_share(tmp_path: Path) -> None:
    assert load(tmp_path, "scoring.max_rejected=1%").scoring.max_rejected == pytest.approx(0.01)
    assert load(tmp_path, "scoring.max_rejected=0.02").scoring.max_rejected == 0.02


def test_unreadable_pages(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read"):
        recipe.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(RecipeError, match="UTF-8"):
        recipe.load(tmp_path / "latin.yaml")


def test_each_key_is_read_somewhere() -> None:
    """A key that nobody reads is a promise that nobody keeps."""
    import re

    code = "\n".join(path.read_text() for path in (ROOT / "meddx").rglob("*.py") if path.name != "options.py")
    options = "\n".join(path.read_text() for path in (ROOT / "meddx").rglob("options.py"))
    unread = []
    for key, _, _ in yamlconf.keys_of(recipe.Recipe):
        name = key.removesuffix(".<name>").rsplit(".", 1)[-1]
        name = {"from": "source"}.get(name, name)
        used_inside = re.search(rf"self\.{name}\b", options)
        if not used_inside and not re.search(rf"\.{name}\b|\"{name}\"|'{name}'", code):
            unread.append(key)
    assert not unread

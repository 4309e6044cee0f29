"""The page as a reader, a browser and a screen reader meet it: escaped, self-contained, in order, readable, and true to its numbers."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from meddx.evaluate.compare import compare
from meddx.evaluate.folds import FoldScores, compare_folds
from meddx.evaluate.options import ComparisonOptions, PrimaryOptions
from meddx.evaluate.spans import span_array
from meddx.evaluate.types import ModelScores, Truth
from meddx.report.about import About, Counts
from meddx.report.page import render, write_page
from meddx.storage import StoragePath

EVIL = '<script>alert("x")</script>$&\'_'
VOID = {"meta", "line", "path", "use", "rect", "br", "link"}


class Reader(HTMLParser):
    """Counts what matters: nesting, ids, headings, addresses, tables."""

    def __init__(self):
        super().__init__()
        self.stack, self.ids, self.headings, self.tags, self.bad = [], [], [], [], []
        self.addresses, self.cells_without_scope, self.captions, self.text = [], 0, 0, ""

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.stack += [] if tag in VOID else [tag]
        self.ids += [found["id"]] if "id" in found else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.addresses += [found[key] for key in ("src", "href", "action", "data") if key in found]
        self.cells_without_scope += tag == "th" and "scope" not in found
        self.captions += tag == "caption"
        self.bad += [key for key in found if key.startswith("on")]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack and self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data


def about(**changes):
    counts = Counts(
        read=1005,
        quarantined_at_ingest=2,
        outside_cohort=1,
        unlabelled=1,
        dropped=1,
        parts={"train": 500, "validate": 100, "calibrate": 100, "test": 300},
        scored=299,
        quarantined_in_scoring=1,
    )
    given = About(
        title="breast mass",
        question=("Is this mass malignant?", "Not: screening."),
        fingerprint="a1b2c3d4e5f60718",
        dataset_digest="9f" * 32,
        bundles={"network": "0123456789abcdef"},
        versions={"python": "3.11"},
        seconds=3.2,
        opened=2,
        counts=counts,
        split="by patient, seed 0",
        made="2026-11-21T10:00:00+00:00",
        notes=("1 exact copy was dropped.",),
        command="meddx compare wdbc.yaml",
    )
    return replace(given, **changes)


def comparison(n=300, name="network", classes=("benign", "malignant"), column="diagnosis", prior=True, patients=None, useful=0.01):
    random = np.random.default_rng(0)
    labels = (random.random(n) < 0.4).astype(float)
    models = {}
    for one, clear, kind in (("logistic", 1.0, "baseline"), ("forest", 1.1, "baseline"), (name, 1.8, "network")):
        logit = clear * (clear * labels + random.normal(size=n)) - clear**2 / 2 - 0.4
        said = 1 / (1 + np.exp(-logit))
        threshold = {"value": 0.4, "goal": "sensitivity >= 0.99", "confidence": None, "reached": {}}
        models[one] = ModelScores(said, said > 0.4, kind, threshold=threshold)
    if prior:
        models["physician"] = ModelScores(np.where(random.random(n) < 0.2, np.nan, labels + random.normal(size=n)), None, "prior")
    options = ComparisonOptions(primary=PrimaryOptions(model=name, against="logistic", smallest_useful=useful), bootstrap=200)
    truth = Truth("binary", classes, labels, np.ones(n, bool), column)
    return compare(models, truth, patients or list(map(str, range(n))), options, train_rates=[0.4])


def many(kind="multiclass", k=10, n=400):
    random = np.random.default_rng(0)
    values = random.integers(0, k, n)
    logits = random.normal(size=(n, k)) + 2 * np.eye(k)[values]
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple(f"class {one}" for one in range(k))
    options = ComparisonOptions(primary=PrimaryOptions(against="logistic"), bootstrap=200)
    if kind == "multilabel":
        known = random.random((n, k)) < 0.9
        models = {"network": ModelScores(said, said > 0.2), "logistic": ModelScores(said[:, ::-1], said > 0.3, "baseline")}
        return compare(models, Truth(kind, names, np.eye(k)[values], known), None, options, train_rates=[1 / k] * k)
    models = {"network": ModelScores(said, said.argmax(1)), "logistic": ModelScores(said[::-1], said[::-1].argmax(1), "baseline")}
    return compare(models, Truth(kind, names, values, np.ones(n, bool), "tissue"), None, options, train_rates=[1 / k] * k)


def values(n=300):
    random = np.random.default_rng(0)
    seen = random.normal(150, 30, n)
    good = seen + random.normal(0, 10, n)
    models = {
        "network": ModelScores(good, None, low=good - 16, high=good + 16),
        "linear": ModelScores(seen + random.normal(0, 20, n), None, "baseline"),
    }
    options = ComparisonOptions(primary=PrimaryOptions(metric="mae", against="linear"), bootstrap=200)
    return compare(models, Truth("regression", (), seen, np.ones(n, bool), "pressure"), None, options, train_rates=[150.0])


def folds(n=200, same=False, name="network"):
    random = np.random.default_rng(0)
    labels, parts = (random.random(n) < 0.4).astype(float), []
    for place in range(10):
        rows = np.arange(n)[place % 5 :: 5]
        scores = {}
        for one, clear, kind in ((name, 2.0, "network"), ("forest", 1.1, "baseline"), ("logistic", 0.9, "baseline")):
            said = 1 / (1 + np.exp(-clear * (clear * labels[rows] + random.normal(size=len(rows))) + clear**2 / 2 + 0.4))
            scores[one] = ModelScores(said, said > 0.4, kind)
        if same:
            scores["forest"] = replace(scores[name], kind="baseline")
        truth = Truth("binary", ("benign", "malignant"), labels[rows], np.ones(len(rows), bool), "diagnosis")
        parts.append(FoldScores(place // 5, place % 5, truth, [str(row) for row in rows], scores, n - len(rows)))
    against = "forest" if same else "best"
    return compare_folds(parts, ComparisonOptions(primary=PrimaryOptions(model=name, against=against), bootstrap=200))


def tags(n=200, count=0, labels=("Disease", "Chemical"), name="network"):
    random = np.random.default_rng(0)
    true, said = [], {name: [], "dictionary": []}
    for _ in range(n):
        true.append([(int(one), int(one) + 4, int(random.integers(0, 2))) for one in 10 * random.choice(9, 3, replace=False)])
        for found, chance in ((said[name], 0.9), (said["dictionary"], 0.6)):
            found.append([one for one in true[-1] if random.random() < chance])
    truth = Truth("tags", labels, span_array(true), np.ones(n, bool), "spans")
    options = ComparisonOptions(primary=PrimaryOptions(metric="span_f1", model=name, against="dictionary"), bootstrap=200)
    models = {one: ModelScores(span_array(spans), None, "network" if one == name else "baseline") for one, spans in said.items()}
    if not count:
        return compare(models, truth, [str(row) for row in range(n)], options, train_rates=[0.7, 0.7])
    parts = []
    for fold in range(count):
        rows = np.arange(n)[fold::count]
        scores = {one: replace(given, probabilities=given.probabilities[rows]) for one, given in models.items()}
        part = replace(truth, values=truth.values[rows], known=truth.known[rows])
        parts.append(FoldScores(0, fold, part, [str(row) for row in rows], scores, n - len(rows)))
    return compare_folds(parts, options)


def beats():
    """Five folds of whole records, 22 in all; the last class is not in the second fold."""
    random, parts = np.random.default_rng(0), []
    for fold in range(5):
        records = np.repeat(np.arange(22)[fold::5], 60)
        classes = random.choice(3 if fold == 1 else 4, len(records))
        scores = {}
        for one, clear, kind in (("network", 2.5, "network"), ("boosting", 1.5, "baseline"), ("logistic", 0.8, "baseline")):
            logits = random.normal(size=(len(records), 4)) + clear * np.eye(4)[classes]
            said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            scores[one] = ModelScores(said, said.argmax(axis=1), kind)
        truth = Truth("multiclass", ("N", "S", "V", "F"), classes, np.ones(len(records), bool), "beat")
        parts.append(FoldScores(0, fold, truth, [f"r{one}" for one in records], scores, 1000))
    return compare_folds(parts, ComparisonOptions(primary=PrimaryOptions(metric="macro_f1", against="boosting"), bootstrap=200))


@pytest.fixture(scope="module")
def binary():
    return comparison()


SCENES = {
    "binary": comparison,
    "few": lambda: comparison(25),
    "multiclass": many,
    "multilabel": lambda: many("multilabel", 3),
    "evil": lambda: comparison(name=EVIL, classes=("<b>no</b>", EVIL), column=EVIL),
    "zero useful": lambda: comparison(useful=0.0),
    "ordinal": lambda: many("ordinal", 4),
    "regression": values,
    "folds": folds,
    "same folds": lambda: folds(same=True),
    "evil folds": lambda: folds(name=EVIL),
    "tags": tags,
    "few tags": lambda: tags(20),
    "tags in folds": lambda: tags(count=5),
    "evil tags": lambda: tags(labels=(EVIL, "<b>"), name=EVIL),
    "beats": beats,
}


@pytest.fixture(scope="module", params=list(SCENES))
def page(request):
    return render(SCENES[request.param](), about(title=EVIL, question=(EVIL,), notes=(EVIL,)) if request.param == "evil" else about())


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.stack == [], "something is not closed"
    return reader


def test_well_formed_and_self_contained(page):
    reader = read(page)
    assert "script" not in reader.tags and reader.bad == []
    assert all(one.startswith("#") for one in reader.addresses)
    assert "http:" not in page and "https:" not in page and "@import" not in page and not re.search(r"url\((?!#)", page)
    assert len(reader.ids) == len(set(reader.ids))
    referred = re.findall(r'aria-labelledby="([^"]+)"|href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert {one for found in referred for text in found for one in text.split()} <= set(reader.ids)


def test_structure(page):
    reader = read(page)
    assert reader.headings[0] == 1 and reader.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(reader.headings, reader.headings[1:], strict=False))
    assert '<html lang="en">' in page and 'name="viewport"' in page and 'class="skip" href="#verdict"' in page
    assert reader.cells_without_scope == 0 and reader.captions == reader.tags.count("table") > 2
    # Spans have no curves, and without a verdict there is no difference to draw.
    assert reader.tags.count("svg") >= (0 if "exact-span" in page else 2) and page.count(
        'role="img" aria-labelledby='
    ) >= reader.tags.count("figure")
    assert "NaN" not in page and "None" not in reader.text and "nan" not in re.findall(r"\b\w+\b", reader.text)


def test_evil_names_are_text():
    page = render(SCENES["evil"](), about(title=EVIL))
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>no" not in page


def test_first_paragraph_says_what_must_be_known(binary):
    page = render(binary, about())
    first = page[page.index('id="verdict"') : page.index("Which cases")]
    assert binary["primary"]["sentence"].replace("network", "Network", 1) in first and "Better, and useful" in first
    assert "miss their goal" in first and "opened 2 times" in first
    assert read(page).text.count("opened 2 times") >= 2


def test_sections_in_order(binary):
    text = read(render(binary, about())).text
    order = [
        "Better, and useful",
        "Which cases",
        "All models",
        "Curves",
        "Decisions at the stored threshold",
        "Secondary comparisons",
        "physician, a score",
        "Data and parts",
        "How it was made",
        "What this is not",
    ]
    places = [text.rindex(one) if one == "Decisions at the stored threshold" else text.index(one) for one in order[1:]]
    assert places == sorted(places)


def test_numbers_on_the_page_are_those_of_the_comparison(binary):
    text = read(render(binary, about())).text
    for row in binary["models"]:
        assert row["name"] in text
        assert f"{row['numbers']['auroc']['value']:.3f}" in text and f"{row['numbers']['brier']['value']:.3f}" in text
    cells = next(row for row in binary["models"] if row["role"] == "model")["confusion"]
    assert sum(map(sum, cells)) == 300 and all(str(one) in text for line in cells for one in line)
    assert "9f" * 32 in text and "a1b2c3d4e5f60718" in text and "1 exact copy was dropped." in text


def test_books_that_do_not_balance_are_shown(binary):
    assert "not accounted for" not in render(binary, about())
    counts = replace(about().counts, read=1015)
    assert "not handed to the comparison" not in render(binary, about())
    fewer = replace(about().counts, parts={**about().counts.parts, "test": 310}, read=1015)
    assert "not handed to the comparison" in render(binary, about(counts=fewer))
    assert counts.unaccounted == 10 and "not accounted for" in render(binary, about(counts=counts))


def test_a_page_of_folds_says_so_and_shows_both_tables():
    found = folds()
    text = read(render(found, about(opened=0, counts=replace(about().counts, parts={"folds": 200})))).text
    assert text.count("the estimate is of the procedure, the bundle is refitted on all rows") == 2
    assert "flatters it" in text and "No test part was opened" in text and "not picked on the test part" not in text
    assert "quarantined in scoring" not in text and "Nadeau and Bengio" in text and "Not one model" in text
    assert f"{found['folds']['pooled']['models']['network']['auroc']['value']:.3f}" in text
    assert all(f"{one['values']['network']:.3f}" in text for one in found["folds"]["table"])
    assert "the same in every fold" in read(render(folds(same=True), about())).text


def test_a_page_of_values_shows_errors_and_no_curves_of_ranks():
    found = values()
    page = render(found, about())
    assert "fig-observed" in page and "fig-roc" not in page and "AUROC" not in page and "Predicted less observed" in page
    assert f"{found['models'][0]['calibration']['coverage']['value']:.3f}" in page and "R2" in page and "5th to 95th" in page


def test_a_page_of_stages_shows_each_class():
    found = many("ordinal", 4)
    text = read(render(found, about())).text
    assert "Quadratic kappa" in text and "Every class" in text
    cell = found["per_class"][2]["models"]["network"]["f1"]
    assert f"{cell['value']:.3f}" in text and f"{cell['low']:.3f} to {cell['high']:.3f}" in text
    assert "Every class" not in render(comparison(), about())


@pytest.mark.parametrize("count", [0, 5])
def test_a_page_of_spans_has_a_table_of_labels_and_no_curves(count):
    found = tags(count=count)
    page = render(found, about())
    text = read(page).text
    assert "Network exact-span F1 0." in text and "Every label" in text and "Exact-span recall" in text
    assert "a span counts only if both ends and the label agree" in text.lower() and "Not reading" in text
    assert page.count("<figure") == 1 and "fig-difference" in page  # the primary difference alone
    for word in ("AUROC", "ROC", "Calibration", "calibration", "Brier", "Decisions at the stored threshold", "Expected less seen", "ECE"):
        assert word not in text, word
    for one in found["per_class"]:
        assert f"{one['class']}: {one['spans']:,} spans in {one['cases']:,} cases" in text
        for name in ("network", "dictionary"):
            assert all(f"{one['models'][name][metric]['value']:.3f}" in text for metric in ("sensitivity", "ppv", "f1"))


def test_pooled_records_show_each_class_for_every_model_and_why_there_is_no_interval():
    found = beats()
    page = render(found, about(opened=0))
    part = page[page.index('aria-labelledby="each-title"') : page.index('aria-labelledby="folds-title"')]
    for one in found["per_class"]:
        assert f"<strong>{one['class']}</strong>: {one['cases']:,} of {one['of']:,} cases" in part
        for name in ("network", "boosting", "logistic"):
            assert all(f">{one['models'][name][metric]['value']:.3f}<" in part for metric in ("sensitivity", "ppv", "f1"))
    assert part.count('<th scope="row">logistic</th>') == 4 and '<th scope="row">prevalence</th>' not in part
    assert "22 patients: too few for an interval by resampling." in part
    folds_part = read(page).text
    assert "F is left out in 1 of 5 folds" in folds_part and "30 are needed" not in folds_part
    assert "Averages over classes run, in each fold" not in render(folds(), about())


def test_a_legend_names_only_what_is_drawn():
    page = render(values(), about())
    legend = page[page.index('aria-label="Lines of the figures"') :]
    assert legend[: legend.index("</ul>")].count("<li>") == 2  # the figure of values draws two models; prevalence is not among them


def test_few_patients():
    page = render(SCENES["few"](), about())
    assert "No verdict" in page and "too few patients for an interval (25; 30 are needed)" in page and "fig-difference" not in page


def test_writes_both_files(tmp_path, binary):
    path = write_page(binary, about(), StoragePath.of(tmp_path / "run"))
    assert path.name == "report.html" and path.read_text() == render(binary, about())
    data = json.loads((path.parent / "comparison.json").read_text())
    assert data["primary"] == binary["primary"] and data["about"]["opened"] == 2 and data["about"]["counts"]["parts"]["test"] == 300
    assert len(path.read_bytes()) < 400_000


def test_the_same_input_gives_the_same_page(binary):
    assert render(binary, about()) == render(binary, about())


def test_no_warnings_from_drawing(binary):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render(binary, about())


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG 2.2, relative luminance ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast_is_double_a(place):
    css = files("meddx.report").joinpath("page.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[place]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    text = [("ink", one) for one in ("paper", "panel", "mark")] + [("muted", one) for one in ("paper", "panel", "mark")]
    text += [("link", "paper"), ("good-ink", "good"), ("bad-ink", "bad"), ("plain-ink", "plain"), ("warn-ink", "warn")]
    for front, back in text:
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    for front in [f"series-{one}" for one in range(1, 9)] + ["line-strong"]:
        assert contrast(colours[front], colours["paper"]) >= 3, front

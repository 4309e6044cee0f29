"""Predictions and the sealed labels in, a verdict and its page out.  Each call opens the test part and leaves a note of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meddx import record
from meddx.dataset.open import Dataset
from meddx.dataset.split import Split
from meddx.dataset.target import Labels, TargetCoder
from meddx.dataset.testlog import open_test
from meddx.evaluate.compare import compare as compare_models
from meddx.evaluate.folds import FoldScores, compare_folds
from meddx.evaluate.words import sentences
from meddx.recipe import Recipe
from meddx.stages.about import Told, about_folds, about_page
from meddx.stages.console import working
from meddx.stages.finish import Logits
from meddx.stages.finish import scores_of as scores_of_logits
from meddx.stages.folds import OutOfFold, out_of_fold, tuned_from
from meddx.stages.judged import Judged, answer_columns, judge, judge_without, places, prior_scores, same_split, scores_of, truth_of
from meddx.stages.run import Log, Run, read_manifest
from meddx.stages.turns import Said, Turn, turns_of
from meddx.storage import StoragePath


@dataclass(frozen=True)
class Verdict:
    """What compare found: the first sentence, the page, and the whole comparison as JSON values."""

    headline: str
    page: StoragePath
    comparison: dict[str, Any]
    opened: int


def compare_all(recipe: Recipe, paths: Sequence[str] = (), *, log: Log, question: str = "", without: Sequence[str] = ()) -> list[Verdict]:
    """`compare` for each target of the page; the test part is opened once for all of them."""
    found: list[Verdict] = []
    for page in recipe.questions:
        if page.part:
            log(f"\n== {page.part} ==")
        found.append(compare(page, paths, log=log, question=question, without=without, opened=found[0].opened if found else None))
    return found


def compare(
    recipe: Recipe,
    paths: Sequence[str] = (),
    *,
    log: Log,
    question: str = "",
    without: Sequence[str] = (),
    opened: int | None = None,
) -> Verdict:
    """Score what is not scored yet, then compare on the test part; a page with folds compares what its turns said.  One target.

    `paths`: predictions directories or bundles; default: every bundle of the run.  `without`: optional inputs; the network is also
    compared with each of them hidden.  `opened`: how often the test part was opened, where this look is counted already.  Raises
    LeakError for a bundle that learned from another split, DataError where something is missing.
    """
    recorder = record.Recorder("compare", recipe.fingerprint())
    run, dataset = Run(recipe), Dataset.open(Run(recipe).dataset)
    split = Split.load(dataset)
    if split.folds is not None:
        return _compare_folds(recipe, dataset, split, recorder, question, log)
    judged = [judge(recipe, place, log=log) for place in places(run, paths)]
    judged += [judge_without(recipe, name, log=log) for name in without]
    for one in judged:
        same_split(one, dataset, split)
    rows = split.rows("test", labelled=False)
    opened = opened or open_test(dataset, job="compare", why=recipe.name)
    table = dataset.table(answer_columns(recipe)).take(pa.array(rows))
    scores = {one.name: scores_of(one, table.column("case_id"), recipe.comparison.primary.metric) for one in judged}
    scores |= prior_scores(recipe, table)
    rates = judged[0].manifest["about"]["prevalence"]
    with working("comparing"):
        comparison = compare_models(
            scores, truth_of(recipe, table), table.column("patient_id").to_pylist(), recipe.comparison, train_rates=rates
        )
    page = about_page(Told(run, dataset, split, opened, question, recorder), judged, comparison)
    found = _said(comparison, page, opened, log)
    for line in _without_lines(comparison, judged):
        log(line)
    return found


def question(page: Path) -> str:
    """The comment at the head of a recipe: a line of what is asked, a line of what not; what earlier runs reached is no part of it."""
    lines: list[str] = []
    for line in page.read_text().splitlines():
        if not line.startswith("#") or "Reaches:" in line or "meddx " in line:
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(re.split(r"\s+(?=Not:)", " ".join(lines).strip()))


def _without_lines(comparison: Mapping[str, Any], judged: Sequence[Judged]) -> list[str]:
    """One line an input that was hidden: the number, and what hiding it cost."""
    primary, lines = comparison["primary"], []
    for one in (one for one in judged if one.without):
        value = next(model for model in comparison["models"] if model["name"] == one.name)["numbers"][primary["metric"]]["value"]
        named = {"metric": primary["metric"], "model": primary["model"], "against": one.name}
        lost = next((two["difference"] for two in comparison["secondary"] if {key: two[key] for key in named} == named), None)
        cost = f"; with it {lost['value']:+.3f} ({lost['low']:.3f} to {lost['high']:.3f})" if lost and lost["low"] is not None else ""
        lines.append(f"{one.name}: {primary['metric_name']} {value:.3f}{cost}")
    return lines


def _said(comparison: dict[str, Any], page: StoragePath, opened: int, log: Log) -> Verdict:
    folds = comparison.get("folds") is not None
    for line in sentences(comparison, None if folds else opened):
        log(line)
    if folds:
        log(f"The held-out answers were looked at {'once' if opened == 1 else f'{opened:,} times'}.")
    log(f"page: {page}")
    return Verdict(str(comparison["primary"]["sentence"]), page, comparison, opened)


def _compare_folds(recipe: Recipe, dataset: Dataset, split: Split, recorder: record.Recorder, question: str, log: Log) -> Verdict:
    run = Run(recipe)
    manifests = {place.name: read_manifest(place) for place in places(run, ())}
    turns = tuple(turns_of(recipe, dataset, split))
    found = {model: out_of_fold(recipe, model, page["about"]["fingerprint"], turns) for model, (page, _) in manifests.items()}
    opened = open_test(dataset, job="compare", why=recipe.name)
    table = dataset.table(answer_columns(recipe))
    with working("comparing"):
        labels = TargetCoder(recipe.target).encode(table)
        folds = [_fold_scores(recipe, table, labels, found, manifests, number) for number in range(len(turns))]
        comparison = compare_folds(folds, recipe.comparison)
    bundles = {name: digest for name, (_, digest) in manifests.items()}
    page = about_folds(Told(run, dataset, split, opened, question, recorder), bundles, comparison)
    return _said(comparison, page, opened, log)


def _fold_scores(
    recipe: Recipe, table: pa.Table, labels: Labels, found: Mapping[str, OutOfFold], manifests: Mapping[str, Any], number: int
) -> FoldScores:
    """One turn's held-out cases; each model's calibration and threshold come from the other folds of the same repeat."""
    turn = next(iter(found.values())).turns[number]
    chosen = table.take(pa.array(turn.held))
    scores = {}
    for model, one in found.items():
        head = manifests[model][0]["head"]
        others = [place for place, other in enumerate(one.turns) if other.repeat == turn.repeat and other.fold != turn.fold]
        rest = OutOfFold(tuple(one.turns[place] for place in others), tuple(one.said[place] for place in others))
        tuned = tuned_from(recipe, "", head, rest, labels)
        scores[model] = scores_of_logits(
            head,
            tuned,
            Logits(_in_order(turn, one.said[number], head)),
            kind="network" if model == recipe.model.name else "baseline",
            validate_score=one.said[number].facts["validate"].get(recipe.comparison.primary.metric),
        )
    scores |= prior_scores(recipe, chosen)
    n_train = int(next(iter(found.values())).said[number].facts["n_train"])
    return FoldScores(turn.repeat, turn.fold, truth_of(recipe, chosen), chosen.column("patient_id").to_pylist(), scores, n_train)


def _in_order(turn: Turn, said: Said, head: Mapping[str, Any]) -> np.ndarray:
    """The logits of every held-out case, NaN where the case could not be read; a regression's on the head's scale."""
    logits = (said.logits - head["mean"]) / head["std"] if head["kind"] == "regression" else said.logits
    placed = np.full((len(turn.held), *logits.shape[1:]), np.nan)
    placed[np.searchsorted(turn.held, said.rows)] = logits
    return placed

"""A source and the name of its target in, a recipe that runs out: guesses from a sample, open questions as `# ?` comments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meddx import guess, yamlconf
from meddx.dataset.options import PARTS, TargetOptions
from meddx.dataset.screen import REFUSE
from meddx.errors import DataError, RecipeError
from meddx.guess import Column
from meddx.ingest.find import ENDINGS, FOLDER_FORMATS, Found, ending, find
from meddx.ingest.options import SourceOptions
from meddx.ingest.run import Sniffed, sniff
from meddx.recipe import Recipe
from meddx.yamltext import flow, names, quoted, scalar

ROWS, PICTURES = 5000, 20
MOST_CLASSES = 20
SMALL = 500
MOST_NOTES = 5


@dataclass
class Page:
    """What is known so far; `lines` is the page as it grows."""

    source: dict[str, Any]
    columns: dict[str, Column]
    notes: list[str]
    format: str
    answers: Counter[str]
    size: int = 0
    lines: list[str] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.lines.append(f"# ? {' '.join(question.split())}")


def draft(
    path: str,
    *,
    target: str,
    patient: str | None = None,
    id: str | None = None,
    positive: str | None = None,
    name: str | None = None,
    sniffed: Sniffed | None = None,
) -> str:
    """The page as text.  It loads as it stands; what a person must decide stands in it as `# ?`.

    `patient` and `id` may be `@case` and `@row`.  A file without header has columns column_1, column_2, ...
    Raises RecipeError for a name that is not there and for a target that is no answer, DataError for a source that cannot be read.
    """
    page = _look(path, target, sniffed)
    for given in (None if patient == "@case" else patient, None if id == "@row" else id):
        if given is not None and given not in page.columns:
            raise _no_such(given, page, path)
    answer = _target(page, target, positive)
    who = patient or guess.patient_column(one for one in page.columns.values() if one.name != target)
    which = id or _id(page, target, who)
    lines = page.lines
    lines += ["# ? What is asked, of whom, and at what moment is it decided?", "# ? Not: what must it not be used for?"]
    lines.append("#   meddx check THIS_PAGE")
    lines.append(f"name: {_slug(name or _stem(path) + '-' + target)}")
    lines.append(f"data: {flow(page.source)}")
    _notes(page)
    _case(page, which, who, patient is None)
    _target_lines(page, answer, told=positive is not None)
    _inputs(page, target, answer, which, who)
    _rest(page)
    text = "\n".join(lines) + "\n"
    yamlconf.build(Recipe, yamlconf.parse(text, "the draft"), "the draft")
    return text


def _look(path: str, target: str, sniffed: Sniffed | None) -> Page:
    source: dict[str, Any] = {"path": path}
    found = find(SourceOptions(path=path)) if sniffed is None else None
    if found and found.format in ("csv", "tsv") and (width := _width_without_header(found)):
        source |= {"header": False, "columns": [f"column_{i}" for i in range(1, width + 1)]}
    pictures = found is not None and found.format in FOLDER_FORMATS
    if pictures:
        source["label_from_folder"] = target
    seen = sniffed or sniff(SourceOptions.model_validate(source), PICTURES if pictures else ROWS, text=[target])
    everywhere, only = guess.missing_codes(seen.table)
    if everywhere:
        source["missing"] = ["", *everywhere]
    if only:
        source["missing_in"] = only
    if (everywhere or only) and sniffed is None:
        seen = sniff(SourceOptions.model_validate(source), PICTURES if pictures else ROWS, text=[target])
    columns = guess.read_columns(seen.table, everywhere, only)
    if open_dates := [one.name for one in columns.values() if one.is_open_date and one.name != target]:
        source["text"] = open_dates  # until the page says whether day or month comes first
    if target not in columns:
        raise _no_such(target, Page(source, columns, [], seen.format, Counter()), path)
    answers = _folder_answers(found) if found and pictures else Counter(columns[target].values)
    return Page(source, columns, seen.notes, seen.format, answers, _picture_side(seen))


def _width_without_header(found: Found) -> int:
    """The number of columns of a text file whose first line holds numbers only; 0 for one with a header."""
    from meddx.ingest.text import read_head

    lines = read_head(found.files[0])[:65536].decode("latin-1").lstrip("\ufeff\xef\xbb\xbf").splitlines()
    for mark in (";", "\t", "|", ","):
        cells = [cell.strip().strip('"') for cell in lines[0].split(mark)] if lines else []
        values = [cell for cell in cells if cell not in ("", *guess.SURELY_MISSING)]
        if len(cells) > 1 and values and all(guess.NUMBER.fullmatch(cell) for cell in values):
            return len(cells)
    return 0


def _folder_answers(found: Found) -> Counter[str]:
    named = [one for one in found.files if ENDINGS.get(ending(one.path.name)) in FOLDER_FORMATS] or list(found.files)
    return Counter(one.path.parent.name for one in named)


def _picture_side(seen: Sniffed) -> int:
    """A size for the model: the longer side of the first picture, from 28 to 224; 0 where there is no picture."""
    from meddx.ingest.headers import picture_size

    if "image" not in seen.table.column_names:
        return 0
    first = next((one for one in seen.table.column("image").to_pylist() if one), None)
    if first is None:
        raise DataError("none of the first pictures can be read", "", "look at the files")
    size = picture_size(first)
    return int(np.clip(max(size.width, size.height), 28, 224))


def _no_such(name: str, page: Page, path: str) -> RecipeError:
    near = yamlconf.nearest(name, page.columns)
    if page.source.get("header") is False:
        step = f"name columns by their place: column_1 to column_{len(page.columns)}"
        return RecipeError(f"there is no column {name!r}: the file has no header", path, step)
    step = f"did you mean {near!r}?" if near else f"columns: {', '.join(list(page.columns)[:30])}"
    return RecipeError(f"there is no column {name!r}", path, step)


def _target(page: Page, target: str, positive: str | None) -> TargetOptions:
    counts = page.answers
    shown = ", ".join(repr(value) for value, _ in counts.most_common(10))
    if positive is not None and positive not in counts:
        raise RecipeError(f"the sample holds no {positive!r} in {target!r}", "--positive", f"its values: {shown}")
    if len(counts) < 2:
        what = f"one value only: {shown}" if counts else "no value"
        raise RecipeError(f"the sample of {target!r} holds {what}", "--target", "name another column")
    if positive is not None or len(counts) == 2:
        yes = positive if positive is not None else min(counts, key=lambda value: (counts[value], value))
        rest = tuple(value for value in _sorted(counts) if value != yes)
        if len(rest) <= MOST_CLASSES:
            return TargetOptions(kind="binary", column=target, positive=(yes,), negative=rest)
    column = page.columns[target]
    if len(counts) <= MOST_CLASSES:
        return TargetOptions(kind="multiclass", column=target, classes=tuple(_sorted(counts)))
    if not column.is_number:
        what = f"{target!r} holds {len(counts)} different texts in the sample: that is no answer"
        raise RecipeError(what, "--target", "name another column, or the value that means yes")
    middle = float(np.median([guess.number(value) for value in column.values]))
    return TargetOptions(kind="binary", column=target, positive_above=middle)


def _sorted(values: Iterable[str]) -> list[str]:
    listed = list(values)
    if all(guess.NUMBER.fullmatch(value) for value in listed):
        return sorted(listed, key=lambda value: (guess.number(value), value))
    return sorted(listed)


def _id(page: Page, target: str, patient: str | None) -> str:
    if page.format in FOLDER_FORMATS:
        return "file_path"
    if "case_id" in page.columns:
        return "case_id"
    return guess.id_column([one for one in page.columns.values() if one.name != target], patient) or "@row"


def _notes(page: Page) -> None:
    """What the reader of the source noted; doubts about missing codes and dates are questions."""
    doubts = [note for note in page.notes if "may mean missing" in note]
    for note in (one for one in page.notes if one not in doubts):
        if "dates such as" in note:
            page.ask(note)
        else:
            page.lines.append(f"#   {' '.join(note.split())}")
    for note in doubts[:MOST_NOTES]:
        page.ask(f"{note}: then add it to `missing`, or for this column alone to `missing_in`")
    if len(doubts) > MOST_NOTES:
        page.ask(f"and {len(doubts) - MOST_NOTES} more columns with such a value")


def _case(page: Page, which: str, who: str | None, guessed: bool) -> None:
    page.lines.append(f"id: {scalar(which)}")
    if which == "@row":
        page.lines[-1] += "   # no column has a value of its own in every row"
    if who is None:
        page.ask('which column says who the patient is? (`patient: "@case"`: each row is a patient of its own)')
        page.lines.append('patient: {unknown: "the draft found no column that names the patient"}')
    else:
        page.lines.append(f"patient: {scalar(who)}")
        if guessed:
            page.ask(f"is {quoted(who)} the patient? a guess by its name")
    if "predict_at" in page.columns:
        page.ask("in which time zone are the stamps of predict_at?")
        page.lines += ["predict_at: predict_at", "zone: UTC"]


def _target_lines(page: Page, answer: TargetOptions, told: bool) -> None:
    said = {key: value for key, value in answer.model_dump().items() if value not in (None, (), "")}
    counts = ", ".join(f"{scalar(value)} {count:,}" for value, count in page.answers.most_common(MOST_CLASSES))
    few = "" if answer.positive_above is not None else f"   in the sample: {counts}"
    page.lines.append(f"target: {flow(said)}")
    page.lines.append(f"#   a value that is not listed is refused.{few}")
    if answer.kind == "binary" and answer.positive and not told:
        page.ask(f"is {scalar(answer.positive[0])} what is looked for (positive)? the draft takes the rarer value")
    if answer.positive_above is not None:
        page.ask("where does yes begin? the draft takes the median of the sample")
    if answer.kind == "multiclass" and all(guess.NUMBER.fullmatch(value) for value in answer.classes):
        page.ask("one question only? then {kind: binary, column: ..., positive_above: 0} instead of classes")


def _inputs(page: Page, target: str, answer: TargetOptions, which: str, who: str | None) -> None:
    if page.size:
        page.lines.append(f"inputs: {{picture: {{kind: image, size: {page.size}}}}}")
        page.ask("grey or colour? channels: 3 for colour; a larger size sees finer signs and costs time")
        return
    left = [one for one in page.columns.values() if one.name not in (target, which, who, "case_id", "patient_id", "predict_at")]
    reasons = {one.name: why for one in left if (why := guess.useless(one))}
    left = [one for one in left if one.name not in reasons]
    if not left:
        raise RecipeError("no column is left as an input", target, "a model needs at least one column beside id, patient and target")
    wide = guess.wide_prefixes(one.name for one in left)
    refused = _suspects(page, [one for one in left if not guess.is_wide(one.name, wide)], answer, who)
    table: dict[str, Any] = {"columns": [*wide, "*"]}
    for name, why in reasons.items():
        page.lines.append(f"#   {quoted(name)} is dropped: {why}")
    if reasons:
        table["drop"] = list(reasons)
    patterns, maybe = guess.coded(one for one in left if one.name not in refused and not guess.is_wide(one.name, wide))
    if patterns:
        table["category"] = patterns
    page.lines.append(f"inputs: {{table: {flow(table, indent=10)}}}")
    if maybe:
        page.ask(f"few whole numbers: {names(maybe)}; codes without an order? then add them to `category`")


def _suspects(page: Page, columns: Sequence[Column], answer: TargetOptions, who: str | None) -> set[str]:
    """Write the timing block: what alone knows the answer is declared, what is doubtful is asked."""
    found = guess.suspects(columns, answer, [page.columns[name] for name in answer.all_columns], page.columns.get(who or ""))
    high = {one.column: max(one.auroc, one.missing_auroc) for one in found}
    refused = [name for name, value in high.items() if value > REFUSE]
    if refused:
        page.lines.append("#   these alone reach an AUROC above 0.98 in the sample: taken as written after the outcome")
        page.ask("known in time after all? then move them to known_at and say when, in words")
        page.lines.append(f"timing: {{after_outcome: {flow(refused, indent=10)}}}")
    if doubtful := [name for name in high if name not in refused]:
        listed = ", ".join(f"{quoted(name)} {high[name]:.2f}" for name in doubtful[:10])
        page.ask(f"known when the case is decided? alone they reach an AUROC of: {listed}")
    if named := [one.name for one in columns if guess.LATE.search(one.name) and one.name not in refused]:
        page.ask(f"written after the outcome, by their names? {names(named)}")
    if doubtful or named:
        page.lines.append("#   then declare them: timing: {after_outcome: [...]}; a screen does not find them all")
    return set(refused)


def _rest(page: Page) -> None:
    n = len(next(iter(page.columns.values())).cells)
    if page.format == "medmnist":
        page.lines.append("split: {by: column, column: official_part, parts: {train: [train], validate: [val], test: [test]},")
        page.lines.append("        carve: {calibrate: {from: validate, share: 0.5}}}")
    else:
        few = not page.size and n < SMALL
        shares = (0.5, 0.1, 0.15, 0.25) if few else (0.6, 0.1, 0.1, 0.2)
        page.lines.append(f"split: {{by: patient, parts: {flow(dict(zip(PARTS, shares, strict=True)))}, seed: 0}}")
    page.lines.append("baselines: [prevalence, logistic]" if page.size else "baselines: [prevalence, logistic, boosting]")
    page.ask("which difference in AUROC would be worth having? said before looking")
    page.lines.append("comparison: {primary: {metric: auroc, against: best, smallest_useful: 0.01}}")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "draft"


def _stem(path: str) -> str:
    return re.sub(r"(\.[A-Za-z0-9]{1,7}){1,2}$", "", path.rstrip("/").rsplit("/", 1)[-1]).strip("*")

"""The dictionary finds what a naive search of word tuples finds, and names of real abstracts again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dictionary_helper import Entity, head_of, labels, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from meddx.models.dictionary import dictionary_logits, fit_dictionary
from meddx.models.heads import make_head

WORDS = st.sampled_from(["a", "b", "c"])


@st.composite
def corpora(draw: Any) -> tuple[list[list[str]], list[list[Entity]]]:
    texts = draw(st.lists(st.lists(WORDS, min_size=0, max_size=8), min_size=1, max_size=6))
    entities = []
    for words in texts:
        found, at = [], 0
        while at < len(words):
            size = draw(st.integers(0, min(3, len(words) - at)))
            if size:
                found.append((at, size, draw(st.integers(0, 1))))
            at += max(size, 1)
        entities.append(found)
    return texts, entities


def naive(texts: list[list[str]], entities: list[list[Entity]]) -> dict[tuple[str, ...], int]:
    """The same dictionary by tuples of words."""
    meant: dict[tuple[str, ...], list[int]] = {}
    for words, found in zip(texts, entities, strict=True):
        for first, size, label in found:
            meant.setdefault(tuple(words[first : first + size]), [0, 0])[label] += 1
    seen = dict.fromkeys(meant, 0)
    for words, found in zip(texts, entities, strict=True):
        for first in range(len(words)):
            for last in range(first + 1, len(words) + 1):
                name = tuple(words[first:last])
                inside = any(at <= first and last <= at + size and size > last - first for at, size, _ in found)
                if name in seen and not inside:
                    seen[name] += 1
    return {name: int(np.argmax(many)) for name, many in meant.items() if max(many) >= 0.5 * seen[name]}


def search(names: dict[tuple[str, ...], int], words: list[str]) -> list[Entity]:
    found, at = [], 0
    while at < len(words):
        size = next((size for size in range(len(words) - at, 0, -1) if tuple(words[at : at + size]) in names), 0)
        if size:
            found.append((at, size, names[tuple(words[at : at + size])]))
        at += max(size, 1)
    return found


@settings(deadline=None, max_examples=150)
@given(corpora(), st.lists(WORDS, max_size=8))
def test_it_finds_what_a_naive_search_finds(corpus: tuple[list[list[str]], list[list[Entity]]], words: list[str]) -> None:
    texts, entities = corpus
    known = labels(texts, entities)
    if not known.known.any():
        return
    model = fit_dictionary(prepared(texts), known, 2, seed=0, groups=np.zeros(len(texts)))
    everything = [*texts, words]
    logits = dictionary_logits(model, head_of(), prepared(everything))
    found = make_head(head_of()).spans(logits)  # type: ignore[attr-defined]
    expected = [search(naive(texts, entities), one) for one in everything]
    assert [[(first, last - first + 1, label) for first, last, label, _ in one] for one in found] == expected
    assert np.array_equal(dictionary_logits(model, head_of(), prepared([words])), logits[-1:])  # by itself, as among others


def sentences(path: Path) -> tuple[list[list[str]], list[list[Entity]]]:
    texts: list[list[str]] = [[]]
    entities: list[list[Entity]] = [[]]
    with path.open(encoding="utf-8") as lines:
        for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if not row:
                texts.append([])
                entities.append([])
                continue
            if row[-1][0] == "B":
                entities[-1].append((len(texts[-1]), 1, 0))
            elif row[-1][0] == "I":
                first, size, label = entities[-1][-1]
                entities[-1][-1] = (first, size + 1, label)
            texts[-1].append(row[0])
    return texts, entities


@pytest.mark.parametrize(("name", "least"), [("NCBI-disease-IOB", 0.67), ("BC5CDR-disease-IOB", 0.69), ("BC5CDR-chem-IOB", 0.74)])
def test_real_names_are_found_again(name: str, least: float, shared_data: Path) -> None:
    """By lower-cased words as the files cut them; the input's own words, without a plural's s, do better."""
    train, devel = (sentences(shared_data / "ner" / name / f"{part}.tsv") for part in ("train", "devel"))
    tokens = max(len(one) for one in (*train[0], *devel[0]))
    head = {"kind": "tags", "classes": ["name"], "tokens": tokens}
    model = fit_dictionary(prepared(train[0], tokens), labels(*train, tokens), 1, seed=0)
    spans = make_head(head).spans(dictionary_logits(model, head, prepared(devel[0], tokens)))  # type: ignore[attr-defined]
    found = [{(first, last - first + 1) for first, last, _, _ in one} for one in spans]
    truth = [{one[:2] for one in each} for each in devel[1]]
    hits = sum(len(one & other) for one, other in zip(found, truth, strict=True))
    assert 2 * hits / (sum(map(len, found)) + sum(map(len, truth))) > least

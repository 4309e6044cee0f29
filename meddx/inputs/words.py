"""A text in; its words, each with its place in the text as it was given, out.

Words are runs of letters and digits with the accents that belong to them; an apostrophe between letters and a point or comma between digits
stay inside (`don't`, `3.5mg`, `1,000`).  A CJK ideograph is a word of its own, for Chinese has no spaces.  The marks that mean something in
a note (`? + % < > = / ~` and the signs of degree, plus-minus, at most, at least) are words too; all others only separate.

Before that the text is cleaned: control and zero-width characters are removed, then NFKC (Unicode annex 15), lower case.
"""

from __future__ import annotations

import re
import unicodedata

MARKS = "?+%<>=/~\u00b0\u00b1\u2264\u2265"
_APOSTROPHES = "'\u2019"
# Variation selectors, joiners and fillers that Unicode counts as marks or letters, though nothing of them is seen.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_IDEOGRAPHS = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_WORD = re.compile(r"C M* | [LD][LDM]* (?: A [LD][LDM]* | (?<=D) P (?=D) [LD][LDM]* )* | S", re.VERBOSE)


class _Classes(dict[int, str]):
    """Code point to one letter: C ideograph, L letter, M accent, D digit, A apostrophe, P point, S kept mark, X removed, else space."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _class(chr(code))
        return found


def _class(sign: str) -> str:
    category = unicodedata.category(sign)
    if _UNSEEN.match(sign) or (category[0] == "C" and not sign.isspace()):
        return "X"
    if _IDEOGRAPHS.match(sign):
        return "C"
    if sign in MARKS:
        return "S"
    if sign in _APOSTROPHES:
        return "A"
    if sign in ".,":
        return "P"
    return {"L": "L", "M": "M", "N": "D"}.get(category[0], " ")


class _Joins(dict[str, bool]):
    """Character to whether it may melt with the one before it: an accent, or the vowel or end of a Hangul syllable."""

    def __missing__(self, sign: str) -> bool:
        first = unicodedata.normalize("NFKD", sign)[0]
        found = unicodedata.category(sign)[0] == "M" or unicodedata.combining(first) != 0 or "\u1160" <= first <= "\u11ff"
        self[sign] = found
        return found


_CLASSES, _JOINS = _Classes(), _Joins()


def tokens_of(text: str) -> list[tuple[str, int, int]]:
    """(word, start, end) in order, `text[start:end]` being what the word was made of.

    Starts and ends never decrease; two words share their place only where one character stands for both, as a half does for 1 and 2.
    """
    clean, places = _clean(text)
    found = []
    for match in _WORD.finditer(clean.translate(_CLASSES)):
        start, end = match.span()
        word = clean[start:end].replace("\u2019", "'")
        found.append((word, start, end) if places is None else (word, places[start][0], places[end - 1][1]))
    return found


def words_of(text: str) -> list[str]:
    """The words alone."""
    return [word for word, _, _ in tokens_of(text)]


def _clean(text: str) -> tuple[str, list[tuple[int, int]] | None]:
    """(the cleaned text, the place in `text` of each of its characters, None where they are the same)."""
    lowered = text.lower()
    if (
        len(lowered) == len(text)
        and unicodedata.is_normalized("NFKC", text)
        and unicodedata.is_normalized("NFKC", lowered)
        and "\u03a3" not in text  # lower() writes a sigma otherwise at the end of a word
        and "X" not in text.translate(_CLASSES)
    ):
        return lowered, None
    signs: list[str] = []
    places: list[tuple[int, int]] = []
    for start, end in _clusters(text):
        kept = "".join(sign for sign in text[start:end] if _CLASSES[ord(sign)] != "X")
        folded = "".join(sign.lower() for sign in unicodedata.normalize("NFKC", kept))
        made = unicodedata.normalize("NFKC", folded)
        signs.append(made)
        places += [(start, end)] * len(made)
    return "".join(signs), places


def _clusters(text: str) -> list[tuple[int, int]]:
    """The spans of a character with all that may melt with it (accents, the rest of a Hangul syllable), across removed characters.

    Removed characters between two clusters belong to neither.
    """
    found: list[tuple[int, int]] = []
    for place, sign in enumerate(text):
        if _CLASSES[ord(sign)] == "X":
            continue
        if found and _JOINS[sign]:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found

"""A text in; the places of its words, their plain forms and their shapes out: what a model tags one by one.

Here no character is lost, unlike in `words`: an entity begins and ends at a character, so every character that is no space belongs to
exactly one piece.  Pure functions without state.
"""

from __future__ import annotations

import re
import unicodedata

PAD, LOWER, CAPITALISED, UPPER, MIXED, DIGITS, OTHER = range(7)
SHAPES = 7

# Ideographs and kana: scripts without spaces, in which an entity may begin at any sign.
_ALONE = re.compile("[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af]")
# Accents and unseen signs (joiners, soft hyphens) stay with what they stand behind, so that composed and decomposed texts are cut alike.
_PIECE = re.compile("L[LE]*|D[DE]*|[CS]E*|E+")


class _Classes(dict[int, str]):
    """Code point to one letter: space, C ideograph or kana, L letter, D digit, E accent or unseen, S any other sign."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _class(chr(code))
        return found


def _class(sign: str) -> str:
    category = unicodedata.category(sign)
    if sign.isspace():
        return " "
    if category[0] == "M" or category == "Cf":
        return "E"
    if _ALONE.match(sign):
        return "C"
    return "D" if category == "Nd" else "L" if category[0] == "L" else "S"


_CLASSES = _Classes()


def pieces(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word, end exclusive, in code points of `text` as it is given; rising, never empty.

    Words are runs of letters, runs of digits, and every other sign that is no space alone, an ideograph too.
    """
    return [match.span() for match in _PIECE.finditer(text.translate(_CLASSES))]


def plain(piece: str) -> str:
    """The piece as it is looked up, in its own case: composed (NFC), without unseen signs."""
    if piece.isascii():
        return piece
    return unicodedata.normalize("NFC", "".join(sign for sign in piece if unicodedata.category(sign) != "Cf"))


def lowered(word: str) -> str:
    """A plain word in lower case, composed again: lower case may take a sign apart."""
    return word.lower() if word.isascii() else unicodedata.normalize("NFC", word.lower())


def shape(word: str) -> int:
    """The shape of a plain word: LOWER, CAPITALISED, UPPER (one capital alone too), MIXED, DIGITS, or OTHER where there is no case."""
    if word.isdecimal():
        return DIGITS
    if word.islower():
        return LOWER
    if word.isupper():
        return UPPER
    if not any(sign.isupper() or sign.islower() for sign in word):
        return OTHER
    return CAPITALISED if word[0].isupper() and word[1:].islower() else MIXED

"""The text of a cohort filter in, a tree of plain conditions out: a small whitelist grammar, never `eval`.

filter     := and_part ("or" and_part)*
and_part   := factor ("and" factor)*
factor     := "not" factor | "(" filter ")" | condition
condition  := name op literal | name ["not"] "in" "[" literal ("," literal)* "]" | name "is" ["not"] "missing"
op         := ">=" | ">" | "<=" | "<" | "==" | "=" | "!="
name, literal := a bare word (letters, digits, _ . - + : / %) or a text in single or double quotes
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from meddx.errors import RecipeError

MAX_LENGTH = 2000
MAX_DEPTH = 32
KEYWORDS = ("and", "or", "not", "in", "is", "missing")
ORDERINGS = (">=", ">", "<=", "<")
TOKEN = re.compile(r"\s*(?:(?P<quoted>'[^']*'|\"[^\"]*\")|(?P<op>>=|<=|==|!=|[><=])|(?P<mark>[()\[\],])|(?P<word>[\w.+\-:/%]+))")
EXAMPLE = "for example: age >= 18 and sex in [F, M] and not (ward is missing)"


@dataclass(frozen=True)
class Compare:
    """One of >= > <= < with one literal, or == with several (any of them)."""

    column: str
    op: str
    literals: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    column: str


@dataclass(frozen=True)
class Not:
    inner: Node


@dataclass(frozen=True)
class Both:
    """`and` (every=True) or `or` of the parts."""

    parts: tuple[Node, ...]
    every: bool


Node = Compare | Missing | Not | Both


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str, where: str) -> Node:
    """The tree of a filter.  RecipeError says what was expected, and the position counted from 1."""
    if len(text) > MAX_LENGTH:
        raise RecipeError(f"a filter is longer than {MAX_LENGTH:,} characters", where, "split it into several named filters")
    return _Parser(text, where).whole()


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.tokens = self._tokens()
        self.next = 0
        self.depth = 0

    def _tokens(self) -> list[_Token]:
        found, at, end = [], 0, len(self.text.rstrip())
        while at < end:
            hit = TOKEN.match(self.text, at)
            if hit is None or hit.lastgroup is None:
                start = at + len(self.text[at:]) - len(self.text[at:].lstrip())
                sign = self.text[start]
                what = "a quote is not closed" if sign in "'\"" else f"the sign {sign!r} is not known here; put quotes around texts"
                raise self._error(what, start)
            word = hit.group(hit.lastgroup)
            found.append(_Token(hit.lastgroup, word[1:-1] if hit.lastgroup == "quoted" else word, hit.start(hit.lastgroup)))
            at = hit.end()
        return found

    def _error(self, what: str, at: int) -> RecipeError:
        return RecipeError(f"the filter {self.text[:200]!r} is not readable: {what} (position {at + 1})", self.where, EXAMPLE)

    @property
    def here(self) -> int:
        return self.tokens[self.next].at if self.next < len(self.tokens) else len(self.text)

    def _is(self, kind: str, *texts: str) -> bool:
        """Whether the next token is one of these; if so, step over it."""
        if self.next < len(self.tokens):
            token = self.tokens[self.next]
            if token.kind == kind and token.text in texts:
                self.next += 1
                return True
        return False

    def _need(self, kind: str, text: str) -> None:
        if not self._is(kind, text):
            raise self._error(f"{text!r} expected", self.here)

    def whole(self) -> Node:
        node = self.any_of()
        if self.next < len(self.tokens):
            extra = self.tokens[self.next].text
            raise self._error(f"{extra!r} is not expected; join conditions with `and` or `or` (lower case)", self.here)
        return node

    def any_of(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", self.here)
        parts = [self.every_of()]
        while self._is("word", "or"):
            parts.append(self.every_of())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Both(tuple(parts), every=False)

    def every_of(self) -> Node:
        parts = [self.factor()]
        while self._is("word", "and"):
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else Both(tuple(parts), every=True)

    def factor(self) -> Node:
        if self._is("word", "not"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self._error(f"nested deeper than {MAX_DEPTH} levels", self.here)
            inner = self.factor()
            self.depth -= 1
            return Not(inner)
        if self._is("mark", "("):
            node = self.any_of()
            self._need("mark", ")")
            return node
        return self.condition()

    def condition(self) -> Node:
        if self.next < len(self.tokens) and self.tokens[self.next].kind == "word" and self.tokens[self.next].text in KEYWORDS:
            raise self._error(f"a column's name expected, not the word {self.tokens[self.next].text!r}", self.here)
        column = self._value("a column's name")
        if self._is("word", "is"):
            turned = self._is("word", "not")
            self._need("word", "missing")
            return Not(Missing(column)) if turned else Missing(column)
        if self._is("word", "not"):
            self._need("word", "in")
            return Not(Compare(column, "==", self._list()))
        if self._is("word", "in"):
            return Compare(column, "==", self._list())
        if self.next < len(self.tokens) and self.tokens[self.next].kind == "op":
            op = self.tokens[self.next].text
            self.next += 1
            literal = (self._value("a number or text"),)
            if op in ORDERINGS:
                return Compare(column, op, literal)
            equal = Compare(column, "==", literal)
            return Not(equal) if op == "!=" else equal
        raise self._error("a comparison, `in [...]` or `is missing` expected", self.here)

    def _value(self, expected: str) -> str:
        if self.next < len(self.tokens) and self.tokens[self.next].kind in ("word", "quoted"):
            self.next += 1
            return self.tokens[self.next - 1].text
        raise self._error(f"{expected} expected", self.here)

    def _list(self) -> tuple[str, ...]:
        self._need("mark", "[")
        found = [self._value("a number or text")]
        while self._is("mark", ","):
            found.append(self._value("a number or text"))
        self._need("mark", "]")
        return tuple(found)
